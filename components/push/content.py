"""What a pushed model consists of, gathered from the artifacts of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.data.config import CsvOptions
from headrace.data.errors import HeadraceError

__all__ = ["label_of", "lite_files", "serving_files"]

_EXTRA = "assets.extra"


def serving_files(
    model: Path, variants: Path, infra: Path, variant: str, label: Mapping[str, Any]
) -> dict[str, Path | bytes]:
    """List the files of a TF Serving version.

    Args:
        model: The model artifact; float32 is its `Format-Serving`.
        variants: The variants artifact, for any other variant.
        infra: The infra artifact: golden values and warm-up requests.
        variant: Name of a SavedModel variant.
        label: Name, task, classes and decision threshold, for clients.

    Returns:
        Relative POSIX path -> file or content.
    """
    root = model / "Format-Serving" if variant == "float32" else variants / _variant_path(variants, variant)
    files: dict[str, Path | bytes] = {
        path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()
    }
    _require(root / "saved_model.pb")
    files[f"{_EXTRA}/tf_serving_warmup_requests"] = _require(infra / "warmup" / "tf_serving_warmup_requests")
    files[f"{_EXTRA}/headrace_golden.json"] = _require(infra / "golden_raw.json")
    files[f"{_EXTRA}/labels.json"] = _encode(label)
    return files


def lite_files(
    transform_graph: Path, variants: Path, infra: Path, variant: str, label: Mapping[str, Any]
) -> dict[str, Path | bytes]:
    """List the files of a TF Lite bundle.

    Args:
        transform_graph: The transform artifact, whose `headrace` folder holds sidecar and golden rows.
        variants: The variants artifact.
        infra: The infra artifact: golden outputs.
        variant: Name of a TF Lite variant.
        label: Name, task, classes and decision threshold.

    Returns:
        Relative POSIX path -> file or content.
    """
    sidecars = transform_graph / "headrace"
    model = variants / _variant_path(variants, variant)
    if model.is_dir():
        model = model / "model.tflite"
    return {
        "model.tflite": _require(model),
        "preprocessing.json": _require(sidecars / "preprocessing.json"),
        "labels.json": _encode(label),
        "golden.json": _encode(_lite_golden(sidecars / "golden.json", infra)),
    }


def label_of(transform_graph: Path, evaluation: Path, csv: Mapping[str, Any]) -> dict[str, Any]:
    """Return what clients are told beyond a signature: `{name, task, classes, threshold, dates, csv}`.

    `threshold` is the score from which the gates called a row positive (multilabel: one a class); null where
    the largest score decides. `dates`, where there are any, are the columns of dates and their form, "" for
    ISO 8601. `csv` holds what `csv`, the config's `data.csv`, says other than its defaults.
    """
    dates = _dates(transform_graph / "headrace" / "preprocessing.json")
    label: dict[str, Any] = _read_json(transform_graph / "headrace" / "features.json")["label"]
    judged = _read_json(evaluation / "evaluation.json")
    told = label | {"threshold": judged.get("label_thresholds") or judged.get("threshold")}
    plain = CsvOptions().model_dump(mode="json")
    other = {key: value for key, value in csv.items() if value != plain[key]}
    return told | ({"dates": dates} if dates else {}) | ({"csv": other} if other else {})


def _dates(sidecar: Path) -> dict[str, str]:
    """Return column -> form of the dates that a sidecar reads; none where there is no sidecar."""
    if not sidecar.is_file():
        return {}
    outputs = _read_json(sidecar)["outputs"]
    return {one["column"]: one.get("format", "") for one in outputs if one["op"].startswith("date_")}


def _lite_golden(golden: Path, infra: Path) -> dict[str, Any]:
    """Join golden rows and transformed values with the outputs expected for them."""
    rows: Mapping[str, Any] = _read_json(golden)
    outputs = infra / "golden_lite.json"
    if not outputs.is_file():
        outputs = infra / "golden_raw.json"
    expected: Mapping[str, Any] = _read_json(outputs)
    inputs = expected.get("inputs")
    if inputs is not None and inputs != rows["inputs"]:
        raise HeadraceError(
            "golden outputs must belong to the golden rows of the transform. "
            f"Received: {len(inputs)} other rows ({outputs})"
        )
    return {"inputs": rows["inputs"], "transformed": rows["transformed"], "outputs": expected["outputs"]}


def _variant_path(variants: Path, name: str) -> str:
    entries: list[Mapping[str, Any]] = _read_json(variants / "variants.json")
    for entry in entries:
        if entry["name"] == name and entry.get("path"):
            return str(entry["path"])
    built = ", ".join(str(entry["name"]) for entry in entries if entry.get("path")) or "none"
    raise HeadraceError(f"a pushed variant must have been built: {built}. Received: {name}")


def _require(path: Path) -> Path:
    if not path.is_file():
        raise HeadraceError(f"a push needs every part of the model. Received: no {path.name} ({path})")
    return path


def _read_json(path: Path) -> Any:
    return json.loads(_require(path).read_text(encoding="utf-8"))


def _encode(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
