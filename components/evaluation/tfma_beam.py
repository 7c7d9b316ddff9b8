"""TFMA's own evaluation as a Beam job: all rows and all slices, on an engine that spreads the work."""

import itertools
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors import slice_key_extractor, unbatch_extractor

from headrace.components.beam_job import beam_job
from headrace.components.whole_file import whole_file

from .judge import Judge
from .record import Record, Values, clip_scores, key_text
from .tfma_merging import merging_config

__all__ = ["BeamSide", "evaluate_on_beam"]

_CHUNK_ROWS = 16_384
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class BeamSide:
    """What an evaluation on Beam needs besides the judge.

    Attributes:
        texts: Column -> object array `[rows]` of the text that slices are named by.
        temp_dir: For predictions and results; workers must see it at the same path.
        runner: Name of the engine.
        args: Beam pipeline options.
    """

    texts: Mapping[str, np.ndarray]
    temp_dir: str
    runner: str
    args: Sequence[str]


def evaluate_on_beam(
    record: Record,
    judge: Judge,
    predictions: np.ndarray,
    slices: Sequence[Mapping[str, str]],
    side: BeamSide,
    *,
    weighted: bool,
) -> list[Values]:
    """Compute every metric and plot of the record with TFMA's own pipeline.

    Args:
        record: TFMA's computations.
        judge: Labels and weights.
        predictions: `[rows, classes]`, or `[rows]` for regression.
        slices: Keys of each slice; empty for all rows.
        side: Texts, scratch folder and engine.
        weighted: Whether rows have weights.

    Returns:
        For each slice, TFMA's metric or plot name (`record.key_text`) -> value.
    """
    folder = os.path.join(side.temp_dir, "tfma")
    os.makedirs(folder, exist_ok=True)
    chunks = list(_write_chunks(folder, _extracts(judge, predictions, side.texts, weighted=weighted)))
    extractors = [
        unbatch_extractor.UnbatchExtractor(),
        slice_key_extractor.SliceKeyExtractor(eval_config=record.config, materialize=False),
    ]
    results = os.path.join(folder, "results")
    os.makedirs(results, exist_ok=True)
    writer = tfma.writers.Writer("WriteValues", _WriteValues(results))
    with beam_job(side.args, side.runner) as pipeline:
        examples = pipeline | "Chunks" >> beam.Create(chunks) | "Load" >> beam.FlatMap(_load)
        _ = examples | tfma.ExtractEvaluateAndWriteResults(
            eval_config=merging_config(record.config), extractors=extractors, writers=[writer]
        )
    found: dict[tuple[tuple[str, str], ...], Values] = {}
    for kind in ("metrics", "plots"):
        for key, values in pickle.loads(Path(results, kind).read_bytes()):
            kept = {key_text(name): value for name, value in values.items() if not name.name.startswith("_")}
            found.setdefault(_slice_name(key), {}).update(kept)
    return [found[tuple(sorted(keys.items()))] for keys in slices]


def _extracts(
    judge: Judge, predictions: np.ndarray, texts: Mapping[str, np.ndarray], *, weighted: bool
) -> dict[str, Any]:
    """Return what TFMA's extractors would have made of the rows, `[rows, ...]` each."""
    scores = predictions.astype(np.float64) if judge.task == "regression" else clip_scores(predictions)
    extracts: dict[str, Any] = {
        "features": {
            name: np.array([value.encode() for value in values], object) for name, values in texts.items()
        },
        "labels": judge.labels.astype(np.int64 if judge.task == "multiclass" else np.float64),
        "predictions": scores[:, 1] if judge.task == "binary" else scores,
    }
    if weighted:
        extracts["example_weights"] = judge.weights
    return extracts


def _write_chunks(folder: str, extracts: Mapping[str, Any]) -> Iterator[str]:
    """Write the rows to files, so that a job carries their names alone."""
    rows = len(extracts["labels"])
    for number, start in enumerate(range(0, rows, _CHUNK_ROWS)):
        path = os.path.join(folder, f"rows-{number:05d}.pickle")
        part = _sliced(extracts, start, min(start + _CHUNK_ROWS, rows))
        Path(path).write_bytes(pickle.dumps(part))
        yield path


def _sliced(extracts: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {
        name: _sliced(values, start, stop) if isinstance(values, Mapping) else values[start:stop]
        for name, values in extracts.items()
    }


def _load(path: str) -> Iterator[dict[str, Any]]:
    chunk = pickle.loads(Path(path).read_bytes())
    limits = [*range(0, len(chunk["labels"]), _BATCH_ROWS), len(chunk["labels"])]
    for start, stop in itertools.pairwise(limits):
        yield _sliced(chunk, start, stop)


class _WriteValues(beam.PTransform):
    """Writes the values of all slices to one file for metrics and one for plots."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def expand(self, evaluation: Mapping[str, Any]) -> Any:
        """Gather each kind of value."""
        for kind in ("metrics", "plots"):
            gathered = evaluation[kind] | f"Gather {kind}" >> beam.combiners.ToList()
            _ = gathered | f"Write {kind}" >> beam.Map(_write, os.path.join(self._folder, kind))
        return beam.pvalue.PDone(evaluation["metrics"].pipeline)


def _write(values: list[Any], path: str) -> None:
    with whole_file(path) as scratch:
        Path(scratch).write_bytes(pickle.dumps(values))


def _slice_name(key: Any) -> tuple[tuple[str, str], ...]:
    """Return TFMA's key of a slice as sorted pairs of text."""
    return tuple(
        sorted(
            (str(column), value.decode() if isinstance(value, bytes) else str(value)) for column, value in key
        )
    )
