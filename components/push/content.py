"""What a pushed model consists of, gathered from the artifacts of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.components.sums import JUDGED
from headrace.data.config import CsvOptions
from headrace.data.errors import HeadraceError

from .judged import Judged
from .repository import Source
from .training_keys import pack

__all__ = ["label_of", "lite_files", "model_sha256", "serving_files", "training_keys"]

_EXTRA = "assets.extra"
_SIDECAR = "headrace/preprocessing.json"


def serving_files(judged: Judged, variant: str, label: Mapping[str, Any]) -> dict[str, Source | bytes]:
    """List the files of a TF Serving version.

    Args:
        judged: What was judged.
        variant: Name of a SavedModel variant; float32 is the model's own.
        label: Name, task, classes and decision threshold, for clients.

    Returns:
        Relative POSIX path -> file or content.
    """
    files: dict[str, Source | bytes] = {
        **(
            judged.folder("model", JUDGED["model"])
            if variant == "float32"
            else judged.folder("variants", _variant_path(judged, variant))
        )
    }
    if "saved_model.pb" not in files:
        raise HeadraceError(f"a push needs every part of the model. Received: no saved_model.pb ({variant})")
    files[f"{_EXTRA}/tf_serving_warmup_requests"] = judged.file("infra", "warmup/tf_serving_warmup_requests")
    files[f"{_EXTRA}/headrace_golden.json"] = judged.file("infra", "golden_raw.json")
    files[f"{_EXTRA}/labels.json"] = _encode(label)
    return files


def training_keys(examples: Path) -> bytes | None:
    """Return the keys of the training rows as they travel with a model; None where ingest wrote none."""
    path, split = examples / "keys" / "train.npy", _split(examples)
    return pack(split, np.load(path)) if path.is_file() and split.get("key") else None


def _split(examples: Path) -> Mapping[str, Any]:
    ingest = json.loads((examples / "ingest.json").read_text(encoding="utf-8"))
    found: Mapping[str, Any] = ingest.get("split") or {}
    return found


def lite_files(judged: Judged, variant: str, label: Mapping[str, Any]) -> dict[str, Source | bytes]:
    """List the files of a TF Lite bundle.

    Args:
        judged: What was judged; the transform's `headrace` folder holds sidecar and golden rows.
        variant: Name of a TF Lite variant.
        label: Name, task, classes and decision threshold.

    Returns:
        Relative POSIX path -> file or content.
    """
    path = _variant_path(judged, variant)
    model = path if judged.has("variants", path) else f"{path}/model.tflite"
    return {
        "model.tflite": judged.file("variants", model),
        "preprocessing.json": judged.file("transform_graph", _SIDECAR),
        "labels.json": _encode(label),
        "golden.json": _encode(_lite_golden(judged)),
    }


def label_of(judged: Judged, evaluation: Path, csv: Mapping[str, Any]) -> dict[str, Any]:
    """Return what clients are told beyond a signature: `{name, task, classes, threshold, dates, csv}`.

    `threshold` is the score from which the gates called a row positive (multilabel: one a class); null where
    the largest score decides. `dates`, where there are any, are the columns of dates and their form, "" for
    ISO 8601. `csv` holds what `csv`, the config's `data.csv`, says other than its defaults.
    """
    label: dict[str, Any] = judged.json("transform_graph", "headrace/features.json")["label"]
    found = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    told = label | {"threshold": found.get("label_thresholds") or found.get("threshold")}
    plain = CsvOptions().model_dump(mode="json")
    other = {key: value for key, value in csv.items() if value != plain[key]}
    dates = _dates(judged)
    return told | ({"dates": dates} if dates else {}) | ({"csv": other} if other else {})


def _dates(judged: Judged) -> dict[str, str]:
    """Return column -> form of the dates that a sidecar reads; none where there is no sidecar."""
    if not judged.has("transform_graph", _SIDECAR):
        return {}
    outputs = judged.json("transform_graph", _SIDECAR)["outputs"]
    return {one["column"]: one.get("format", "") for one in outputs if one["op"].startswith("date_")}


def _lite_golden(judged: Judged) -> dict[str, Any]:
    """Join golden rows and transformed values with the outputs expected for them."""
    rows: Mapping[str, Any] = judged.json("transform_graph", "headrace/golden.json")
    expected: Mapping[str, Any] = judged.json("infra", "golden_raw.json")
    if expected["inputs"] != rows["inputs"]:
        raise HeadraceError(
            "golden outputs must belong to the golden rows of the transform. "
            f"Received: {len(expected['inputs'])} other rows (golden_raw.json)"
        )
    return {"inputs": rows["inputs"], "transformed": rows["transformed"], "outputs": expected["outputs"]}


def model_sha256(judged: Judged, variant: str) -> str | None:
    """Return the digest of what a variant computes; None of one that was built before there were any."""
    entries: list[Mapping[str, Any]] = judged.json("variants", "variants.json")
    return next((entry.get("model_sha256") for entry in entries if entry["name"] == variant), None) or None


def _variant_path(judged: Judged, name: str) -> str:
    entries: list[Mapping[str, Any]] = judged.json("variants", "variants.json")
    for entry in entries:
        if entry["name"] == name and entry.get("path"):
            return str(entry["path"])
    built = ", ".join(str(entry["name"]) for entry in entries if entry.get("path")) or "none"
    raise HeadraceError(f"a pushed variant must have been built: {built}. Received: {name}")


def _encode(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
