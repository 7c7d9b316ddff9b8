"""Which run is meant where none is named: the latest one that came to its end."""

import json
from dataclasses import dataclass
from pathlib import Path

from headrace.data.errors import ConfigError

from .verdicts import VERDICTS

__all__ = ["Latest", "latest_run"]

_INTERRUPTED = 130


@dataclass(frozen=True)
class Latest:
    """A run, and what else was found.

    Attributes:
        run_id: Id of the run.
        note: What a user should know of newer runs; empty where there is none.
    """

    run_id: str
    note: str


def latest_run(runs: str) -> Latest:
    """Return the latest run that ended; one that was interrupted did not.

    Raises:
        ConfigError: If there is none.
    """
    known = sorted((path.parent for path in Path(runs).glob("*/request.json")), reverse=True)
    if not known:
        raise ConfigError(f"`--runs` must be a folder with runs. Received: {runs}")
    ended = next((folder for folder in known if not _unfinished(folder)), None)
    newest = known[0]
    if ended is None:
        raise ConfigError(
            f"a run must have ended. Received: {newest.name}, which {_unfinished(newest)}",
            f"headrace resume {newest.name}",
        )
    if ended == newest:
        return Latest(newest.name, "")
    return Latest(
        ended.name,
        f"the latest run that ended is {ended.name}; {newest.name} {_unfinished(newest)}: "
        f"headrace resume {newest.name}",
    )


def _unfinished(folder: Path) -> str:
    """Say why a run has not ended; nothing where it has."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return "has not ended"
    verdict = VERDICTS.get(summary["verdict"])
    # headrace 0.1 called such a run failed.
    was = (summary.get("error") or {}).get("exit_code") == _INTERRUPTED
    return "was interrupted" if was or (verdict is not None and not verdict.ended) else ""
