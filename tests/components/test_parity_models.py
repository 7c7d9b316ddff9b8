"""The parity promise, kind by kind: server and device answer a raw row alike, whatever it lacks."""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from headrace.components.features.golden import encode_rows
from headrace.components.features.signatures import FittedTransform
from headrace.components.models.output import output_of
from headrace.components.models.registry import build_model, parse_model_config, training_parts
from headrace.components.parity.tolerance import TOLERANCE
from headrace.components.quantization.lite import convert_float
from headrace.components.training.export import export_model
from headrace.serving.lite import LiteModel
from headrace.serving.raw import raw_columns
from headrace.serving.session import SessionModel

from . import kinds, transformed
from .test_features_parity import ODD_DATES, ODD_TEXTS
from .test_features_parity_kinds import FILES, PIECES
from .test_models_contract import settle

pytestmark = pytest.mark.long

Row = dict[str, Any]

ROWS = 200

# Beside these, faster ones of their kind are tried always.
SLOW = ("wide_deep", "resnet_tabular", "custom", "ensemble", "conv1d", "transformer", "transfer")
SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"hidden": [8], "batch_norm": True},
    "wide_deep": {"hidden": [8]},
    "resnet_tabular": {"width": 8, "blocks": 1},
    "custom": {"function": "tests.components.test_models_contract:custom_build", "options": {"units": 8}},
    "ensemble": {"size": 2, "member": {"hidden": [8]}},
    "transfer": {"backbone": "MobileNetV3Small", "weights": "none", "hidden": []},
    "cnn": {"filters": [4], "hidden": [8]},
    "conv1d": {"filters": [4], "hidden": [8]},
    "rnn": {"units": [4], "hidden": []},
    "transformer": {"dim": 8, "blocks": 1, "heads": 2},
}


