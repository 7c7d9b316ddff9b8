"""A candidate that passes every gate, to be broken one at a time."""

from collections.abc import Sequence
from typing import Any

from headrace.components.gates.config import GatesConfig
from headrace.components.gates.evidence import Evidence
from headrace.components.gates.judge import decide, judge
from headrace.components.gates.state import Gate
from headrace.components.push.config import PushConfig

PUSH = PushConfig(serving="int8_weights", lite="tflite_int8")
NAMES = ("float32", "int8_weights", "tflite_float32", "tflite_float16", "tflite_int8")
DATA_PASS = Gate("data", "anomalies", "PASS", "the data keeps every rule.")


def results(name: str, accuracy: float, **changes: Any) -> dict[str, Any]:
    """One variant's part of evaluation.json."""

    def entry(carrier: str, rows: int, value: float) -> dict[str, Any]:
        return {"keys": {"carrier": carrier}, "rows": rows, "metrics": {"accuracy": value}}

    return {
        "name": name,
        "metrics": {"accuracy": accuracy, "auc": 0.8, "log_loss": 0.5},
        "slices": [
            entry("AA", 500, accuracy),
            entry("HA", 200, accuracy - 0.05),
            entry("OO", 5, 0.0),
        ],
        "agreement": None if name == "float32" else {"max_abs_diff": 0.01, "flip_rate": 0.01},
        **changes,
    }


def served() -> dict[str, Any]:
    """What a server on a variant answered: exactly what the variant does in process."""

    def door(p50: float) -> dict[str, Any]:
        return {
            "max_golden_diff": 0.0,
            "golden_rows": 256,
            "signatures": ["serving_default", "serving_raw"],
            "latency_us": {"b1": {"p50": p50, "p99": 2 * p50}, "b100": {"p50": 5 * p50, "p99": 9 * p50}},
            "reason": "",
        }

    return {"by": "embedded", "load_s": 0.6, "rss_bytes": 550_000_000, "rest": door(900), "grpc": door(600)}


class Candidate:
    """The documents of a candidate that passes everything, to be broken one at a time."""

    def __init__(self) -> None:
        self.evaluation: dict[str, Any] = {
            "variants": [results(name, 0.9) for name in NAMES],
            "baseline": None,
        }
        self.infra: dict[str, Any] = {
            "golden_rows": 256,
            "variants": [
                {
                    "name": name,
                    "state": "PASS",
                    "reason": "",
                    "load_s": 0.5,
                    "latency_us": {"b1": {"p50": 40, "p99": 60}, "b100": {"p50": 900, "p99": 1500}},
                    "rss_bytes": 500_000_000,
                    "max_golden_diff": 0.0,
                    "golden_rows": 256,
                    "served": None if name.startswith("tflite") else served(),
                }
                for name in NAMES
            ],
        }
        sizes = {
            "float32": (5000, 4000),
            "int8_weights": (2000, 1000),
            "tflite_float32": (4400, 4000),
            "tflite_float16": (2200, 2000),
            "tflite_int8": (1320, 1000),
        }
        self.variants: list[dict[str, Any]] = [
            {"name": n, "state": "built", "reason": "", "size_bytes": size, "weight_bytes": weights}
            for n, (size, weights) in sizes.items()
        ]

    def evaluated(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(v for v in self.evaluation["variants"] if v["name"] == name)
        return found

    def probed(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(v for v in self.infra["variants"] if v["name"] == name)
        return found

    def judge(
        self, rules: dict[str, Any] | None = None, push: PushConfig = PUSH, task: str = "binary"
    ) -> list[Gate]:
        rules = {"quality": [{"metric": "auc", "min": 0.7}], **(rules or {})}
        evidence = Evidence(self.evaluation, self.infra, self.variants, min_slice_rows=200)
        return judge(evidence, [DATA_PASS], GatesConfig.model_validate(rules), push, task)


def blocking(gates: Sequence[Gate], push: PushConfig = PUSH, *, allow_unbounded: bool = False) -> list[Gate]:
    return [gates[i] for i in decide(gates, push, known=NAMES, allow_unbounded=allow_unbounded).blocking]


def only(gates: Sequence[Gate], **fields: Any) -> Gate:
    (gate,) = [g for g in gates if all(getattr(g, k) == v for k, v in fields.items())]
    return gate
