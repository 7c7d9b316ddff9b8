"""What the commands print: progress of a simulation, and how it ended."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from headrace.data.errors import ConfigError, error_for_code
from headrace.pipeline.outcome import print_outcome, shown_path

from .rehearsal import Rehearsal
from .simulate import SKIPPED, SUCCEEDED, StepRun, Watcher

__all__ = ["TerminalWatcher", "parsed_secrets", "print_end"]

_LAST_LINES = 3


class TerminalWatcher(Watcher):
    """One line a step on stderr."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}

    def started(self, name: str, number: int, pid: int) -> None:
        """Note when a step began, and tell of further tries."""
        self._begun.setdefault(name, time.monotonic())
        if number > 1:
            click.echo(f"  … {name:<14} try {number}", err=True)

    def ended(self, step: StepRun) -> None:
        """Tell how a step ended."""
        if step.state == SKIPPED:
            click.echo(f"  - {step.name:<14} skipped", err=True)
            return
        seconds = time.monotonic() - self._begun.get(step.name, time.monotonic())
        mark = "✓" if step.state == SUCCEEDED else "✗"
        text = _last_line(step) if step.state == SUCCEEDED else _failure(step)
        click.echo(f"  {mark} {step.name:<14} {seconds:>6.1f} s  {text}", err=True)
        if step.state != SUCCEEDED and step.log is not None:
            click.echo(f"    its log: {shown_path(step.log)}", err=True)


def _failure(step: StepRun) -> str:
    return step.reason if step.tries == 1 else f"{step.reason} after {step.tries} tries"


def _last_line(step: StepRun) -> str:
    if step.log is None:
        return ""
    lines = step.log.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line for line in lines if line.startswith((step.name.replace("-", "_"), "verdict "))]
    return found[-1].split(": ", 1)[-1] if found else ""


def parsed_secrets(texts: Sequence[str]) -> dict[str, str]:
    """Return the content of files given as "SECRET/KEY=FILE"; values never stand on a command line.

    Raises:
        ConfigError: If one is malformed or its file cannot be read.
    """
    found = {}
    for text in texts:
        place, equals, file = text.partition("=")
        if not equals or "/" not in place:
            raise ConfigError("`--secret` must be of the form SECRET/KEY=FILE. Received: something else")
        try:
            found[place] = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"`--secret` must name a readable file. Received: {file} ({error.strerror})"
            ) from error
    return found


@dataclass(frozen=True)
class _Ended:
    summary: dict[str, Any]
    summary_path: str
    report_path: str


def print_end(done: Rehearsal, as_json: bool) -> int:
    """Print the end of a simulated run as `headrace run` does, and return the exit code."""
    if done.simulation.note:
        click.echo(f"note: steps ran as this user: {done.simulation.note}", err=True)
    if not done.summary_path.exists():
        click.echo("the report step wrote no summary; its log says why", err=True)
        return 1
    summary = json.loads(done.summary_path.read_text(encoding="utf-8"))
    ended = _Ended(summary, shown_path(done.summary_path), shown_path(done.report_path))
    if as_json:
        found = {
            "run_id": summary["run_id"],
            "verdict": summary["verdict"],
            "summary_path": ended.summary_path,
            "report_path": ended.report_path,
        }
        click.echo(json.dumps(found))
    error = summary["error"]
    if error:
        told = error_for_code(error["exit_code"], error["message"], error["hint"])
        click.echo(click.style("error: ", fg="red", bold=True) + told.message, err=True)
        if told.hint:
            click.echo(click.style("hint:  ", fg="cyan") + told.hint, err=True)
    if not as_json:
        print_outcome(ended)
    return int(error["exit_code"]) if error else 0
