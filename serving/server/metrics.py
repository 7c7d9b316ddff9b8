"""Metrics in Prometheus' text format, under TensorFlow Serving's names where it has them."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .errors import Code
from .events import Event
from .load_counts import LoadCounts

__all__ = ["BOUNDS_US", "Metrics"]

BOUNDS_US: tuple[float, ...] = tuple(10.0 * 1.8**power for power in range(33))
"""Upper bounds of the latency buckets, in microseconds: upstream's."""

_MOST_NAMES = 1000
_OTHER = "(other)"
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
_REQUEST_BYTES = ":headrace:serving:request_bytes"
_RESPONSE_BYTES = ":headrace:serving:response_bytes"
_STATE = ":headrace:serving:model_version_state"
_LOADS = ":tensorflow:cc:saved_model:load_attempt_count"
_LOAD_TIME = ":tensorflow:cc:saved_model:load_latency"
_REST_APIS = {"Predict": "predict", "Classify": "classify", "Regress": "regress"}
"""Upstream's REST door takes the label `API` from the path, where no other API has a name."""


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    total: float = 0.0


class Metrics:
    """Counts requests; a listener of the doors.

    Labels come from requests, so there are at most a thousand names; what comes later is "(other)".
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._latencies: dict[tuple[str, str, str], _Histogram] = {}
        self._request_bytes: dict[tuple[str, str], int] = {}
        self._response_bytes: dict[tuple[str, str], int] = {}
        self._names: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Count one request."""
        name = self._name(event)
        key = (name, event.code.name)
        self._counts[key] = self._counts.get(key, 0) + 1
        place = (name, event.entrypoint)
        self._request_bytes[place] = self._request_bytes.get(place, 0) + event.request_bytes
        self._response_bytes[place] = self._response_bytes.get(place, 0) + event.response_bytes
        if event.code is Code.OK:
            api = _REST_APIS.get(event.api, "") if event.entrypoint == "REST" else event.api
            series = (name, api, event.entrypoint)
            found = self._latencies.get(series)
            if found is None:
                found = self._latencies[series] = _Histogram()
            micros = event.seconds * 1e6
            found.counts[bisect_left(BOUNDS_US, micros)] += 1
            found.total += micros

    def page(self, states: Iterable[tuple[str, int, str]] = (), loads: LoadCounts | None = None) -> str:
        """Return the page of all series.

        Args:
            states: Model, version and state of every version.
            loads: Loads so far.
        """
        lines: list[str] = []
        labels = ("model_name", "status")
        _series(lines, _COUNT, "counter", labels, sorted(self._counts.items()))
        lines.append(f"# TYPE {_LATENCY} histogram")
        for (name, api, entrypoint), found in sorted(self._latencies.items()):
            text = _labels(("model_name", "API", "entrypoint"), (name, api, entrypoint))
            seen = 0
            for bound, count in zip((*BOUNDS_US, None), found.counts, strict=True):
                seen += count
                limit = "+Inf" if bound is None else f"{bound:g}"
                lines.append(f'{_LATENCY}_bucket{{{text},le="{limit}"}} {seen}')
            lines.append(f"{_LATENCY}_sum{{{text}}} {found.total:g}")
            lines.append(f"{_LATENCY}_count{{{text}}} {seen}")
        place = ("model_name", "entrypoint")
        _series(lines, _REQUEST_BYTES, "counter", place, sorted(self._request_bytes.items()))
        _series(lines, _RESPONSE_BYTES, "counter", place, sorted(self._response_bytes.items()))
        if loads is not None:
            _series(lines, _LOADS, "counter", ("model_path", "status"), loads.attempts())
            _series(lines, _LOAD_TIME, "counter", ("model_path",), loads.micros())
        known = [((name, str(version), state), 1) for name, version, state in states]
        _series(lines, _STATE, "gauge", ("model_name", "version", "state"), known)
        return "\n".join(lines) + "\n"

    def _name(self, event: Event) -> str:
        name = event.spec.name
        if name in self._names:
            return name
        if len(self._names) >= _MOST_NAMES or event.code is Code.NOT_FOUND:
            return _OTHER if name else ""
        self._names.add(name)
        return name


def _series(
    lines: list[str], name: str, kind: str, labels: Sequence[str], found: Iterable[tuple[Sequence[str], int]]
) -> None:
    lines.append(f"# TYPE {name} {kind}")
    lines += [f"{name}{{{_labels(labels, values)}}} {count}" for values, count in found]


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(
        f'{name}="{value.translate(_ESCAPED)}"' for name, value in zip(names, values, strict=True)
    )
