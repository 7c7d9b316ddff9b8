"""Answers as the API's messages."""

from typing import Any

from .core import Answer
from .model_spec import ModelSpec

__all__ = ["fill_classes", "fill_spec", "fill_values"]


def fill_spec(proto: Any, spec: ModelSpec) -> None:
    """Write which version and signature answered."""
    proto.name = spec.name
    proto.signature_name = spec.signature
    if spec.version is not None:
        proto.version.value = spec.version


def fill_classes(result: Any, answer: Answer) -> None:
    """Write labels and scores, [n, k] each, as far as there are any."""
    labels, scores = answer.outputs.get("classes"), answer.outputs.get("scores")
    present = labels if labels is not None else scores
    if present is None:
        return
    for row in range(present.shape[0]):
        classes = result.classifications.add().classes
        for column in range(present.shape[1]):
            entry = classes.add()
            if labels is not None:
                entry.label = labels[row, column].decode("utf-8", errors="replace")
            if scores is not None:
                entry.score = scores[row, column]


def fill_values(result: Any, answer: Answer) -> None:
    """Write one value for each example."""
    for value in answer.outputs["outputs"].reshape(-1).tolist():
        result.regressions.add().value = value
