"""What the outputs of a model mean: its task, its classes, and the threshold that the gates judged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.data.errors import ConfigError

from ..decision import decide
from ..manifest import CheckSums, check_content
from .csv_form import CsvForm
from .predictions import Predictions

__all__ = ["Labelled", "Labels", "Threshold", "read_labels"]

Array = np.ndarray[Any, Any]
Threshold = float | Sequence[float] | None
_EXTRA = "assets.extra"
_TASKS = ("binary", "multiclass", "multilabel", "regression")
_SUM_TOLERANCE = 1e-3
"""How far the scores of one row may be from 1 in sum, quantized models included."""


@dataclass(frozen=True)
class Labels:
    """How outputs become labelled results.

    Attributes:
        label: Content of labels.json; None where it is not known.
        source: Where it comes from, for `decided_by`.
        threshold: One that goes before it.
    """

    label: Mapping[str, Any] | None = None
    source: str = "labels.json"
    threshold: Threshold = None

    @property
    def dates(self) -> Mapping[str, str]:
        """Column of dates -> their form, "" for ISO 8601, as far as it is known."""
        return dict((self.label or {}).get("dates") or {})

    @property
    def csv(self) -> CsvForm:
        """How delimited text of the model's data is read, as far as it is known.

        Raises:
            ConfigError: If the labels tell what cannot be.
        """
        return CsvForm.of((self.label or {}).get("csv"), self.source)

    def predictions(self, outputs: Mapping[str, Array], version: int | None) -> Predictions:
        """Return outputs as results.

        Args:
            outputs: `scores` `[rows, K]` and, where the classes are not known, `classes` `[rows, K]`; or
                `outputs` `[rows]`.
            version: Version that answered.

        Raises:
            ConfigError: If there are no such outputs, or they do not fit the labels.
        """
        if "scores" in outputs and np.ndim(outputs["scores"]) == 2:
            return self._classified(
                np.asarray(outputs["scores"], np.float32), outputs.get("classes"), version
            )
        if "outputs" in outputs:
            values = np.asarray(outputs["outputs"], np.float32).reshape(-1)
            return Predictions("regression", (), None, values, (), "the model's value", version)
        raise ConfigError(
            "labelled results need outputs `scores` [rows, classes] or `outputs` [rows]. "
            f"Received: {', '.join(sorted(outputs))}",
            "`run` returns the outputs of any signature as they are",
        )

    def _classified(self, scores: Array, named: Array | None, version: int | None) -> Predictions:
        label = dict(self.label) if self.label is not None else _guessed(scores, named)
        classes = tuple(str(name) for name in label["classes"] or ())
        if len(classes) != scores.shape[1]:
            raise ConfigError(
                f"labels must name the classes of the model. Received: {len(classes)} names for "
                f"{scores.shape[1]} scores ({self.source})"
            )
        label["classes"] = classes
        if self.threshold is not None:
            label["threshold"] = _checked(self.threshold, label)
        return Predictions(
            label["task"], classes, scores, None, tuple(decide(scores, label)), self._rule(label), version
        )

    def _rule(self, label: Mapping[str, Any]) -> str:
        threshold = label.get("threshold")
        if self.threshold is not None:
            return f"threshold {_shown(threshold)}, as given"
        if self.label is None and label["task"] == "binary":
            return "largest score, since the server tells no threshold (labels= or threshold= gives it)"
        if threshold is not None:
            return f"threshold {_shown(threshold)} of {self.source}"
        return "threshold 0.5" if label["task"] == "multilabel" else "largest score"


class Labelled:
    """What every client tells of its model's labels."""

    _labels: Labels

    @property
    def dates(self) -> Mapping[str, str]:
        """Column of dates -> their form, "" for ISO 8601, as far as the labels tell."""
        return self._labels.dates

    @property
    def csv(self) -> CsvForm:
        """How delimited text of the model's data is read, as far as the labels tell."""
        return self._labels.csv


def read_labels(
    given: str | Path | Mapping[str, Any], check_sums: CheckSums = "present"
) -> tuple[dict[str, Any], str]:
    """Return the content of labels.json and where it was found.

    Args:
        given: The content; the file; or a version folder of either side of a push, or of its model.
        check_sums: What is asked of the manifest.json of a file's version.

    Raises:
        ConfigError: If there is none.
        EnvironmentProblem: If the file is not as the manifest says.
    """
    if isinstance(given, Mapping):
        return _valid(dict(given), "labels="), "labels="
    path = Path(given)
    if path.is_dir():
        numbers = [child for child in path.iterdir() if child.name.isdecimal()]
        folder = max(numbers, key=lambda child: int(child.name)) if numbers else path
        places = (folder / "labels.json", folder / _EXTRA / "labels.json")
        path = next((place for place in places if place.is_file()), places[0])
    try:
        content = path.read_bytes()
        file = path.absolute()
        folder = file.parent.parent if file.parent.name == _EXTRA else file.parent
        check_content(folder, file.relative_to(folder).as_posix(), content, check_sums)
        found = json.loads(content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"labels must be a labels.json. Received: {path} ({reason})") from error
    return _valid(found, str(path)), path.name


def _valid(found: Any, place: str) -> dict[str, Any]:
    if not isinstance(found, dict) or found.get("task") not in _TASKS or "classes" not in found:
        raise ConfigError(
            f"labels must be an object with `task` ({', '.join(_TASKS)}) and `classes`. "
            f"Received: {json.dumps(found, default=str)[:80]} ({place})"
        )
    return found


def _guessed(scores: Array, named: Array | None) -> dict[str, Any]:
    """Return labels from an answer alone."""
    if named is None:
        raise ConfigError(
            "labelled results need class names. Received: scores without `classes`", "give labels="
        )
    if len(scores) and np.abs(scores.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        raise ConfigError(
            "where no labels are given, the scores of a row must sum to 1. "
            f"Received: a row that sums to {float(scores.sum(axis=1)[0]):.4g}",
            "of a multilabel model give labels=: its labels.json, or the version folder that holds it",
        )
    first = np.asarray(named).reshape(-1, scores.shape[1])[:1]
    classes = [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in first.flat
    ]
    return {"task": "binary" if len(classes) == 2 else "multiclass", "classes": classes, "threshold": None}


def _checked(threshold: Threshold, label: Mapping[str, Any]) -> Any:
    task, classes = label["task"], label["classes"]
    if task == "binary" and isinstance(threshold, int | float):
        return threshold
    if task == "multilabel":
        given = np.asarray(threshold, np.float64)
        if given.shape in ((), (len(classes),)):
            return np.broadcast_to(given, (len(classes),)).tolist()
    raise ConfigError(
        "`threshold` must be a number for two classes, and for a multilabel model a number or one a class. "
        f"Received: {threshold!r} for {len(classes)} classes of a {task} model"
    )


def _shown(threshold: Any) -> str:
    return f"{threshold:.4g}" if isinstance(threshold, int | float) else "by class"
