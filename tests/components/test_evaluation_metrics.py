"""Metrics, curves and intervals against scikit-learn and hand counts."""

import numpy as np
import pytest
from sklearn import metrics as sk

from headrace.components.evaluation.bootstrap import Resampler
from headrace.components.evaluation.curves import binary_curves, counts_over_thresholds, residuals
from headrace.components.evaluation.judge import Judge, agreement
from headrace.components.evaluation.metrics import (
    binary_metrics,
    class_table,
    expected_cost,
    max_f1_threshold,
    min_cost_threshold,
    multiclass_metrics,
    rank,
    regression_metrics,
)
from headrace.components.evaluation.multilabel import multilabel_metrics
from headrace.components.evaluation.slices import Slice, make_slices
from headrace.components.evaluation.thresholds import cost_matrix
from headrace.data.errors import ConfigError


def binary_rows(rows: int = 500, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with ties, and weights."""
    random = np.random.default_rng(seed)
    scores = np.round(random.random(rows), 2)
    return random.random(rows) < scores, scores, random.random(rows) * 3


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_metrics_match_scikit_learn(weighted: bool) -> None:
    positive, scores, weights = binary_rows()
    weights = weights if weighted else np.ones(len(scores))
    found, matrix, _ = binary_metrics(positive, scores, weights, 0.4)
    flagged = scores >= 0.4
    expected = {
        "accuracy": sk.accuracy_score(positive, flagged, sample_weight=weights),
        "precision": sk.precision_score(positive, flagged, sample_weight=weights),
        "recall": sk.recall_score(positive, flagged, sample_weight=weights),
        "f1": sk.f1_score(positive, flagged, sample_weight=weights),
        "auc": sk.roc_auc_score(positive, scores, sample_weight=weights),
        "pr_auc": sk.average_precision_score(positive, scores, sample_weight=weights),
        "log_loss": sk.log_loss(positive, np.clip(scores, 1e-7, 1 - 1e-7), sample_weight=weights),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert matrix == pytest.approx(sk.confusion_matrix(positive, flagged, sample_weight=weights))
    assert found["example_count"] == len(scores)


def test_calibration_error_by_hand() -> None:
    positive = np.array([True, False, True, True])
    scores = np.array([0.15, 0.11, 0.92, 0.98])
    # Bins [0.1, 0.2): mean prediction 0.13, half positive. [0.9, 1]: 0.95, all positive.
    found, _, _ = binary_metrics(positive, scores, np.ones(4), 0.5)
    assert found["calibration_error"] == pytest.approx((2 * 0.37 + 2 * 0.05) / 4)
    assert found["calibration"] == pytest.approx(scores.sum() / 3)


def test_what_cannot_be_computed_is_none() -> None:
    found, _, _ = binary_metrics(np.zeros(3, bool), np.array([0.1, 0.2, 0.3]), np.ones(3), 0.5)
    assert found["auc"] is None
    assert found["pr_auc"] is None
    assert found["precision"] is None
    assert found["recall"] is None
    assert found["accuracy"] == 1.0


def test_multiclass_metrics_match_scikit_learn() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(0, 4, 300)
    scores = random.dirichlet(np.ones(4), 300)
    scores[np.arange(300), labels] += 0.3
    scores /= scores.sum(1, keepdims=True)
    weights = random.random(300)
    found, matrix, _ = multiclass_metrics(labels, scores, weights)
    predicted = scores.argmax(1)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted, sample_weight=weights),
        "macro_f1": sk.f1_score(labels, predicted, average="macro", sample_weight=weights),
        "weighted_f1": sk.f1_score(labels, predicted, average="weighted", sample_weight=weights),
        "precision": sk.precision_score(labels, predicted, average="macro", sample_weight=weights),
        "recall": sk.recall_score(labels, predicted, average="macro", sample_weight=weights),
        "top_k_accuracy": sk.top_k_accuracy_score(labels, scores, k=3, sample_weight=weights),
        "log_loss": sk.log_loss(labels, scores, sample_weight=weights),
        "auc": np.mean(
            [sk.roc_auc_score(labels == k, scores[:, k], sample_weight=weights) for k in range(4)]
        ),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert matrix == pytest.approx(sk.confusion_matrix(labels, predicted, sample_weight=weights))


def test_regression_metrics_match_scikit_learn() -> None:
    random = np.random.default_rng(6)
    labels, weights = random.normal(50, 4, 200), random.random(200)
    outputs = labels + random.normal(size=200)
    found = regression_metrics(labels, outputs, weights)
    mse = sk.mean_squared_error(labels, outputs, sample_weight=weights)
    assert found["rmse"] == pytest.approx(mse**0.5)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(labels, outputs, sample_weight=weights))
    assert found["r2"] == pytest.approx(sk.r2_score(labels, outputs, sample_weight=weights))
    mape = sk.mean_absolute_percentage_error(labels, outputs, sample_weight=weights)
    assert found["mape"] == pytest.approx(mape)
    assert found["bias"] == pytest.approx(np.average(outputs - labels, weights=weights))
    plain = regression_metrics(labels, outputs, np.ones(200))
    assert plain["median_ae"] == pytest.approx(sk.median_absolute_error(labels, outputs))
    doubled = regression_metrics(labels[:9], outputs[:9], np.array([2.0, *[1.0] * 8]))
    repeated = sk.median_absolute_error(np.append(labels[:9], labels[0]), np.append(outputs[:9], outputs[0]))
    assert doubled["median_ae"] == pytest.approx(repeated)


def test_mape_leaves_out_labels_of_zero() -> None:
    found = regression_metrics(np.array([0.0, 2.0, -4.0]), np.array([5.0, 3.0, -4.0]), np.ones(3))
    assert found["mape"] == pytest.approx(0.25)
    assert regression_metrics(np.zeros(2), np.ones(2), np.ones(2))["mape"] is None


@pytest.mark.parametrize("weighted", [False, True])
def test_multilabel_metrics_match_scikit_learn(weighted: bool) -> None:
    random = np.random.default_rng(11)
    scores = random.random((400, 3))
    labels = (random.random((400, 3)) < scores**2).astype(int)
    weights = random.random(400) if weighted else np.ones(400)
    limits = np.array([0.3, 0.5, 0.6])
    found, matrices, table = multilabel_metrics("abc", labels, scores, weights, limits)
    given = (scores >= limits).astype(int)
    expected = {
        "subset_accuracy": sk.accuracy_score(labels, given, sample_weight=weights),
        "hamming_loss": sk.hamming_loss(labels, given, sample_weight=weights),
        "log_loss": np.mean(
            [sk.log_loss(labels[:, k], scores[:, k], sample_weight=weights) for k in range(3)]
        ),
        "weighted_f1": sk.f1_score(labels, given, average="weighted", sample_weight=weights),
    }
    for average in ("micro", "macro"):
        prefix = "micro_" if average == "micro" else ""
        scored = {
            f"{prefix}precision": sk.precision_score,
            f"{prefix}recall": sk.recall_score,
            f"{average}_f1": sk.f1_score,
        }
        for name, function in scored.items():
            expected[name] = function(labels, given, average=average, sample_weight=weights)
        expected[f"{prefix}auc"] = sk.roc_auc_score(labels, scores, average=average, sample_weight=weights)
        expected[f"{prefix}pr_auc"] = sk.average_precision_score(
            labels, scores, average=average, sample_weight=weights
        )
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert matrices == pytest.approx(sk.multilabel_confusion_matrix(labels, given, sample_weight=weights))
    second = {name: table[1][name] for name in ("label", "threshold", "f1", "auc", "accuracy")}
    assert second == pytest.approx(
        {
            "label": "b",
            "threshold": 0.5,
            "f1": sk.f1_score(labels[:, 1], given[:, 1], sample_weight=weights),
            "auc": sk.roc_auc_score(labels[:, 1], scores[:, 1], sample_weight=weights),
            "accuracy": sk.accuracy_score(labels[:, 1], given[:, 1], sample_weight=weights),
        }
    )


def test_a_label_that_nobody_has_is_left_out_of_means() -> None:
    labels, scores = np.array([[1, 0], [0, 0]]), np.array([[0.9, 0.1], [0.2, 0.3]])
    found, _, table = multilabel_metrics("ab", labels, scores, np.ones(2), np.array([0.5, 0.5]))
    assert (found["macro_f1"], found["auc"], found["subset_accuracy"]) == (1.0, 1.0, 1.0)
    assert table[1]["f1"] is None


def test_class_table_matches_scikit_learn() -> None:
    random = np.random.default_rng(12)
    labels, scores = random.integers(0, 3, 200), random.dirichlet(np.ones(3), 200)
    _, matrix, ranks = multiclass_metrics(labels, scores, np.ones(200))
    table = class_table("abc", matrix, ranks)
    expected = sk.precision_recall_fscore_support(labels, scores.argmax(1))
    for name, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        assert [row[name] for row in table] == pytest.approx(values.tolist())
    assert table[2]["auc"] == pytest.approx(sk.roc_auc_score(labels == 2, scores[:, 2]))


def test_min_cost_threshold_is_the_cheapest_of_all() -> None:
    positive, scores, weights = binary_rows()
    costs = np.array([[0.0, 1.0], [8.0, -0.5]])
    threshold = min_cost_threshold(rank(positive, scores, weights), costs)
    paid = [
        float((sk.confusion_matrix(positive, scores >= t, sample_weight=weights) * costs).sum())
        for t in (*np.unique(scores), 1.1)
    ]
    matrix = sk.confusion_matrix(positive, scores >= threshold, sample_weight=weights)
    assert float((matrix * costs).sum()) == pytest.approx(min(paid))
    assert expected_cost(matrix, costs) == pytest.approx(min(paid) / weights.sum())
    worthless = np.array([[0.0, 9.0], [0.0, 9.0]])  # every alarm costs: none is given
    assert min_cost_threshold(rank(positive, scores * 0.9, weights), worthless) > scores.max() * 0.9


def test_costs_name_classes() -> None:
    costs = cost_matrix({"sick": {"well": 10}, "well": {"sick": 2.5, "well": -1}}, ("well", "sick"))
    assert costs is not None
    assert costs.tolist() == [[-1, 2.5], [10, 0]]
    assert cost_matrix({}, ("a", "b")) is None
    with pytest.raises(ConfigError, match=r"must name classes: a, b. Received: c \(evaluation.costs\)"):
        cost_matrix({"a": {"c": 1}}, ("a", "b"))
    with pytest.raises(ConfigError, match="needs a binary or multiclass task"):
        cost_matrix({"a": {"c": 1}}, ())


def test_max_f1_threshold_is_the_best_of_all() -> None:
    positive, scores, weights = binary_rows()
    threshold = max_f1_threshold(rank(positive, scores, weights))
    best = max(sk.f1_score(positive, scores >= t, sample_weight=weights) for t in np.unique(scores))
    assert sk.f1_score(positive, scores >= threshold, sample_weight=weights) == pytest.approx(best)
    assert not np.isin(threshold, scores)  # half way between two scores
    assert max_f1_threshold(rank(np.zeros(4, bool), np.zeros(4), np.ones(4))) == 0.5


def test_counts_over_thresholds_by_hand() -> None:
    ranking = rank(np.array([True, False, True]), np.array([0.5, 0.25, 0.9]), np.ones(3))
    counts = counts_over_thresholds(ranking, 4)
    assert [point["threshold"] for point in counts] == [0, 0.25, 0.5, 0.75, 1]
    assert counts[1] == {"threshold": 0.25, "tp": 2, "fp": 1, "tn": 0, "fn": 0}
    assert counts[2] == {"threshold": 0.5, "tp": 2, "fp": 0, "tn": 1, "fn": 0}
    assert counts[4] == {"threshold": 1.0, "tp": 0, "fp": 0, "tn": 1, "fn": 2}


def test_curves_lie_on_those_of_scikit_learn() -> None:
    random = np.random.default_rng(8)
    scores = random.random(5000)
    positive, weights = random.random(5000) < scores, np.ones(5000)
    curves = binary_curves(rank(positive, scores, weights), positive, scores, weights)
    fpr, tpr, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    ours = curves["roc"]
    assert len(ours["fpr"]) <= 200
    assert (ours["fpr"][0], ours["tpr"][0], ours["fpr"][-1], ours["tpr"][-1]) == (0, 0, 1, 1)
    points = set(zip(fpr.round(12), tpr.round(12), strict=True))
    assert set(zip(np.round(ours["fpr"], 12), np.round(ours["tpr"], 12), strict=True)) <= points
    assert np.trapezoid(ours["tpr"], ours["fpr"]) == pytest.approx(
        sk.roc_auc_score(positive, scores), abs=2e-3
    )
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    known = set(zip(recall.round(12), precision.round(12), strict=True))
    pr = curves["pr"]
    assert set(zip(np.round(pr["recall"], 12), np.round(pr["precision"], 12), strict=True)) <= known
    assert sum(curves["calibration"]["rows"]) == 5000


def test_residuals_count_every_row() -> None:
    labels = np.arange(300.0)
    found = residuals(labels, labels + np.sin(labels), np.ones(300), seed=1)
    assert (len(found["bins"]), sum(found["counts"]), len(found["actual"])) == (51, 300, 200)
    density = np.array(found["density"]["counts"])
    assert (density.shape, density.sum(), len(found["density"]["edges"])) == ((40, 40), 300, 41)
    inside = slice(1, -1)  # the outer bins hold what lies beyond
    edges = found["density"]["edges"]
    expected, _, _ = np.histogram2d(labels, labels + np.sin(labels), bins=[edges, edges])
    assert density[inside, inside].tolist() == expected[inside, inside].tolist()
    grouped = found["by_predicted"]
    assert grouped["rows"] == [30] * 10
    last = np.sort(labels + np.sin(labels))[-30:]
    assert grouped["predicted"][-1] == pytest.approx(last.mean())


def test_flips_of_labels_are_counted_one_by_one() -> None:
    reference = np.array([[0.6, 0.4], [0.2, 0.8]], np.float32)
    other = np.array([[0.4, 0.4], [0.2, 0.6]], np.float32)
    found = agreement(other, reference, np.array([0.5, 0.7]))
    assert found["flip_rate"] == 0.5  # two of the four decisions


def reference_interval(positive: np.ndarray, scores: np.ndarray, metric: str) -> tuple[float, float]:
    """Draw rows with replacement, as the textbook does."""
    random, values = np.random.default_rng(0), []
    for _ in range(400):
        rows = random.integers(0, len(scores), len(scores))
        values.append(binary_metrics(positive[rows], scores[rows], np.ones(len(rows)), 0.5)[0][metric])
    low, high = np.percentile(np.array(values, float), [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1", "auc", "pr_auc", "log_loss"])
def test_intervals_agree_with_plain_resampling(metric: str) -> None:
    random = np.random.default_rng(9)
    scores = random.random(1500)
    positive = random.random(1500) < 0.2 + 0.6 * scores
    exact = binary_metrics(positive, scores, np.ones(1500), 0.5)[0]
    resampler = Resampler(1500, 400, 0.95, 1, np.ones(1500))
    found = resampler.binary(np.arange(1500), positive, scores, 0.5, exact)[metric]
    low, high = reference_interval(positive, scores, metric)
    # The ends of a 95 % interval from 400 resamples wander by about a tenth of its width.
    assert found == pytest.approx([low, high], abs=0.25 * (high - low))
    assert found[0] < exact[metric] < found[1]  # type: ignore[operator]
    again = Resampler(1500, 400, 0.95, 1, np.ones(1500))
    assert again.binary(np.arange(1500), positive, scores, 0.5, exact)[metric] == found


def test_intervals_of_other_tasks_hold_the_value() -> None:
    random = np.random.default_rng(10)
    rows = np.arange(100, 700)
    resampler = Resampler(800, 200, 0.9, 1, random.random(800))
    labels = random.integers(0, 3, 600)
    scores = random.dirichlet(np.ones(3), 600)
    weights = resampler._weights[rows].astype(float)
    exact = multiclass_metrics(labels, scores, weights)[0]
    intervals, each = resampler.multiclass(rows, labels, scores, exact)
    assert set(intervals) >= {"accuracy", "macro_f1", "weighted_f1", "log_loss", "auc", "top_k_accuracy"}
    table = class_table(
        "abc", multiclass_metrics(labels, scores, weights)[1], [rank(labels == 0, scores[:, 0], weights)] * 3
    )
    for row, limits in zip(table, each, strict=True):
        assert all(low <= row[name] <= high for name, (low, high) in limits.items())  # type: ignore[operator]
        assert set(limits) == {"precision", "recall", "f1"}
    values = random.normal(1e6, 5, 600)
    outputs = values + random.normal(size=600)
    numbers = regression_metrics(values, outputs, weights)
    intervals |= {
        f"regression {k}": v for k, v in resampler.regression(rows, values, outputs, numbers).items()
    }
    exact |= {f"regression {k}": v for k, v in numbers.items()}
    sets, chances = (random.random((600, 4)) < 0.3).astype(int), random.random((600, 4))
    limits = np.full(4, 0.5)
    several, _, _ = multilabel_metrics("abcd", sets, chances, weights, limits)
    intervals |= {
        f"labels {k}": v
        for k, v in resampler.multilabel(rows, sets == 1, chances, limits, several)[0].items()
    }
    exact |= {f"labels {k}": v for k, v in several.items()}
    wanted = {
        "labels micro_f1",
        "labels auc",
        "labels hamming_loss",
        "regression median_ae",
        "regression mape",
    }
    assert wanted <= intervals.keys()
    assert all(low <= exact[name] <= high for name, (low, high) in intervals.items())  # type: ignore[operator]


def test_slices_and_crosses_hold_their_rows() -> None:
    texts = {"a": np.array(["x", "y", "x"], object), "b": np.array(["1", "1", "2"], object)}
    found = make_slices(texts, [("a",), ("a", "b")])
    assert [(dict(part.keys), part.rows.tolist()) for part in found] == [
        ({"a": "x"}, [0, 2]),
        ({"a": "y"}, [1]),
        ({"a": "x", "b": "1"}, [0]),
        ({"a": "x", "b": "2"}, [2]),
        ({"a": "y", "b": "1"}, [1]),
    ]


def test_agreement_counts_flips_at_the_threshold() -> None:
    reference = np.array([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8]], np.float32)
    other = np.array([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7]], np.float32)
    assert agreement(other, reference, 0.35) == pytest.approx({"max_abs_diff": 0.1, "flip_rate": 1 / 3})
    assert agreement(other, reference, 0.5)["flip_rate"] == 0
    assert agreement(other[:, 0], reference[:, 0], None)["flip_rate"] is None


def test_judge_leaves_out_intervals_of_small_slices() -> None:
    labels = np.arange(40) % 2
    slices = [Slice({"k": "big"}, np.arange(30)), Slice({"k": "small"}, np.arange(30, 40))]
    ones = np.ones(40)
    judge = Judge("binary", ("n", "y"), labels, ones, slices, 0.5, Resampler(40, 50, 0.9, 0, ones), 20, 0)
    chance = np.random.default_rng(0).random(40).astype(np.float32)
    result = judge.judge(np.stack([1 - chance, chance], 1), None)
    big, small = result["slices"]
    assert big["intervals"]
    assert small["intervals"] == {}
    matrix = np.array(small["confusion_matrix"]["matrix"])
    expected = sk.confusion_matrix(labels[30:], chance[30:] >= 0.5)
    assert matrix.tolist() == expected.tolist()
    assert result["confusion_matrix"]["labels"] == ["n", "y"]
    assert len(result["thresholds"]) == 101
