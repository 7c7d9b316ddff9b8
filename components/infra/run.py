"""The `infra` node: load and probe every variant as its runtime would, and keep the golden answers."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.golden import encode_rows
from headrace.components.gates.config import ServingGate
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.parity.tolerance import golden_bound
from headrace.serving.raw import raw_columns

from .child import run_child
from .warmup import warmup_logs, write_warmup

__all__ = ["run"]

Json = dict[str, Any]

_WARMUP_BYTES = 4_000_000  # of examples; the file holds them twice, once for each signature


@dataclass(frozen=True)
class _Golden:
    """Raw rows and what the float32 SavedModel answers them.

    Attributes:
        rows: Column -> value as JSON holds it (`headrace.serving.raw`), None where missing.
        types: Column -> `int`, `float`, `string`, `floats` or `image`.
        examples: The rows as serialized tf.Examples.
        outputs: Signature -> output name -> values.
    """

    rows: Sequence[Json]
    types: Mapping[str, Any]
    examples: Sequence[bytes]
    outputs: Mapping[str, Mapping[str, Any]]


def run(ctx: NodeContext) -> NodeResult:
    """Probe the variants; write infra.json, golden_raw.json and the warm-up requests."""
    rule = ServingGate.model_validate(ctx.config["gates.serving"])
    out = Path(ctx.outputs["infra"])
    variants: list[Json] = _read_json(Path(ctx.input("variants")) / "variants.json")
    golden = _golden(ctx)
    _write_json(out / "golden_raw.json", {"inputs": golden.rows, "outputs": golden.outputs["serving_raw"]})
    _write_warmup(out, golden, int(ctx.config["push.warmup_rows"]))
    found: list[Json] = []
    for variant in variants:
        found.append(_probe(ctx, variant, golden, rule))
        emit("probe", **found[-1], done=len(found), total=len(variants), text=_sentence(found[-1]))
    _write_json(out / "infra.json", {"variants": found})
    passed = [item["name"] for item in found if item["state"] == "PASS"]
    failed = [item["name"] for item in found if item["state"] == "FAIL"]
    finding = f"{len(passed)} of {len(variants)} variants load and answer {len(golden.rows)} golden rows"
    return NodeResult(finding + (f"; failed: {', '.join(failed)}" if failed else ""))


def _golden(ctx: NodeContext) -> _Golden:
    headrace = Path(ctx.input("transform_graph")) / "headrace"
    types = {column["name"]: column["type"] for column in _read_json(headrace / "features.json")["raw"]}
    rows = _read_json(headrace / "golden.json")["inputs"]
    examples = encode_rows(rows, types)
    # Not the loader under test: this one restores objects, so that a broken saver shows as a difference.
    loaded = tf.saved_model.load(str(Path(ctx.input("model")) / "Format-Serving"))
    columns = {name: tf.constant(values) for name, values in raw_columns(rows, types).items()}
    answers = {
        "serving_raw": loaded.signatures["serving_raw"](**columns),
        "serving_default": loaded.signatures["serving_default"](examples=tf.constant(examples)),
    }
    outputs = {
        signature: {name: _plain(value.numpy()) for name, value in answer.items()}
        for signature, answer in answers.items()
    }
    return _Golden(rows, types, examples, outputs)


def _plain(values: np.ndarray[Any, Any]) -> Any:
    """Return `values` as nested lists, bytes as text, what is not finite as None."""
    if values.dtype == object:
        return np.vectorize(lambda item: item.decode(), otypes=[object])(values).tolist()
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def _write_warmup(out: Path, golden: _Golden, rows: int) -> None:
    mean = sum(map(len, golden.examples)) / len(golden.examples)
    fitting = max(1, int(_WARMUP_BYTES / max(mean, 1)))  # pictures: the file is read at every load
    order = [index % len(golden.rows) for index in range(min(rows, fitting))]
    columns = raw_columns([golden.rows[index] for index in order], golden.types)
    logs = warmup_logs([golden.examples[index] for index in order], columns)
    write_warmup(out / "warmup" / "tf_serving_warmup_requests", logs)


def _probe(ctx: NodeContext, variant: Json, golden: _Golden, rule: ServingGate) -> Json:
    name, runtime = variant["name"], variant["runtime"]
    result: Json = {
        "name": name,
        "state": "SKIPPED",
        "reason": variant.get("reason") or "",
        "load_s": None,
        "latency_us": None,
        "rss_bytes": None,
        "max_golden_diff": None,
        "golden_rows": 0,
    }
    if variant["state"] == "skipped":
        return result
    folder = Path(ctx.temp_dir) / f"probe-{name}"
    folder.mkdir(parents=True)
    expected = {
        signature: outputs["scores" if "scores" in outputs else "outputs"]
        for signature, outputs in golden.outputs.items()
    }
    request = {
        "runtime": runtime,
        "path": _lite_bundle(ctx, variant, folder) if runtime == "litert" else _saved_model(ctx, variant),
        "rows": golden.rows,
        "types": dict(golden.types),
        "examples": [base64.b64encode(example).decode() for example in golden.examples]
        if runtime == "tf"
        else [],
        "expected": expected,
        "budget_s": rule.latency_s,
    }
    found = run_child(request, folder, rule.timeout_s, rule.max_rss_bytes)
    result |= {key: found[key] for key in ("load_s", "latency_us", "predict_us", "rss_bytes") if key in found}
    reason = found.get("error") or _disagreement(name, found["max_golden_diff"], rule)
    difference = found.get("max_golden_diff")
    result["max_golden_diff"] = difference if difference is not None and np.isfinite(difference) else None
    result["golden_rows"] = len(golden.rows) if difference is not None else 0
    return result | {"state": "FAIL" if reason else "PASS", "reason": reason}


def _disagreement(name: str, difference: float, rule: ServingGate) -> str:
    if not np.isfinite(difference):
        return "it answers golden requests with values that are not finite"
    bound = golden_bound(name, rule.tolerance, rule.quantized_tolerance)
    if bound is None or difference <= bound:
        return ""
    return f"its answers to golden requests differ by up to {difference:.3g}; at most {bound:g} is allowed"


def _saved_model(ctx: NodeContext, variant: Json) -> str:
    if variant["path"] is None:
        return os.path.join(ctx.input("model"), "Format-Serving")
    return os.path.join(ctx.input("variants"), variant["path"])


def _lite_bundle(ctx: NodeContext, variant: Json, folder: Path) -> str:
    """Lay out the bundle of a TF Lite variant with links, and return its folder."""
    bundle, headrace = folder / "bundle", Path(ctx.input("transform_graph")) / "headrace"
    bundle.mkdir()
    (bundle / "model.tflite").symlink_to(Path(ctx.input("variants"), variant["path"]).resolve())
    (bundle / "preprocessing.json").symlink_to((headrace / "preprocessing.json").resolve())
    _write_json(bundle / "labels.json", _read_json(headrace / "features.json")["label"])
    return str(bundle)


def _sentence(result: Json) -> str:
    if result["state"] != "PASS":
        return f"{result['name']}: {result['state']}, {result['reason']}"
    median = result["latency_us"]["b1"]["p50"]
    return f"{result['name']}: loads in {result['load_s']:.2f} s, one row in {median:,.0f} us"


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
