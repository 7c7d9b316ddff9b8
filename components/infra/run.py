"""The `infra` node: load and probe every variant as its runtime would, and keep the golden answers."""

import base64
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headrace.components.gates.config import ServingGate
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.parity.tolerance import golden_bound
from headrace.components.sums import judged
from headrace.data.sums import file_entries
from headrace.serving.raw import raw_columns

from .child import run_child
from .engine import TensorFlowServing, find_tensorflow_serving, require_engine
from .golden import Golden, golden_requests
from .visit import Visitor
from .warmup import warmup_logs, write_warmup

__all__ = ["run"]

Json = dict[str, Any]

_WARMUP_BYTES = 4_000_000  # of examples; the file holds them twice, once for each signature


def run(ctx: NodeContext) -> NodeResult:
    """Probe the variants; write infra.json, golden_raw.json and the warm-up requests."""
    with judged(ctx.inputs) as files:
        document, finding, failed = _probe_all(ctx)
    _write_json(Path(ctx.outputs["infra"]) / "infra.json", document | {"judged": files})
    if not failed:
        return NodeResult(finding)
    return NodeResult(f"{finding}; failed: {failed}", doubts={"infra": f"the check of {failed} failed"})


def _probe_all(ctx: NodeContext) -> tuple[Json, str, str]:
    """Return the content of infra.json, what it says in a phrase, and the variants that failed."""
    rule = ServingGate.model_validate(ctx.config["gates.serving"])
    out = Path(ctx.outputs["infra"])
    variants: list[Json] = _read_json(Path(ctx.input("variants")) / "variants.json")
    golden = _golden(ctx)
    _write_json(out / "golden_raw.json", {"inputs": golden.rows, "outputs": golden.outputs["serving_raw"]})
    _write_warmup(out, golden, int(ctx.config["push.warmup_rows"]))
    requests = [asdict(entry) for entry in file_entries(out)]
    engine = _engine(rule)
    found: list[Json] = []
    for variant in variants:
        found.append(_probe(ctx, variant, golden, rule, engine))
        text = _sentence(found[-1], rule)
        emit("probe", **found[-1], done=len(found), total=len(variants), text=text)
    failed = [item["name"] for item in found if item["state"] == "FAIL" or _misserved(item, rule)]
    passed = [item["name"] for item in found if item["state"] == "PASS" and item["name"] not in failed]
    finding = f"{len(passed)} of {len(variants)} variants load and answer {len(golden.rows)} golden rows"
    document = {"golden_rows": len(golden.rows), "variants": found, "requests": requests}
    return document, finding, ", ".join(failed)


def _engine(rule: ServingGate) -> TensorFlowServing | None:
    """Return the TensorFlow Serving to run; None for the embedded server."""
    require_engine(rule.gate)
    return find_tensorflow_serving() if rule.gate == "tensorflow_serving" else None


def _golden(ctx: NodeContext) -> Golden:
    headrace = Path(ctx.input("transform_graph")) / "headrace"
    types = {column["name"]: column["type"] for column in _read_json(headrace / "features.json")["raw"]}
    rows = _read_json(headrace / "golden.json")["inputs"]
    return golden_requests(rows, types, str(Path(ctx.input("model")) / "Format-Serving"))


def _write_warmup(out: Path, golden: Golden, rows: int) -> None:
    mean = sum(map(len, golden.examples)) / len(golden.examples)
    fitting = max(1, int(_WARMUP_BYTES / max(mean, 1)))  # pictures: the file is read at every load
    order = [index % len(golden.rows) for index in range(min(rows, fitting))]
    columns = raw_columns([golden.rows[index] for index in order], golden.types)
    logs = warmup_logs([golden.examples[index] for index in order], columns)
    write_warmup(out / "warmup" / "tf_serving_warmup_requests", logs)


def _probe(
    ctx: NodeContext, variant: Json, golden: Golden, rule: ServingGate, engine: TensorFlowServing | None
) -> Json:
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
        "served": None,
    }
    if variant["state"] == "skipped":
        return result
    folder = Path(ctx.temp_dir) / f"probe-{name}"
    folder.mkdir(parents=True)
    path = _lite_bundle(ctx, variant, folder) if runtime == "litert" else _saved_model(ctx, variant)
    request = {
        "runtime": runtime,
        "path": path,
        "name": name,
        "rows": golden.rows,
        "types": dict(golden.types),
        "examples": [base64.b64encode(example).decode() for example in golden.examples]
        if runtime == "tf"
        else [],
        "expected": golden.scores,
        "budget_s": rule.latency_s,
        "doors": runtime == "tf" and engine is None,
    }
    visitor = Visitor(name, golden, folder, rule.latency_s / 2)
    visit = visitor.embedded if request["doors"] else None
    found = run_child(request, folder, rule.timeout_s, rule.max_rss_bytes, visit=visit)
    result |= {key: found[key] for key in ("load_s", "latency_us", "predict_us", "rss_bytes") if key in found}
    reason = found.get("error") or _disagreement(name, found["max_golden_diff"], rule)
    difference = found.get("max_golden_diff")
    result["max_golden_diff"] = difference if difference is not None and np.isfinite(difference) else None
    result["golden_rows"] = len(golden.rows) if difference is not None else 0
    if runtime == "tf" and "error" not in found:
        if engine is not None:
            visitor.upstream(engine, path, rule.timeout_s, rule.max_rss_bytes)
        result["served"] = visitor.found | ({} if engine else {"rss_bytes": found["rss_bytes"]})
    return result | {"state": "FAIL" if reason else "PASS", "reason": reason}


def _disagreement(name: str, difference: float, rule: ServingGate) -> str:
    if not np.isfinite(difference):
        return "it answers golden requests with values that are not finite"
    bound = golden_bound(name, rule.tolerance, rule.quantized_tolerance)
    if bound is None or difference <= bound:
        return ""
    return f"its answers to golden requests differ by up to {difference:.3g}; at most {bound:g} is allowed"


def _misserved(result: Json, rule: ServingGate) -> str:
    """Return what went wrong behind the doors of the server; "" for nothing, or where there was none."""
    if result["served"] is None:
        return ""
    for door in ("rest", "grpc"):
        found = result["served"][door]
        if found["reason"]:
            return f"{door}: {found['reason']}"
        if found["max_golden_diff"] > rule.tolerance:
            return f"{door}: answers differ by up to {found['max_golden_diff']:.3g}"
    return ""


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


def _sentence(result: Json, rule: ServingGate) -> str:
    if result["state"] != "PASS":
        return f"{result['name']}: {result['state']}, {result['reason']}"
    wrong = _misserved(result, rule)
    if wrong:
        return f"{result['name']}: FAIL, {wrong}"
    median = result["latency_us"]["b1"]["p50"]
    text = f"{result['name']}: loads in {result['load_s']:.2f} s, one row in {median:,.0f} us"
    if result["served"] is None:
        return text
    doors = {door: result["served"][door]["latency_us"]["b1"]["p50"] for door in ("rest", "grpc")}
    return f"{text}, {doors['rest']:,.0f} us over REST, {doors['grpc']:,.0f} us over gRPC"


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
