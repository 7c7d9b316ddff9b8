"""benchmarks/quality.py and its rivals on rows of every task, with what real files hold."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

# scikit-learn 1.x passes options that SciPy 1.16 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    """The script as a module, its rivals cut to few trees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location("benchmark_quality", BENCHMARKS / "quality.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["benchmark_quality"] = module
        spec.loader.exec_module(module)
        patch.setattr(sys.modules["rivals"], "MAX_TREES", 30)
        yield module
        for name in ("rivals", "benchmark_quality"):
            sys.modules.pop(name, None)


FEATURES: dict[str, Any] = {
    "num": {"kind": "numeric"},
    "none": {"kind": "numeric"},
    "cat": {"kind": "categorical"},
    "day": {"kind": "date", "parts": ["year", "month", "day_of_week", "hour"], "format": "%d.%m.%Y"},
    "note": {"kind": "text"},
}
SIZES = {"train": 240, "eval": 60, "test": 80}


def splits(task: str, weighted: bool) -> dict[str, Any]:
    from headrace.components.evaluation.rows import Rows

    found = {}
    for seed, (split, n) in enumerate(SIZES.items()):
        rng = np.random.default_rng(seed)
        cat, num = rng.choice(["a", "b", f"only in {split}"], n), rng.normal(size=n)
        note = rng.choice(["good thing", "bad thing", ""], n)
        signal = num + 2 * (note == "good thing") - 2 * (note == "bad thing") + (cat == "a")
        columns = {
            "num": pa.array([None if i % 7 == 0 else v for i, v in enumerate(num)], pa.float64()),
            "none": pa.array([None] * n, pa.float64()),
            "cat": pa.array([None if i % 11 == 0 else v for i, v in enumerate(cat)]),
            "day": pa.array([f"{1 + i % 28:02}.03.2024" if i % 5 else None for i in range(n)]),
            "note": pa.array([v or None for v in note]),
        }
        labels: Any = {
            "binary": (signal > 0).astype(int),
            # Class 2 is in train alone, class 3 in test alone.
            "multiclass": np.where(signal > 1, 1, 0),
            "multilabel": np.stack([signal > 0, signal < -1, np.zeros(n)], axis=1).astype(int),
            "regression": signal * 3 + 10,
        }[task]
        if task == "multiclass" and split != "eval":
            labels[:3] = 2 if split == "train" else 3
        weights = rng.integers(0, 3, n).astype(float) if weighted else None
        found[split] = Rows(None, columns, labels, weights)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("task", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3), ("regression", 0)]
)
def test_every_rival_answers_every_task(quality: ModuleType, task: str, classes: int, weighted: bool) -> None:
    rows = splits(task, weighted)
    config = {"features": FEATURES, "data": {"task": task}, "seed": 1}
    found = quality.rivals(rows, config, list(FEATURES), classes)
    assert len(found) == (2 if task == "multilabel" else 3)
    linear = found["linear (ridge)" if task == "regression" else "linear (logistic)"]
    test = rows["test"]
    for answers in found.values():
        assert answers.shape == ((80, classes) if classes else (80,))
        assert np.isfinite(answers).all()
        for metric in quality.METRICS[task]:
            assert np.isfinite(quality.measure(metric, test.labels, answers, test.weights))
            quality.resampled(metric, test.labels, answers, test.weights, 5, 0)
    # The words of the texts tell most of the label, which only the linear rival reads.
    if task == "binary":
        assert roc_auc_score(test.labels, linear[:, 1]) > 0.9
    if task == "multiclass":
        assert accuracy_score(test.labels, linear.argmax(1)) > 0.8
    if task == "multilabel":
        assert roc_auc_score(test.labels[:, 0], linear[:, 0]) > 0.9
        assert (linear[:, 2] == 0).all()
    if task == "regression":
        assert np.corrcoef(linear, test.labels)[0, 1] > 0.8


def test_a_test_split_of_one_class_has_no_auc(quality: ModuleType) -> None:
    labels, answers = np.ones(9, int), np.tile([0.4, 0.6], (9, 1))
    assert np.isnan(quality.measure("auc", labels, answers, None))
    several = np.stack([labels, np.arange(9) % 2], axis=1)
    scores = np.stack([np.full(9, 0.5), (np.arange(9) % 2) * 0.5], axis=1)
    assert quality.measure("auc", several, scores, None) == 1.0


def test_texts_alone_have_the_linear_rival(quality: ModuleType) -> None:
    rows = splits("binary", weighted=False)
    config = {"features": {"t": {"kind": "text", "column": "note"}}, "data": {"task": "binary"}, "seed": 1}
    assert list(quality.rivals(rows, config, ["note"], 2)) == ["linear (logistic)"]
