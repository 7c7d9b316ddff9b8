"""The one exception tree of headrace and the exit code that each branch means.

Every message follows one pattern: the rule, the value received, the place.

    HeadraceError               1   environment or internal error
    +-- EnvironmentProblem      1   disk full, folder not writable, store unreachable
    +-- ConfigError             2   usage, config, file header or columns
    +-- GateRejected            3   a quality, variant, cost or serving gate said no
    +-- DataRejected            4   the data gate, or unreadable content met during ingest
    +-- Interrupted           130   Ctrl-C, or the end of the terminal
"""

from typing import ClassVar

__all__ = [
    "ConfigError",
    "DataRejected",
    "EnvironmentProblem",
    "GateRejected",
    "HeadraceError",
    "Interrupted",
    "error_for_code",
]


class HeadraceError(Exception):
    """Any failure that headrace explains in one message.

    Args:
        message: The rule, the value received and the place, in one or a few lines.
        hint: What the user can do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["HeadraceError"], tuple[str, str]]:
        # The default would drop the hint when an error crosses a process border.
        return type(self), (self.message, self.hint)


class EnvironmentProblem(HeadraceError):
    """The machine, not the input, is at fault: disk, permissions, database, memory."""


class ConfigError(HeadraceError):
    """The command line, the config, the file header or the columns are wrong."""

    exit_code = 2


class GateRejected(HeadraceError):
    """A quality, variant, cost or serving gate rejected the model."""

    exit_code = 3


class DataRejected(HeadraceError):
    """The data gate closed, or content could not be read during ingest."""

    exit_code = 4


class Interrupted(HeadraceError):
    """Somebody stopped the run."""

    exit_code = 130


def error_for_code(exit_code: int, message: str, hint: str = "") -> HeadraceError:
    """Return the error of the tree that carries `exit_code` (unknown codes give the root)."""
    for kind in (ConfigError, GateRejected, DataRejected, Interrupted):
        if kind.exit_code == exit_code:
            return kind(message, hint)
    return HeadraceError(message, hint)
