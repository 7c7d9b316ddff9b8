"""A gate's outcome: what was judged, against which bound, with which state and why."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from .states import STATES, GateState

__all__ = ["Bound", "Gate", "GateKind", "GateState", "read_gates", "write_gates"]

GateKind = Literal["data", "quality", "variant", "cost", "serving"]

Operator = Literal["<=", ">="]


@dataclass(frozen=True)
class Bound:
    """The limit that a value must keep.

    Attributes:
        op: How value and limit are compared, value first.
        value: The limit, finite, in the metric's unit.
    """

    op: Operator
    value: float

    def holds(self, value: float) -> bool:
        """Tell whether `value` keeps the limit; NaN never does."""
        return value <= self.value if self.op == "<=" else value >= self.value

    def __str__(self) -> str:
        return f"{self.op} {self.value:g}"


@dataclass(frozen=True)
class Gate:
    """One gate after judgement.

    Attributes:
        kind: What sort of gate it is.
        metric: What was measured, such as "auc", "accuracy_drop", "p99_us_b1" or "anomalies".
        state: The outcome.
        reason: One readable sentence with the numbers.
        variant: Variant judged; None where the gate is about the data.
        slice: Column -> value of the rows judged; None: all rows.
        bound: The limit; None where there is none.
        value: What was found, finite; None where it could not be had.
    """

    kind: GateKind
    metric: str
    state: GateState
    reason: str
    variant: str | None = None
    slice: Mapping[str, str] | None = None
    bound: Bound | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "value", None)

    def to_json(self) -> dict[str, Any]:
        """Return the gate as the object that docs/artifacts.md describes."""
        fields = asdict(self)
        order = ("kind", "variant", "slice", "metric", "bound", "value", "state", "reason")
        return {name: fields[name] for name in order}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Gate":
        """Return the gate that `to_json` gave.

        Raises:
            ValueError: If a field is missing, or kind, state or operator is unknown.
        """
        try:
            bound = fields["bound"]
            gate = cls(
                kind=cast(GateKind, _one_of("kind", fields["kind"], get_args(GateKind))),
                metric=str(fields["metric"]),
                state=cast(GateState, _one_of("state", fields["state"], tuple(STATES))),
                reason=str(fields["reason"]),
                variant=fields["variant"],
                slice=fields["slice"],
                bound=None
                if bound is None
                else Bound(cast(Operator, _one_of("op", bound["op"], get_args(Operator))), bound["value"]),
                value=fields["value"],
            )
        except KeyError as error:
            raise ValueError(f"a gate must have the field {error}. Received: {dict(fields)}") from error
        return gate

    @property
    def where(self) -> str:
        """Variant and slice in words, such as "tflite_int8 on carrier=HA", or "data"."""
        name = self.variant or "data"
        return name if not self.slice else f"{name} on {', '.join(f'{k}={v}' for k, v in self.slice.items())}"

    def line(self) -> str:
        """Return the gate as one line for a terminal."""
        return f"{self.state:<12} {self.kind:<8} {self.where}, {self.metric}: {self.reason}"


def write_gates(path: Path, gates: Iterable[Gate]) -> None:
    """Write `gates` as a JSON list."""
    text = json.dumps([gate.to_json() for gate in gates], indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_gates(path: Path) -> list[Gate]:
    """Read what `write_gates` wrote.

    Raises:
        ValueError: If an object is no gate.
        OSError: If the file cannot be read.
    """
    return [Gate.from_json(fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"`{field}` of a gate must be one of {', '.join(allowed)}. Received: {value}")
    return str(value)
