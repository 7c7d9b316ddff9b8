"""What all Kubernetes objects share."""

from typing import Any

from .plan import Plan

__all__ = ["Object", "metadata"]

Object = dict[str, Any]
"""A Kubernetes object, or a part of one."""


def metadata(plan: Plan, name: str, **more: Any) -> Object:
    """Return an object's metadata."""
    found: Object = {"name": name}
    if plan.config.namespace:
        found["namespace"] = plan.config.namespace
    return {**found, "labels": dict(plan.labels), **more}
