"""Predict rows with a pushed TF Lite bundle."""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.data.errors import ConfigError

__all__ = ["find_bundle", "predict_lines"]


def find_bundle(path: str) -> Path:
    """Return the bundle at `path`: the folder itself, or its highest version.

    Raises:
        ConfigError: If there is none.
    """
    folder = Path(path)
    if (folder / "model.tflite").exists():
        return folder
    versions = [
        child for child in folder.glob("*") if child.name.isdigit() and (child / "model.tflite").exists()
    ]
    if not versions:
        raise ConfigError(
            f"a bundle must be a folder with model.tflite, or hold versions of one. Received: {path}"
        )
    return max(versions, key=lambda child: int(child.name))


@contextmanager
def _without_notices() -> Iterator[None]:
    """Drop LiteRT's INFO lines; whatever else is written to stderr comes through afterwards.

    Its C++ logger heeds no environment variable and writes to the file descriptor, past `sys.stderr`.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)


def predict_lines(path: str, lines: Iterable[str]) -> Iterator[str]:
    """Return one JSON object a row: `scores` by class or `output`, and the class at the judged threshold.

    Args:
        path: Bundle folder, or a folder of its versions.
        lines: JSON objects, column -> value; missing columns are missing values.

    Raises:
        ConfigError: If a line is no JSON object or a value does not fit.
    """
    from headrace.serving.decision import decide
    from headrace.serving.lite import LiteModel

    model = LiteModel.load(str(find_bundle(path)))
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"each line must be a JSON object. Received: {line.strip()[:80]} (line {number}: {error})"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(
                f"each line must be a JSON object. Received: {line.strip()[:80]} (line {number})"
            )
        rows.append(row)
    if not rows:
        return
    with _without_notices():
        result = model.predict(rows)
    if "scores" in result:
        classes = [str(name) for name in result["classes"][0]]
        for scores in result["scores"]:
            several = model.label["task"] == "multilabel"
            (decided,) = decide([scores], model.label)
            yield json.dumps(
                {
                    "classes" if several else "class": decided,
                    "scores": {c: round(float(s), 6) for c, s in zip(classes, scores, strict=True)},
                }
            )
    else:
        for value in result["outputs"]:
            yield json.dumps({"output": float(value)})
