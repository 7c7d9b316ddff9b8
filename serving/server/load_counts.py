"""Loads of versions, counted by folder as TensorFlow counts them."""

from collections.abc import Iterable

__all__ = ["LoadCounts"]

_MOST_PATHS = 1000


class LoadCounts:
    """How often versions were loaded, and how long it took; of the last thousand folders.

    Attributes:
        total: Loads of all folders.
    """

    def __init__(self) -> None:
        self.total = 0
        self._attempts: dict[str, dict[str, int]] = {}
        self._micros: dict[str, int] = {}

    def add(self, path: str, seconds: float | None) -> None:
        """Count one load.

        Args:
            path: Folder of the version.
            seconds: How long it took, warming up included; None if it failed.
        """
        if path not in self._attempts and len(self._attempts) >= _MOST_PATHS:
            oldest = next(iter(self._attempts))
            del self._attempts[oldest]
            self._micros.pop(oldest, None)
        self.total += 1
        status = "fail" if seconds is None else "success"
        counts = self._attempts.setdefault(path, {})
        counts[status] = counts.get(status, 0) + 1
        if seconds is not None:
            self._micros[path] = self._micros.get(path, 0) + round(seconds * 1e6)

    def attempts(self) -> Iterable[tuple[tuple[str, str], int]]:
        """Return folder and "success" or "fail" -> loads."""
        return [
            ((path, status), count)
            for path, counts in self._attempts.items()
            for status, count in counts.items()
        ]

    def micros(self) -> Iterable[tuple[tuple[str], int]]:
        """Return folder -> microseconds of its loads that did not fail."""
        return [((path,), micros) for path, micros in self._micros.items()]