def families(*names: str) -> Any:
    """Try a test with each of some families."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "family", [pytest.param(n, marks=slow if n in SLOW else ()) for n in names]
    )


def odd_tabular_row(draw: random.Random) -> Row:
    """Draw a row with missing and unseen values, dates that are none, and codes that float32 rounds."""
    row = transformed.random_row(draw, missing=0.2)
    odd: Mapping[str, Callable[[], Any]] = {
        "amount": lambda: draw.gauss(0, 60),
        "age": lambda: draw.choice([-1, 0, 40, 200]),
        "city": lambda: draw.choice(ODD_TEXTS),
        "code": lambda: draw.choice([99, 2**24, 2**24 + 1, -(2**33) - 1]),
        "tags": lambda: draw.choice(["|red", "pink", "a|b|c|d", *ODD_TEXTS]),
        "when": lambda: draw.choice(ODD_DATES),
    }
    return row | {name: make() for name, make in odd.items() if draw.random() < 0.3}


def odd_row_of_kinds(draw: random.Random) -> Row:
    """Draw texts, pictures of every format and size, and lists; some missing, empty or never seen."""
    row = kinds.random_row(draw, missing=0.2)
    if draw.random() < 0.5:
        row["review"] = " ".join(draw.choices(PIECES, k=draw.randrange(12)))
    if draw.random() < 0.5:
        row["photo"] = draw.choice(list(FILES.values()))
    for name, near in (("left", 1e3), ("right", -2.0)):
        if draw.random() < 0.3:
            row[name] = draw.choice([[], [None], [None, near], [near] * 30, [1.02 * near, None]])
    return row


def trained_model(transform: FittedTransform, rows: list[Row], family: str) -> Any:
    """Fit a small model for a few steps, so that no weight is where it started."""
    types = {column["name"]: column["type"] for column in transform.features["raw"]}
    columns = {name: tensor.numpy() for name, tensor in transform.from_raw(raw_columns(rows, types)).items()}
    config = parse_model_config({"family": family, **SECTIONS[family]})
    model = build_model(transform.features, config, output_of(transform.features), seed=3)
    keras.utils.set_random_seed(3)
    answers = np.array([[row["label"] == "yes"] for row in rows], np.float32)
    for part in training_parts(model, config):
        part.compile(keras.optimizers.Adam(0.003), keras.losses.BinaryCrossentropy(from_logits=True))
        part.fit(columns, answers, batch_size=32, epochs=2, verbose=0)
    settle(model, columns)
    return model


def assert_parity(graph: Path, trained_on: list[Row], odd: list[Row], family: str, folder: Path) -> None:
    """Compare the SavedModel, in a session, by columns and by examples, with sidecar and TF Lite."""
    transform = FittedTransform(str(graph))
    output = output_of(transform.features)
    model = trained_model(transform, trained_on, family)
    export_model(model, transform, output, str(folder / "model"))
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "model.tflite").write_bytes(convert_float(str(folder / "model" / "Format-Transformed")))
    shutil.copy(graph / "headrace" / "preprocessing.json", bundle)
    label = transform.features["label"] | {"threshold": 0.5}
    (bundle / "labels.json").write_text(json.dumps(label), encoding="utf-8")

    types = {column["name"]: column["type"] for column in transform.features["raw"]}
    device = LiteModel.load(bundle).predict(odd)["scores"]
    with SessionModel.load(str(folder / "model" / "Format-Serving")) as server:
        by_columns = server.run("serving_raw", raw_columns(odd, types))["scores"]
        examples = np.array(encode_rows(odd, types), object)  # type: ignore[arg-type]
        by_examples = server.run("serving_default", {"examples": examples})["scores"]
    assert by_columns.shape == (len(odd), 2)
    assert len(np.unique(by_columns[:, 1])) > len(odd) // 2  # the rows make a difference
    for found in (by_examples, device):
        assert np.max(np.abs(found - by_columns) / np.maximum(1, np.abs(by_columns))) <= TOLERANCE


@families("mlp", "wide_deep", "resnet_tabular", "custom", "ensemble")
def test_numbers_categories_and_dates(family: str, tmp_path: Path) -> None:
    draw, fitted = random.Random(1), transformed.fitted_tabular()
    odd = [odd_tabular_row(draw) for _ in range(ROWS)] + [dict.fromkeys(transformed.TYPES)]
    assert_parity(fitted.folder / "graph", fitted.splits["train"], odd, family, tmp_path)


@families("cnn", "rnn", "transformer", "conv1d")
def test_texts_pictures_and_series(family: str, tmp_path: Path) -> None:
    draw, fitted = random.Random(2), kinds.fitted_kinds()
    odd = [odd_row_of_kinds(draw) for _ in range(ROWS)] + [dict.fromkeys(kinds.TYPES)]
    assert_parity(fitted.folder / "graph", fitted.splits["train"], odd, family, tmp_path)


@families("transfer")
def test_pictures_through_a_backbone(family: str, tmp_path: Path) -> None:
    draw = random.Random(3)
    splits = {
        split: [
            {"photo": kinds.random_picture(draw), "label": draw.choice(["no", "yes"])} for _ in range(size)
        ]
        for split, size in (("train", 64), ("eval", 10), ("test", 10))
    }
    transformed.write_examples(tmp_path / "examples", splits, {"photo": "image"}, weight=None)
    transformed.run_transform(tmp_path, {"photo": {"kind": "image", "height": 32, "width": 32}})
    odd: list[Row] = [{"photo": content} for content in FILES.values()] + [{"photo": None}]
    assert_parity(tmp_path / "graph", splits["train"], odd, family, tmp_path)


ODD_NAMES = {
    "Petal length (cm)": "float",
    "km/h": "int",
    "_id, of \N{SNOWMAN}": "string",
    "Age": "float",
    "age": "int",
}


def test_columns_of_any_name(tmp_path: Path) -> None:
    draw = random.Random(4)

    def row() -> Row:
        values = (
            draw.gauss(3, 1),
            draw.randrange(200),
            draw.choice("abc"),
            draw.gauss(0, 1),
            draw.randrange(90),
        )
        return {name: None if draw.random() < 0.1 else v for name, v in zip(ODD_NAMES, values, strict=True)}

    splits = {
        split: [row() | {"label": draw.choice(["no", "yes"])} for _ in range(size)]
        for split, size in (("train", 100), ("eval", 20), ("test", 20))
    }
    transformed.write_examples(tmp_path / "examples", splits, ODD_NAMES, weight=None)
    features = {
        name: {"kind": "categorical" if t == "string" else "numeric"} for name, t in ODD_NAMES.items()
    }
    transformed.run_transform(tmp_path, features)
    odd = [row() for _ in range(ROWS)] + [dict.fromkeys(ODD_NAMES)]
    assert_parity(tmp_path / "graph", splits["train"], odd, "mlp", tmp_path)
