"""Pipeline: the run config, the one DAG, its launcher and scheduler, the report and the command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import RunConfig
    from .run import RunResult, run

__all__ = ["RunConfig", "RunResult", "run"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `headrace --help` must not wait for pydantic.
    if name == "RunConfig":
        from .config import RunConfig

        return RunConfig
    if name in ("RunResult", "run"):
        import importlib

        return getattr(importlib.import_module("headrace.pipeline.run"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
