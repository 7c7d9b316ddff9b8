"""Our TFMA files against TFMA itself: run by its own evaluator on Beam's in-process runner."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from apache_beam.runners.portability import fn_api_runner
from tensorflow_model_analysis.extractors import slice_key_extractor, unbatch_extractor
from tensorflow_model_analysis.metrics import metric_specs, metric_types

from headrace.components.evaluation import tfma as subject
from headrace.components.evaluation.cross_check import compare, row_inputs, run_tfma
from headrace.components.evaluation.judge import Judge
from headrace.components.evaluation.record import checked_labels, key_text, make_record, tfma_values
from headrace.components.evaluation.slices import make_slices
from headrace.components.evaluation.tfma import write_tfma
from headrace.components.evaluation.tfma_merging import merging_config

ROWS = 120
SPECS = (("colour",), ("size",), ("colour", "size"))

# TFMA 0.52 divides 0 by 0 where two thresholds share their counts, and reads its own files with a
# deprecated function.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


def make_judge(task: Any, *, weighted: bool = False) -> tuple[Judge, np.ndarray, dict[str, np.ndarray]]:
    """Build rows of a task, predictions for them, and the text of their slices."""
    random = np.random.default_rng(4)
    texts = {
        "colour": np.array(["red", "green"], object)[random.integers(0, 2, ROWS)],
        "size": np.array(["1", "2", "3"], object)[random.integers(0, 3, ROWS)],
    }
    weights = random.integers(1, 4, ROWS) / 2 if weighted else np.ones(ROWS)
    if task == "regression":
        labels = random.normal(3, 1, ROWS)
        classes: tuple[str, ...] = ()
        predictions = (labels + random.normal(size=ROWS)).astype(np.float32)
    elif task == "multilabel":
        classes = ("a", "b", "c")
        predictions = random.random((ROWS, 3)).astype(np.float32)
        labels = (random.random((ROWS, 3)) < predictions).astype(np.int64)
    else:
        classes = ("n", "y") if task == "binary" else ("a", "b", "c")
        predictions = random.dirichlet(np.ones(len(classes)), ROWS).astype(np.float32)
        labels = np.where(
            random.random(ROWS) < 0.5, predictions.argmax(1), random.integers(0, len(classes), ROWS)
        )
    if task == "binary":
        predictions[:3] = [[0, 1], [1, 0], [0.7, 0.3]]  # the ends, and one on the threshold
    threshold = float(np.float32(0.3)) if task == "binary" else None
    slices = make_slices(texts, SPECS)
    limits = (0.3, 0.5, 0.7) if task == "multilabel" else ()
    judge = Judge(task, classes, labels, weights, slices, threshold, None, 10, 0, limits)
    return judge, predictions, texts


def run_on_beam(
    config: Any, judge: Judge, predictions: np.ndarray, texts: dict[str, np.ndarray], out: Path
) -> None:
    """Let TFMA's own pipeline evaluate."""
    scores = predictions.astype(float)
    if judge.task != "regression":
        scores = np.clip(scores, 1e-7, 1 - 1e-7)
    extracts: dict[str, Any] = {
        "features": {name: np.array([v.encode() for v in values], object) for name, values in texts.items()},
        "labels": judge.labels if judge.task == "multiclass" else judge.labels.astype(float),
        "predictions": scores[:, 1] if judge.task == "binary" else scores,
    }
    if config.model_specs[0].example_weight_key:
        extracts["example_weights"] = judge.weights
    extractors = [
        unbatch_extractor.UnbatchExtractor(),
        slice_key_extractor.SliceKeyExtractor(eval_config=config, materialize=False),
    ]
    with beam.Pipeline(runner=fn_api_runner.FnApiRunner()) as pipeline:
        examples = pipeline | beam.Create([extracts], reshuffle=False)
        _ = examples | tfma.ExtractEvaluateAndWriteResults(
            eval_config=config, extractors=extractors, output_path=str(out)
        )


def flat(value: Any, path: str = "") -> dict[str, float]:
    """Return every number of a loaded result by its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for n, item in enumerate(value) for k, v in flat(item, f"{path}/{n}").items()}
    return {} if value is None else {path: float(value)}


def loaded(folder: Path) -> dict[Any, dict[str, float]]:
    """Open a result as TFMA's views do: slice -> numbers of metrics and plots."""
    result = tfma.load_eval_result(str(folder))
    found: dict[Any, dict[str, float]] = {}
    for kind in (result.slicing_metrics, result.plots):
        for key, values in kind:
            found.setdefault(key, {}).update(flat(values))
    return found


