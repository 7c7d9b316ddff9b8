"""What Kubeflow's UI shows of a step: files where its launcher looks, metrics in the executor's output.

Runs inside the steps, whose image needs no kfp for it.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.components.gates.states import worst_first
from headrace.data.errors import ConfigError
from headrace.pipeline.config import RunConfig
from headrace.pipeline.step import StepEnd

__all__ = ["show"]

_SCHEMES = {"gs": "/gcs/", "minio": "/minio/", "s3": "/s3/", "oci": "/oci/"}
"""Where Kubeflow's launcher keeps the local side of an artifact's URI."""

_MOST_ROC_POINTS = 101


def show(executor_input: str, node_id: str, end: StepEnd, config: RunConfig) -> None:
    """Write what the UI shows of a step.

    A failure to do so is told and nothing more: the step did its work.

    Args:
        executor_input: The JSON that Kubeflow puts for `{{$}}`.
        node_id: Id of the step.
        end: How it ended.
        config: The run config.

    Raises:
        ConfigError: If `executor_input` is no such JSON.
    """
    try:
        outputs = json.loads(executor_input)["outputs"]
        artifacts: dict[str, Any] = {
            name: entry["artifacts"][0] for name, entry in outputs.get("artifacts", {}).items()
        }
    except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            f"`--executor-input` must be what Kubeflow gives a step. "
            f"Received: {executor_input[:80]} ({error})"
        ) from error
    try:
        _write(artifacts, outputs.get("outputFile"), node_id, end)
    except OSError as error:
        print(f"the result of {node_id} cannot be shown: {error}", file=sys.stderr)


def _write(artifacts: dict[str, Any], output_file: str | None, node_id: str, end: StepEnd) -> None:
    found = {} if end.result is None else end.result.outputs
    metadata: dict[str, dict[str, Any]] = {}
    if "result" in artifacts:
        _put(artifacts["result"], _result_text(node_id, end, found))
    if "report" in artifacts and end.run is not None:
        _put(artifacts["report"], Path(end.run.report_path).read_text(encoding="utf-8"))
    if "metrics" in artifacts:
        metadata["metrics"] = _metrics(node_id, found)
    if "classification" in artifacts:
        metadata["classification"] = _classification(found)
    for name in metadata:
        _put(artifacts[name], json.dumps(metadata[name], indent=1))
    if output_file:
        _write_output(Path(output_file), artifacts, metadata)


def _write_output(path: Path, artifacts: dict[str, Any], metadata: dict[str, dict[str, Any]]) -> None:
    """Write the executor's output, from which Kubeflow takes metadata of artifacts."""
    body = {
        name: {"artifacts": [{**entry, "metadata": {**entry.get("metadata", {}), **metadata.get(name, {})}}]}
        for name, entry in artifacts.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"artifacts": body}), encoding="utf-8")


def _put(artifact: Mapping[str, Any], text: str) -> None:
    path = Path(artifact.get("customPath") or _local_path(str(artifact["uri"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _local_path(uri: str) -> str:
    scheme, found, rest = uri.partition("://")
    if not found:
        return uri
    return _SCHEMES[scheme] + rest if scheme in _SCHEMES else f"/{rest}".replace("//", "/")


def _result_text(node_id: str, end: StepEnd, outputs: Mapping[str, str]) -> str:
    """Return Markdown: how the step ended, and its own table."""
    if end.error is not None:
        reason = "\n".join(f"    {line}" for line in end.error.message.splitlines())
        return f"**{node_id} failed**, exit code {end.error.exit_code}\n\n{reason}\n\n{end.error.hint}\n"
    if end.result is None:
        return _verdict_text(end)
    head = f"**{node_id} {end.result.state}**: {end.result.finding}\n"
    tables = {"gates": _gates, "validation": _gates, "evaluation": _variants, "push": _pushed}
    if node_id not in tables or (node_id in ("gates", "validation") and "gates" not in outputs):
        return head
    return f"{head}\n{tables[node_id](outputs)}"


def _verdict_text(end: StepEnd) -> str:
    assert end.run is not None
    summary = end.run.summary
    lines = [f"**verdict: {summary['verdict']}**, run `{summary['run_id']}`", ""]
    if summary["error"]:
        lines += [*(f"    {line}" for line in summary["error"]["message"].splitlines()), ""]
    rows = [
        [node["id"], node["state"], f"{node['wall_s']:.1f}", str(node["finding"])]
        for node in summary["nodes"]
    ]
    return "\n".join([*lines, _table(["step", "state", "seconds", "found"], rows)])


def _gates(outputs: Mapping[str, str]) -> str:
    gates = worst_first(_json(outputs["gates"], "gates.json") or [])
    rows = [
        [gate["state"], gate["kind"], gate["variant"] or "", gate["metric"], gate["reason"]] for gate in gates
    ]
    return _table(["state", "kind", "variant", "metric", "reason"], rows)


def _variants(outputs: Mapping[str, str]) -> str:
    variants = (_json(outputs["evaluation"], "evaluation.json") or {}).get("variants", [])
    names = list(dict.fromkeys(name for variant in variants for name in variant.get("metrics", {})))
    rows = [
        [variant["name"], *(_number(variant.get("metrics", {}).get(name)) for name in names)]
        for variant in variants
    ]
    return _table(["variant", *names], rows)


def _pushed(outputs: Mapping[str, str]) -> str:
    pushed = _json(outputs["pushed"], "pushed.json") or {}
    sides = [(side, pushed.get(side)) for side in ("serving", "lite")]
    rows = [[side, target["variant"], target["path"]] for side, target in sides if target]
    return _table(["target", "variant", "path"], rows)


def _metrics(node_id: str, outputs: Mapping[str, str]) -> dict[str, float]:
    """Return numbers of the float32 model, or of the best epoch."""
    if node_id == "evaluation":
        return _finite(_float32(outputs).get("metrics", {}))
    history = _json(outputs.get("model_run"), "history.json") or {}
    epochs = history.get("epochs", [])
    best = [epoch for epoch in epochs if epoch["epoch"] == history.get("best_epoch")] or epochs[-1:]
    return _finite(best[0]["logs"]) if best else {}


def _classification(outputs: Mapping[str, str]) -> dict[str, Any]:
    """Return confusion matrix and ROC curve as `system.ClassificationMetrics` has them."""
    variant = _float32(outputs)
    found: dict[str, Any] = {}
    if matrix := variant.get("confusion_matrix"):
        found["confusionMatrix"] = {
            "annotationSpecs": [{"displayName": label} for label in matrix["labels"]],
            "rows": [{"row": row} for row in matrix["matrix"]],
        }
    if points := variant.get("thresholds"):
        step = max(1, len(points) // _MOST_ROC_POINTS)
        # The UI joins points in their order, from the strictest threshold on.
        found["confidenceMetrics"] = [_roc_point(point) for point in reversed(points[::step])]
    return found


def _roc_point(point: Mapping[str, float]) -> dict[str, float]:
    positives, negatives = point["tp"] + point["fn"], point["fp"] + point["tn"]
    return {
        "confidenceThreshold": point["threshold"],
        "recall": point["tp"] / positives if positives else 0.0,
        "falsePositiveRate": point["fp"] / negatives if negatives else 0.0,
    }


def _float32(outputs: Mapping[str, str]) -> dict[str, Any]:
    variants = (_json(outputs.get("evaluation"), "evaluation.json") or {}).get("variants", [])
    return next((variant for variant in variants if variant["name"] == "float32"), {})


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _json(folder: str | None, name: str) -> Any:
    if folder is None:
        return None
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    cells = (" | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells) + "\n"
