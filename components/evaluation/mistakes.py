"""The rows that a model gets most wrong, with their raw values, for people to look at."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .judge import Judge
from .metrics import row_log_loss
from .rows import ExampleFiles

__all__ = ["Pixels", "find_mistakes", "pixels_of"]

_ROWS = 24
_COLUMNS = 12
_TEXT = 400  # characters
_POINTS = 100  # steps of a series
_SIDE = 96  # pixels of a thumbnail
_THUMBNAILS = 180_000  # characters of all thumbnails together

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Pixels:
    """A list of numbers that is a picture.

    Attributes:
        height: Rows.
        width: Columns.
        max_value: The number that means white.
    """

    height: int
    width: int
    max_value: float


def pixels_of(preprocessing: Json) -> dict[str, Pixels]:
    """Return the `floats` columns that are pictures.

    Args:
        preprocessing: Content of preprocessing.json.
    """
    return {
        str(output["column"]): Pixels(**output["pixels"])
        for output in preprocessing.get("outputs", ())
        if output.get("op") == "picture" and output.get("pixels")
    }


def find_mistakes(
    judge: Judge,
    predictions: np.ndarray,
    files: ExampleFiles,
    names: Sequence[str],
    pixels: Mapping[str, Pixels],
) -> dict[str, Any]:
    """Return the worst mistakes, as docs/artifacts.md describes mistakes.json.

    Args:
        judge: Labels and thresholds.
        predictions: `[rows, classes]`, or `[rows]` for regression.
        files: Where the raw rows are.
        names: Raw columns that the model reads; of many only the first are shown, pictures, series and
            texts before numbers.
        pixels: Lists that are pictures.
    """
    wrong, loss = _losses(judge, predictions.astype(np.float64))
    worst = wrong[np.argsort(-loss[wrong], kind="stable")][:_ROWS]
    shown = {name: _kind(files.types[name], name in pixels) for name in names}
    order = ("image", "series", "text", "number")
    kept = sorted(shown, key=lambda name: order.index(shown[name]))[:_COLUMNS]
    ascending = np.sort(worst)
    picked = files.pick(kept, ascending)
    left = _THUMBNAILS
    rows = []
    for row in worst:
        place = int(np.searchsorted(ascending, row))
        values = {}
        for name in kept:
            value = _shown(picked[name][place].as_py(), shown[name], pixels.get(name))
            if shown[name] == "image" and value is not None:
                value = value if len(value) <= left else None
                left -= len(value or "")
            values[name] = value
        answer = _answer(judge, predictions[row], int(row))
        rows.append({"row": int(row), **answer, "loss": float(loss[row]), "values": values})
    return {"total": len(wrong), "columns": {name: shown[name] for name in kept}, "rows": rows}


def _losses(judge: Judge, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are wrong, and how wrong every row is (regression: |error|; else log loss)."""
    labels = judge.labels
    if judge.task == "regression":
        loss = np.abs(predictions - labels)
        return np.flatnonzero(loss > 0), loss
    if judge.task == "multilabel":
        given, wanted = predictions >= np.array(judge.label_thresholds), labels == 1
        each = row_log_loss(np.where(wanted, predictions, 1 - predictions))
        loss = np.where(given != wanted, each, 0.0).max(1)
        return np.flatnonzero((given != wanted).any(1)), loss
    decided = predictions.argmax(1)
    if judge.threshold is not None:
        decided = (predictions[:, 1] >= judge.threshold).astype(np.int64)
    return np.flatnonzero(decided != labels), row_log_loss(predictions[np.arange(len(labels)), labels])


def _answer(judge: Judge, prediction: np.ndarray, row: int) -> dict[str, Any]:
    """Return what is true of a row, what was predicted, and the probabilities of both."""
    label = judge.labels[row]
    if judge.task == "regression":
        return {"label": float(label), "predicted": float(prediction), "score": None, "label_score": None}
    if judge.task == "multilabel":
        given = prediction.astype(np.float64) >= np.array(judge.label_thresholds)
        return {
            "label": [name for name, is_true in zip(judge.classes, label, strict=True) if is_true],
            "predicted": [name for name, is_given in zip(judge.classes, given, strict=True) if is_given],
            "score": None,
            "label_score": None,
        }
    decided = int(prediction.argmax())
    if judge.threshold is not None:
        decided = int(float(prediction[1]) >= judge.threshold)
    return {
        "label": judge.classes[label],
        "predicted": judge.classes[decided],
        "score": float(prediction[decided]),
        "label_score": float(prediction[label]),
    }


def _kind(type_: str, is_picture: bool) -> str:
    if type_ == "image" or is_picture:
        return "image"
    return {"floats": "series", "string": "text"}.get(type_, "number")


def _shown(value: Any, kind: str, pixels: Pixels | None) -> Any:
    """Return a value as JSON holds it: a data URI, a short list, a short text or a number; None: missing."""
    if value is None:
        return None
    if kind == "image":
        return _thumbnail(value, pixels)
    if kind == "series":
        return _thinned(value)
    if kind == "text":
        return value if len(value) <= _TEXT else value[: _TEXT - 1] + "…"
    return value if math.isfinite(value) else None


def _thinned(values: Sequence[float | None]) -> list[float | None]:
    """Return at most 100 evenly spaced steps, to six digits."""
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int))
    steps = [values[place] for place in places]
    return [float(f"{v:.6g}") if v is not None and math.isfinite(v) else None for v in steps]


def _thumbnail(value: Any, pixels: Pixels | None) -> str | None:
    """Return a small picture as a data URI, or None where it cannot be drawn."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(value)) if pixels is None else _drawn(value, pixels)
        picture = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        picture.thumbnail((_SIDE, _SIDE))
    except (OSError, SyntaxError, ValueError):  # Pillow raises SyntaxError for a damaged PNG
        return None
    stream = io.BytesIO()
    small = max(picture.size) <= 40
    picture.save(stream, "PNG", optimize=True) if small else picture.save(stream, "JPEG", quality=75)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _drawn(values: Sequence[float | None], pixels: Pixels) -> Any:
    """Return a row of pixels as a picture, grey or RGB."""
    from PIL import Image

    table = np.nan_to_num(np.array(values, np.float64)).reshape(pixels.height, pixels.width, -1)
    bytes_ = np.clip(table / pixels.max_value * 255, 0, 255).round().astype(np.uint8)
    return Image.fromarray(bytes_[:, :, 0] if bytes_.shape[2] != 3 else bytes_)
