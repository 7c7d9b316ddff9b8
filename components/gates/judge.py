"""From everything that was measured to gates, and from gates to the verdict. Pure functions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from headrace.components.push.config import PushConfig

from .config import GatesConfig
from .cost import judge_cost, judge_serving
from .evidence import Evidence
from .quality import judge_agreement, judge_quality
from .splits import tell_of_splits
from .state import Gate
from .states import may_push
from .variant import judge_variant

__all__ = ["Verdict", "decide", "judge", "target_variants"]


@dataclass(frozen=True)
class Verdict:
    """What follows from the gates.

    Attributes:
        verdict: Whether the targets may be pushed.
        blocking: Indices of the gates that forbid it.
        serving: Variant for the TF Serving repository, if any.
        lite: Variant for the TF Lite bundle, if any.
    """

    verdict: Literal["push", "reject"]
    blocking: tuple[int, ...]
    serving: str | None
    lite: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the object of verdict.json."""
        targets = {"serving": self.serving, "lite": self.lite}
        return {"verdict": self.verdict, "blocking": list(self.blocking), "targets": targets}


def target_variants(push: PushConfig) -> tuple[str, ...]:
    """Return the variants that the push section sends somewhere, serving first."""
    return tuple(name for name in (push.serving, push.lite) if name is not None)


def judge(
    evidence: Evidence, data_gates: Sequence[Gate], gates: GatesConfig, push: PushConfig, task: str
) -> list[Gate]:
    """Judge a candidate.

    Args:
        evidence: What evaluation, infra check and quantization measured.
        data_gates: Gates of the data, judged before training; they come first in the result.
        gates: Bounds.
        push: Targets.
        task: `binary`, `multiclass`, `multilabel` or `regression`.

    Returns:
        Every gate. Failing gates of a variant that is not pushed say so in their reason.
    """
    targets = target_variants(push)
    on_test = judge_quality(gates.quality, dict.fromkeys(("float32", *targets)), evidence, task)
    names = dict.fromkeys((*evidence.built(), *targets))
    for name in names:
        if name != "float32":
            on_test += judge_variant(gates.variant, name, evidence, task)
    found = [*judge_agreement(evidence), *tell_of_splits(on_test, data_gates)]
    for rule in gates.cost:
        found += judge_cost(rule, evidence)
    for name in names:
        found += judge_serving(gates.serving, name, evidence)
    known = evidence.built()
    return [*data_gates, *(_with_consequence(gate, targets, known) for gate in found)]


def decide(
    gates: Sequence[Gate], push: PushConfig, *, known: Collection[str], allow_unbounded: bool
) -> Verdict:
    """Return the verdict.

    A gate blocks where its state forbids a push and it is about the data, about float32's quality, about
    a variant that would be pushed, or about a variant that does not exist: a bound with a slip in the
    name bounds nothing.

    Args:
        gates: All gates.
        push: Targets.
        known: Names of the variants of the run.
        allow_unbounded: Whether NO_THRESHOLD may push.
    """
    targets = target_variants(push)
    blocking = tuple(
        index
        for index, gate in enumerate(gates)
        if not may_push(gate.state, allow_unbounded=allow_unbounded) and _matters(gate, targets, known)
    )
    return Verdict("reject" if blocking else "push", blocking, push.serving, push.lite)


def _matters(gate: Gate, targets: Collection[str], known: Collection[str]) -> bool:
    if gate.kind == "data" or gate.variant in targets or gate.variant not in known:
        return True
    return gate.kind == "quality" and gate.variant == "float32"


def _with_consequence(gate: Gate, targets: Collection[str], known: Collection[str]) -> Gate:
    if may_push(gate.state, allow_unbounded=False) or _matters(gate, targets, known):
        return gate
    return replace(gate, reason=f"{gate.reason.removesuffix('.')} (not pushed, so this does not block).")
