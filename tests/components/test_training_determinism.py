"""One seed gives one training: for each kind of data, with all that is drawn at random in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.components.models.registry import parse_model_config
from headrace.components.training import train as trainer
from headrace.components.training.callbacks import RunFolders
from headrace.components.training.config import TrainingConfig
from headrace.components.training.input import Rows
from tests.components.modalities import draw, features_of, labels

QUICK = {
    "epochs": 2,
    "batch_size": 16,
    "early_stopping": None,
    "tensorboard": False,
    "backup": False,
    "monitoring": False,
}

CASES: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any], Mapping[str, Any]]] = {
    "pictures": (
        ("image",),
        {"family": "cnn", "filters": [4], "hidden": [8]},
        {"augment": {"image": {"flip": "horizontal", "rotate": 20, "brightness": 0.2, "noise": 0.05}}},
    ),
    "texts": (
        ("tokens",),
        {"family": "transformer", "dim": 8, "blocks": 1, "heads": 2, "dropout": 0.2},
        {"augment": {"text": {"drop": 0.2, "swap": 0.2}}, "sampling": "over"},
    ),
    "bags": (
        ("bag",),
        {"family": "wide_deep", "hidden": [8], "dropout": 0.3},
        {"augment": {"text": {"drop": 0.2}}, "ema_momentum": 0.9},
    ),
    "series": (
        ("series",),
        {"family": "rnn", "units": [4], "hidden": []},
        {"augment": {"series": {"jitter": 0.1, "scale": 0.1, "shift": 2}}, "sampling": "under"},
    ),
    "ensemble": (
        ("dense", "index"),
        {"family": "ensemble", "size": 2, "member": {"hidden": [8], "dropout": 0.3}},
        {"augment": {"tabular": {"noise": 0.1}, "mixup": 0.2}, "sampling": "smote"},
    ),
}


def fit(name: str, root: Path) -> trainer.Trained:
    kinds, model, training = CASES[name]
    features = features_of(kinds)
    root.mkdir()
    columns, hidden = draw(features, 64)
    uneven = labels(hidden - 0.7, "binary")
    rows = Rows(columns, uneven.astype(np.float32), None)
    return trainer.train_on(
        rows,
        rows,
        features,
        parse_model_config(model),
        TrainingConfig.model_validate(QUICK | training),
        RunFolders(root / "state", root / "logs", root / "history.csv"),
        5,
    )


SLOW = ("texts", "bags", "series")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
)
def test_two_trainings_with_one_seed_are_one(name: str, tmp_path: Path) -> None:
    first, second = (fit(name, tmp_path / run) for run in "ab")
    assert len(first.epochs) == len(second.epochs)
    for one, same in zip(first.epochs, second.epochs, strict=True):
        assert one["logs"] == pytest.approx(same["logs"], abs=1e-6)
    for one, same in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, same, atol=1e-6)