@pytest.mark.parametrize(
    ("task", "weighted"),
    [("binary", False), ("binary", True), ("multiclass", True), ("multilabel", True), ("regression", True)],
)
def test_files_hold_what_tfma_writes(task: str, weighted: bool, tmp_path: Path) -> None:
    judge, predictions, texts = make_judge(task, weighted=weighted)
    record = make_record(judge, SPECS, weighted=weighted)
    run_on_beam(record.config, judge, predictions, texts, tmp_path / "beam")
    results = [{"name": name, **judge.judge(predictions, None)} for name in ("float32", "other")]
    both = {"float32": predictions, "other": predictions}
    outcome = write_tfma(str(tmp_path), judge, SPECS, results, both, ("examples", str), weighted=weighted)
    assert outcome["state"] == "PASS", outcome
    assert (outcome["rows"], outcome["slices"]) == (ROWS, 11)
    expected = loaded(tmp_path / "beam")
    assert len(expected) == 12
    for variant in ("float32", "other"):  # TFMA's code without Beam; our numpy
        found = loaded(tmp_path / variant)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            shared = {name: found[key].get(name) for name in values}
            assert shared == pytest.approx(values, rel=1e-5, abs=1e-6, nan_ok=True), (variant, key)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_parts_of_the_rows_merge_to_the_whole(task: str) -> None:
    judge, predictions, _ = make_judge(task, weighted=True)
    config = merging_config(make_record(judge, SPECS, weighted=True).config)
    inputs = row_inputs(judge, predictions, weighted=True)
    results: list[dict[Any, Any]] = [{}, {}]
    for one in metric_specs.to_computations(list(config.metrics_specs), eval_config=config):
        if isinstance(one, metric_types.MetricComputation):
            one.combiner.setup()
            whole, *parts = (
                one.combiner.add_inputs(one.combiner.create_accumulator(), rows)
                for rows in (inputs, inputs[:20], inputs[20:70], inputs[70:])
            )
            # A tuple, as Beam hands over what several workers counted.
            merged = one.combiner.merge_accumulators(tuple(parts))
            for values, accumulator in zip(results, (whole, merged), strict=True):
                values.update(one.combiner.extract_output(accumulator))
        else:
            for values in results:
                values.update(one.result(values))
    expected, found = (
        {key_text(key): value for key, value in values.items() if not key.name.startswith("_")}
        for values in results
    )
    assert compare(found, expected, len(judge.classes))[0] < 1e-6


def test_a_wrong_number_is_found() -> None:
    judge, predictions, _ = make_judge("binary")
    record = make_record(judge, SPECS, weighted=False)
    rows = np.arange(ROWS)
    (theirs,) = run_tfma(record, judge, predictions, [rows], weighted=False)
    ours = tfma_values(judge, predictions, rows, {})
    assert compare(ours, theirs, 2)[0] < 1e-9
    assert compare(ours | {"auc": ours["auc"] + 0.01}, theirs, 2) == (pytest.approx(0.01), "auc")
    shifted = tfma_values(replace(judge, threshold=0.5), predictions, rows, {})
    assert compare(shifted, theirs, 2)[0] > 0.1
    missing = {name: value for name, value in ours.items() if name != "recall"}
    assert compare(missing, theirs, 2) == (float("inf"), "recall")


def test_disagreement_is_a_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, predictions, _ = make_judge("binary")

    def wrong(*args: Any) -> dict[str, Any]:
        values = tfma_values(*args)
        return values | {"recall": values["recall"] + 0.25}

    monkeypatch.setattr(subject, "tfma_values", wrong)
    results = [{"name": "float32", **judge.judge(predictions, None)}]
    outcome = write_tfma(
        str(tmp_path), judge, SPECS, results, {"float32": predictions}, ("e", str), weighted=False
    )
    assert outcome["state"] == "FAIL"
    assert "differ by 0.25 in recall" in outcome["reason"]
    assert outcome["max_abs_diff"] == pytest.approx(0.25)


def test_many_rows_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_MOST_ROWS", 40)
    judge, predictions, _ = make_judge("multiclass")
    results = [{"name": "float32", **judge.judge(predictions, None)}]
    outcome = write_tfma(
        str(tmp_path), judge, SPECS, results, {"float32": predictions}, ("e", str), weighted=False
    )
    assert (outcome["state"], outcome["rows"]) == ("PASS", 40)
    whole = loaded(tmp_path / "float32")[()]
    assert whole["///example_count/doubleValue"] == ROWS


def test_without_float32_nothing_is_checked(tmp_path: Path) -> None:
    judge, _, _ = make_judge("binary")
    assert write_tfma(str(tmp_path), judge, SPECS, [], {}, ("e", str), weighted=False)["state"] == "SKIPPED"


def test_of_many_labels_some_are_checked(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scores = random.random((60, 33)).astype(np.float32)
    labels = (random.random((60, 33)) < scores).astype(np.int64)
    judge = Judge(
        "multilabel", tuple(map(str, range(33))), labels, np.ones(60), (), None, None, 10, 0, (0.5,) * 33
    )
    numbers = [number for number, _ in checked_labels(judge)]
    assert (len(numbers), numbers[0], numbers[-1]) == (20, 0, 32)
    results = [{"name": "float32", **judge.judge(scores, None)}]
    outcome = write_tfma(str(tmp_path), judge, (), results, {"float32": scores}, ("e", str), weighted=False)
    assert outcome["state"] == "PASS", outcome
    assert outcome["reason"].endswith("on 60 rows and 0 slices, 20 of 33 labels.")
    assert checked_labels(make_judge("binary")[0]) == []
