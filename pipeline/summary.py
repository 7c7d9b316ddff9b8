"""summary.json and the report's evidence, from what the nodes wrote."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace.components.identity import content_id
from headrace.data.errors import HeadraceError

from .config import RunConfig
from .graph import GRAPH
from .identity import run_identity
from .local import NodeOutcome
from .verdicts import verdict_of

__all__ = ["SCHEMA_VERSION", "build_evidence", "build_summary", "write_atomically"]

SCHEMA_VERSION = 1


def build_summary(
    config: RunConfig, run_id: str, outcomes: Sequence[NodeOutcome], failure: HeadraceError | None
) -> dict[str, Any]:
    """Return the content of summary.json (docs/summary.schema.json)."""
    uris = _uris(outcomes)
    ingest = _read(uris, "ingest", "examples", "ingest.json") or {}
    pushed = _read(uris, "push", "pushed", "pushed.json") or {}
    gates = (
        _read(uris, "gates", "gates", "gates.json") or _read(uris, "validation", "gates", "gates.json") or []
    )
    verdict = verdict_of(0 if failure is None else failure.exit_code)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "content_id": content_id(run_identity(config), ingest["sha256"]) if ingest else None,
        "name": config.name,
        "config": config.model_dump(mode="json"),
        "verdict": verdict,
        "error": None
        if failure is None
        else {"message": failure.message, "hint": failure.hint, "exit_code": failure.exit_code},
        "data": {key: ingest.get(key) for key in ("rows", "splits", "sha256")} if ingest else None,
        "nodes": [
            {
                "id": outcome.node.id,
                "state": outcome.result.state,
                "finding": outcome.result.finding,
                "start_s": None if outcome.start_s is None else round(outcome.start_s, 3),
                "wall_s": round(outcome.result.wall_s, 3),
                "cpu_s": round(outcome.result.cpu_s, 3),
                "peak_rss_bytes": outcome.result.peak_rss_bytes,
            }
            for outcome in outcomes
        ],
        "cross_validation": _cross_validation(uris),
        "variants": _variants(uris, pushed),
        "gates": gates,
    }


def build_evidence(config: RunConfig, outcomes: Sequence[NodeOutcome], command: str) -> dict[str, Any]:
    """Return what the report shows beside the summary; what the run did not reach is left out."""
    uris = _uris(outcomes)
    files = {
        "ingest": ("ingest", "examples", "ingest.json"),
        "anomalies": ("validation", "gates", "anomalies.json"),
        "skew": ("validation", "gates", "skew.json"),
        "evaluation": ("evaluation", "evaluation", "evaluation.json"),
        "mistakes": ("evaluation", "evaluation", "mistakes.json"),
        "infra": ("infra", "infra", "infra.json"),
        "history": ("trainer", "model_run", "history.json"),
        "monitoring": ("trainer", "model_run", "monitoring.json"),
        "lr_finder": ("trainer", "model_run", "lr_finder.json"),
        "trials": ("tuner", "best_hyperparameters", "trials.json"),
        "best": ("tuner", "best_hyperparameters", "best.json"),
        "crossval": ("crossval", "cross_validation", "crossval.json"),
        "pushed": ("push", "pushed", "pushed.json"),
    }
    evidence = {key: found for key, place in files.items() if (found := _read(uris, *place)) is not None}
    if statistics := uris.get(("statistics", "statistics")):
        from .report.statistics import compact

        evidence["statistics"] = compact(statistics)
    evidence["graph"] = [{"id": n.id, "title": n.title, "inputs": _upstream(n)} for n in GRAPH]
    evidence["lineage"] = [row for outcome in outcomes for row in outcome.result.artifacts]
    evidence["command"] = command
    evidence["versions"] = _versions()
    evidence["config_yaml"] = yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    return evidence


def write_atomically(path: Path, text: str) -> None:
    """Write `text` beside `path`, then rename."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _upstream(node: Any) -> list[str]:
    return list(dict.fromkeys([*(edge.node for edge in node.inputs), *node.after]))


def _uris(outcomes: Sequence[NodeOutcome]) -> dict[tuple[str, str], str]:
    return {(o.node.id, name): uri for o in outcomes for name, uri in o.result.outputs.items()}


def _read(uris: dict[tuple[str, str], str], node: str, output: str, name: str) -> Any:
    uri = uris.get((node, output))
    if uri is None:
        return None
    try:
        return json.loads(Path(uri, name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _cross_validation(uris: dict[tuple[str, str], str]) -> dict[str, Any] | None:
    """Return method, number of folds and spread of each metric; None where it was off or not reached."""
    found = _read(uris, "crossval", "cross_validation", "crossval.json") or {}
    if not found.get("folds"):
        return None
    return {
        "method": found["method"],
        "folds": len(found["folds"]),
        "failed": sum("failed" in fold for fold in found["folds"]),
        "metrics": found["metrics"],
    }


def _variants(uris: dict[tuple[str, str], str], pushed: dict[str, Any]) -> list[dict[str, Any]]:
    built = _read(uris, "variants", "variants", "variants.json") or []
    judged = {
        v["name"]: v
        for v in (_read(uris, "evaluation", "evaluation", "evaluation.json") or {}).get("variants", [])
    }
    probed = {v["name"]: v for v in (_read(uris, "infra", "infra", "infra.json") or {}).get("variants", [])}
    targets = {side["variant"]: side["path"] for side in (pushed.get("serving"), pushed.get("lite")) if side}
    rows = []
    for variant in built:
        name = variant["name"]
        found, cost = judged.get(name, {}), probed.get(name, {})
        rows.append(
            {
                **{
                    key: variant.get(key)
                    for key in ("name", "runtime", "size_bytes", "weight_bytes", "state", "reason")
                },
                "metrics": found.get("metrics", {}),
                "intervals": found.get("intervals", {}),
                "slices": [
                    {key: part.get(key) for key in ("keys", "rows", "metrics", "intervals")}
                    for part in found.get("slices", [])
                ],
                "confusion_matrix": found.get("confusion_matrix"),
                "label_matrices": found.get("label_matrices"),
                "per_class": found.get("per_class"),
                "latency_us": cost.get("latency_us"),
                "load_s": cost.get("load_s"),
                "agreement": found.get("agreement"),
                "pushed_to": targets.get(name),
            }
        )
    return rows


def _versions() -> dict[str, str]:
    names = (
        "headrace",
        "tfx",
        "tensorflow",
        "keras",
        "tensorflow-transform",
        "tensorflow-model-analysis",
        "ai-edge-litert",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
