"""The evaluation node on tasks other than binary, and with costs."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk

from tests.components.test_evaluation import Workspace, encode

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks(task: str, tmp_path: Path) -> None:
    work = Workspace(tmp_path, task)
    work.weight = "weight"
    work.add_saved_model("int8_weights", 0.05)
    found = work.evaluate()
    assert found["tfma"]["state"] == "PASS", found["tfma"]
    entry, weights = found["variants"][1], work.values("weight")
    predictions = np.load(tmp_path / "out/predictions/int8_weights.npy")
    if task == "regression":
        expected = sk.r2_score(work.values("label"), predictions, sample_weight=weights)
        assert entry["metrics"]["r2"] == pytest.approx(expected, rel=1e-4)  # labels went through float32
        assert entry["confusion_matrix"] is None
        assert entry["agreement"] == {"max_abs_diff": pytest.approx(0.05, abs=1e-6), "flip_rate": None}
        assert sum(entry["residuals"]["counts"]) == pytest.approx(sum(weights))
    else:
        truth = ["abc".index(label) for label in work.values("label")]
        expected = sk.f1_score(truth, predictions.argmax(1), average="macro", sample_weight=weights)
        assert entry["metrics"]["macro_f1"] == pytest.approx(expected)
        matrix = sk.confusion_matrix(truth, predictions.argmax(1), sample_weight=weights)
        assert entry["confusion_matrix"]["matrix"] == matrix.tolist()
    assert (tmp_path / "out/tfma/int8_weights/eval_config.json").is_file()


def test_labels_are_judged_one_by_one(tmp_path: Path) -> None:
    work = Workspace(tmp_path, "multilabel")
    work.weight = "weight"
    work.config |= {"threshold": "max_f1", "importance_repeats": 1}
    work.add_saved_model("int8_weights", 0.05)
    found = work.evaluate()
    assert found["tfma"]["state"] == "PASS", found["tfma"]
    limits = np.array(found["label_thresholds"])
    assert found["threshold"] is None
    truth = np.array([[name in label.split("|") for name in "abc"] for label in work.values("label")])
    assert not truth.any(axis=1).all()  # rows without a label have no class
    for entry in found["variants"]:
        scores = np.load(tmp_path / f"out/predictions/{entry['name']}.npy")
        expected = sk.multilabel_confusion_matrix(
            truth, scores >= limits, sample_weight=work.values("weight")
        )
        assert [part["matrix"] for part in entry["label_matrices"]] == expected.tolist()
        assert [part["label"] for part in entry["per_class"]] == ["a", "b", "c"]
        assert entry["confusion_matrix"] is None
        part = next(s for s in entry["slices"] if s["keys"] == {"carrier": "UA"})
        inside = np.array(work.values("carrier")) == "UA"
        rows = np.array(work.values("weight"))[inside]
        share = sk.hamming_loss(truth[inside], (scores >= limits)[inside], sample_weight=rows)
        assert part["metrics"]["hamming_loss"] == pytest.approx(share)
        assert part["intervals"]["macro_f1"][0] < part["metrics"]["macro_f1"]
    assert found["variants"][1]["agreement"]["flip_rate"] < 0.1
    assert found["importance"][0]["feature"] == "delay"
    loaded = tf.saved_model.load(str(tmp_path / "model/Format-Serving"))
    answer = loaded.signatures["serving_default"](tf.constant([encode(row) for row in work.tables["eval"]]))
    scores, rows = answer["scores"].numpy()[:, 0], [row["weight"] for row in work.tables["eval"]]
    truth = np.array(["a" in row["label"].split("|") for row in work.tables["eval"]])
    best = max(sk.f1_score(truth, scores >= value, sample_weight=rows) for value in scores)
    assert sk.f1_score(truth, scores >= limits[0], sample_weight=rows) == pytest.approx(best)


def test_costs_choose_the_threshold_and_are_a_metric(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.config |= {"threshold": "min_cost", "costs": {"yes": {"no": 4}}, "slices": [["carrier"]]}
    found = work.evaluate()
    assert found["costs"] == [[0, 1], [4, 0]]
    assert found["threshold"] < 0.4  # a miss costs four times a false alarm
    (tn, fp), (fn, tp) = found["variants"][0]["confusion_matrix"]["matrix"]
    assert found["variants"][0]["metrics"]["cost"] == pytest.approx((fp + 4 * fn) / (tn + fp + fn + tp))
    low, high = found["variants"][0]["intervals"]["cost"]
    assert low < found["variants"][0]["metrics"]["cost"] < high
    assert all("cost" in part["metrics"] for part in found["variants"][0]["slices"])
