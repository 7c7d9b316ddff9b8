"""Pipeline: the run config, the one DAG, its launcher and scheduler, the report and the command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import RunConfig
    from .runs import RunResult, run

__all__ = ["RunConfig", "RunResult", "run"]

# No module of this folder may have one of these names: importing it would set the name to the module.
_HOMES = {"RunConfig": "config", "RunResult": "runs", "run": "runs"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: `headrace --help` must not wait for pydantic."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
