"""The banner, what blocks, and the numbers that matter most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.components.gates.states import STATES, may_push, worst_first

from ...verdicts import VERDICTS
from ..facts import Facts, Variant, dig, slice_name
from ..metrics import MAIN, first_present
from ..numbers import count, duration, finite, interval, latency, metric, metric_title, percent, ratio, size
from .gates import bound, value

__all__ = ["Card", "Verdict", "cards", "verdict"]

_MOST_REASONS = 6


@dataclass(frozen=True)
class Verdict:
    """What the banner says.

    Attributes:
        state: pushed, rejected, data_rejected, failed, interrupted or unknown.
        word: The state for people.
        sign: In front of it.
        reason: One sentence.
        blocking: Gates or anomalies that stopped the push: (title, numbers, sentence).
        more: How many others there are.
        warnings: Gates that warn, whatever the verdict: (title, numbers, sentence).
    """

    state: str
    word: str
    sign: str
    reason: str
    blocking: Sequence[tuple[str, str, str]]
    more: int
    warnings: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Card:
    """A group of key numbers: title, subtitle, palette class, [(name, value, note)]."""

    title: str
    subtitle: str
    mark: str
    items: Sequence[tuple[str, str, str]]


def verdict(facts: Facts) -> Verdict:
    """Say what became of the run and why."""
    state = str(facts.summary.get("verdict") or "unknown")
    blocking = _blocking(facts, state)
    reason = _reason(facts, state, len(blocking))
    return Verdict(
        state=state if state in VERDICTS else "unknown",
        word=VERDICTS[state].word if state in VERDICTS else "Not finished",
        sign=VERDICTS[state].sign if state in VERDICTS else "?",
        reason=reason,
        blocking=blocking[:_MOST_REASONS],
        more=max(0, len(blocking) - _MOST_REASONS),
        warnings=[_gate(gate) for gate in facts.summary.get("gates") or () if gate["state"] == "WARN"],
    )


def cards(facts: Facts) -> list[Card]:
    """Return key numbers: the pushed variants (or the leading one), the data, the run."""
    found = [_variant_card(facts, variant) for variant in facts.candidates]
    data = _data_card(facts)
    run = _run_card(facts)
    return [card for card in (*found, data, run) if card.items]


def _reason(facts: Facts, state: str, blocked: int) -> str:
    gates = facts.summary.get("gates") or []
    if state == "pushed":
        return _counted(gates) if gates else "Every gate passed."
    if state == "rejected":
        stand = "stands" if blocked == 1 else "stand"
        return f"{count(blocked)} of {count(len(gates))} gates {stand} in the way. Nothing was pushed."
    if state == "data_rejected" and (facts.evidence.get("anomalies") or blocked):
        rule = "breaks the schema" if facts.evidence.get("anomalies") else "does not pass its gates"
        return f"The data {rule}. Nothing was trained, nothing was pushed."
    if message := dig(facts.summary, "error", "message"):
        hint = dig(facts.summary, "error", "hint")
        end = " Nothing was trained, nothing was pushed." if state == "data_rejected" else ""
        said = f"{message}. {hint}" if hint else str(message)
        return f"{said.rstrip('.')}.{end}" if end else said
    if state == "data_rejected":
        return "The data was refused. Nothing was trained, nothing was pushed."
    broken = [
        str(node.get("id")) for node in facts.summary.get("nodes") or () if node.get("state") == "failed"
    ]
    if broken:
        return f"The node {', '.join(broken)} failed; what ran before it is below."
    return "The run did not come to a verdict; what is known is below."


def _counted(gates: Sequence[Mapping[str, Any]]) -> str:
    """Say how many gates of a push ended how; the numbers sum to all of them."""
    parts = []
    for state, shown in STATES.items():
        found = [gate for gate in gates if gate["state"] == state]
        if not found or state == "PASS":
            continue
        # A push waits only for the gates of the variants that it takes.
        names = ", ".join(dict.fromkeys(str(gate["variant"]) for gate in found if gate.get("variant")))
        who = f" ({names}: not pushed)" if names and state == "FAIL" else ""
        parts.append(f"{count(len(found))} {shown.counted}{who}")
    passed = sum(gate["state"] == "PASS" for gate in gates)
    return "; ".join([f"{count(passed)} of {count(len(gates))} gates passed", *parts]) + "."


def _blocking(facts: Facts, state: str) -> list[tuple[str, str, str]]:
    gates: list[Mapping[str, Any]] = facts.summary.get("gates") or []
    if state in ("pushed", "interrupted"):
        return []
    found = []
    if state == "data_rejected":
        found = [
            _anomaly(item)
            for item in facts.evidence.get("anomalies") or ()
            if item.get("severity") == "error"
        ]
    failing = [gate for gate in gates if gate["state"] == "FAIL"]
    stopping = failing or [gate for gate in gates if not may_push(gate["state"], allow_unbounded=False)]
    if state == "rejected" or not found:
        found += [_gate(gate) for gate in worst_first(stopping)]
    return found


def _gate(gate: Mapping[str, Any]) -> tuple[str, str, str]:
    who = f"{gate['variant']}: " if gate.get("variant") else ""
    title = f"{who}{metric_title(str(gate.get('metric') or ''))} on {slice_name(gate.get('slice'))}"
    limit = bound(gate)
    numbers = f"{value(gate)}, bound {limit}" if limit else value(gate)
    return title, numbers, str(gate.get("reason") or "")


def _anomaly(item: Mapping[str, Any]) -> tuple[str, str, str]:
    rows = f", {count(item['count'])} rows" if item.get("count") is not None else ""
    return (
        f"{item.get('feature')} ({item.get('split')})",
        str(item.get("rule") or ""),
        f"expected {item.get('expected')}, found {item.get('found')}{rows}",
    )


def _variant_card(facts: Facts, variant: Variant) -> Card:
    names = first_present(MAIN, facts.task, variant.metrics)
    items = [
        (
            f"Test {_inside(metric_title(name))}",
            metric(variant.metrics[name]),
            interval(variant.intervals.get(name)),
        )
        for name in names
    ]
    cost = variant.cost
    if cost.get("size_bytes") is not None:
        against = "float32 TF Lite" if variant.name.startswith("tflite") else "float32 weights"
        share = f"{ratio(cost['size_ratio'])} of {against}" if cost.get("size_ratio") is not None else ""
        items.append(("Size", size(cost["size_bytes"]), share))
    if cost.get("b1_p50") is not None:
        items.append(("Latency, 1 row", latency(cost["b1_p50"]), f"p99 {latency(cost.get('b1_p99'))}"))
    return Card(
        variant.target if variant.pushed_to else f"{variant.target}, not pushed",
        variant.name,
        variant.mark,
        items,
    )


def _inside(title: str) -> str:
    """Lower the first letter for use inside a phrase, but not an acronym's."""
    return title if title[1:2].isupper() or title[1:2].isdigit() else title[:1].lower() + title[1:]


