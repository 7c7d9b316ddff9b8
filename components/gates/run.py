"""The `gates` node: judge, write gates and verdict, and always finish."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.components.node import NodeContext, NodeResult
from headrace.components.push.config import PushConfig

from .config import GatesConfig
from .cost import of_infra
from .evidence import Evidence
from .judge import Verdict, decide, judge
from .state import Gate, read_gates, write_gates
from .states import count_states

__all__ = ["run"]


def run(ctx: NodeContext) -> NodeResult:
    """Write `gates.json` and `verdict.json`. A rejection is a finding here; `verdict` acts on it."""
    rules = GatesConfig.model_validate(ctx.config["gates"])
    push = PushConfig.model_validate(ctx.config["push"])
    evidence = Evidence(
        evaluation=_read_json(ctx.input("evaluation"), "evaluation.json"),
        infra=_read_json(ctx.input("infra"), "infra.json"),
        variants=_read_json(ctx.input("variants"), "variants.json"),
        min_slice_rows=int(ctx.config["evaluation.min_slice_rows"]),
    )
    data_gates = read_gates(Path(ctx.input("data_gates"), "gates.json"))
    gates = judge(evidence, data_gates, rules, push, str(ctx.config["data.task"]))
    verdict = decide(gates, push, known=evidence.built(), allow_unbounded=rules.allow_unbounded)
    folder = Path(ctx.outputs["gates"])
    folder.mkdir(parents=True, exist_ok=True)
    write_gates(folder / "gates.json", gates)
    (folder / "verdict.json").write_text(json.dumps(verdict.to_json(), indent=1) + "\n", encoding="utf-8")
    return NodeResult(
        finding=_finding(gates, verdict),
        properties={"gates": {"verdict": verdict.verdict, "blocking": len(verdict.blocking)}},
        doubts=_doubts(gates),
    )


def _doubts(gates: Sequence[Gate]) -> dict[str, str]:
    """Return what must be done again where cost or serving failed: a machine may have been busy."""
    failed = [gate for gate in gates if gate.kind in ("cost", "serving") and gate.state == "FAIL"]
    doubts = {}
    for name, found in (("gates", failed), ("infra", [gate for gate in failed if of_infra(gate)])):
        if found:
            doubts[name] = f"{found[0].metric} of {found[0].where} failed"
    return doubts


def _read_json(folder: str, name: str) -> Any:
    return json.loads(Path(folder, name).read_text(encoding="utf-8"))


def _finding(gates: list[Gate], verdict: Verdict) -> str:
    """Return "push; 31 gates: 2 NO_BASELINE, 29 PASS" or the first blocking gate."""
    summary = f"{len(gates)} gates: {count_states(gate.state for gate in gates)}"
    if not verdict.blocking:
        return f"push; {summary}"
    first = gates[verdict.blocking[0]]
    return f"reject; {summary}; {len(verdict.blocking)} block, first {first.where}: {first.reason}"
