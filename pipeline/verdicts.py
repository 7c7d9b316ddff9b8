"""What may become of a run, in one table: for the summary, the terminal and the report."""

from dataclasses import dataclass

__all__ = ["VERDICTS", "Verdict", "verdict_of"]


@dataclass(frozen=True)
class Verdict:
    """How a run may end.

    Attributes:
        word: For people.
        sign: In front of it.
        style: On a terminal.
        exit_code: What the command line exits with; None for `failed`, which has several.
        ended: Whether the run came to its end, so that it may stand as the latest one.
    """

    word: str
    sign: str
    style: str
    exit_code: int | None
    ended: bool = True


VERDICTS = {
    "pushed": Verdict("Pushed", "✓", "bold green", 0),
    "rejected": Verdict("Rejected", "✕", "bold red", 3),
    "data_rejected": Verdict("Data rejected", "✕", "bold red", 4),
    "failed": Verdict("Failed", "✕", "bold red", None),
    "interrupted": Verdict("Interrupted", "‖", "yellow", 130, ended=False),
}
"""Verdict in summary.json -> what it means."""


def verdict_of(exit_code: int) -> str:
    """Return the verdict that an exit code means.

    Example:
        >>> [verdict_of(code) for code in (0, 1, 2, 3, 4, 130)]
        ['pushed', 'failed', 'failed', 'rejected', 'data_rejected', 'interrupted']
    """
    return next((name for name, verdict in VERDICTS.items() if verdict.exit_code == exit_code), "failed")