def _data_card(facts: Facts) -> Card:
    data = facts.summary.get("data") or {}
    ingest = facts.evidence.get("ingest") or {}
    items = []
    rows = finite(data.get("rows", ingest.get("rows")))
    splits = data.get("splits") or ingest.get("splits") or {}
    if rows is not None:
        items.append(
            ("Rows", count(rows), f"{count(splits['train'])} to train on" if "train" in splits else "")
        )
    if "test" in splits:
        items.append(
            ("Test rows", count(splits["test"]), percent(splits["test"] / rows if rows else None) + " of all")
        )
    if ingest.get("features"):
        missing = sum(any((c.get("missing") or {}).values()) for c in ingest.get("columns") or ())
        items.append(
            (
                "Features",
                count(len(ingest["features"])),
                f"{count(missing) if missing else 'no'} {'column' if missing == 1 else 'columns'} "
                "with missing values",
            )
        )
    counts = dig(ingest, "label", "counts", "test") or {}
    if facts.task == "binary" and len(counts) == 2 and sum(counts.values()):
        positive = str((dig(ingest, "label", "classes") or list(counts))[-1])
        share = counts.get(positive, 0) / sum(counts.values())
        items.append(
            (f"{dig(ingest, 'label', 'name') or 'Label'} = {positive}", percent(share), "of test rows")
        )
    return Card("Data", str(dig(facts.summary, "config", "data", "path") or "").rsplit("/", 1)[-1], "", items)


def _run_card(facts: Facts) -> Card:
    nodes = facts.summary.get("nodes") or []
    wall = sum(finite(node.get("wall_s")) or 0 for node in nodes)
    cpu = sum(finite(node.get("cpu_s")) or 0 for node in nodes)
    peak = max((finite(node.get("peak_rss_bytes")) or 0 for node in nodes), default=0)
    cached = sum(node.get("state") == "cached" for node in nodes)
    items = []
    if nodes:
        items.append(("Time in nodes", duration(wall), f"{duration(cpu)} of CPU" if cpu else ""))
        done = sum(node.get("state") in ("complete", "cached") for node in nodes)
        items.append(
            (
                "Nodes",
                f"{done} of {len(nodes)}",
                f"{cached} from the cache" if cached else "none from the cache",
            )
        )
    if peak:
        largest = max(nodes, key=lambda node: finite(node.get("peak_rss_bytes")) or 0)
        items.append(("Peak memory", size(peak), f"in {largest.get('id')}"))
    model = facts.shown("history")
    if model and model.get("epochs"):
        items.append(
            (
                "Epochs",
                count(len(model["epochs"])),
                f"best: {model['best_epoch']}" if model.get("best_epoch") is not None else "",
            )
        )
    return Card("Run", str(facts.summary.get("run_id") or ""), "", items)
