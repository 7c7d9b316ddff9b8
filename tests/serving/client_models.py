"""Tiny models with the signature `serving_raw`, whose answers can be counted by hand, and their server."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.serving.server.core import Settings
from headrace.serving.server.manager import ManagerSettings
from headrace.serving.server.rest import RestDoor, RestSettings
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry
from tests.serving.running import RunningServer, running

SHOP_LABELS = {"name": "sold", "task": "binary", "classes": ["no", "yes"], "threshold": 0.3}
TAG_LABELS = {"name": "tags", "task": "multilabel", "classes": ["a", "b", "c"], "threshold": [0.5, 0.5, 0.1]}


def _save(module: Any, path: Path, labels: Mapping[str, Any], raw: Any) -> str:
    tf.saved_model.save(module, str(path), signatures={"serving_raw": raw, "serving_default": raw})
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "labels.json").write_text(json.dumps(labels))
    return str(path)


def shop(path: Path, *, shift: float = 0.0) -> str:
    """A column of every kind; `yes` is what `shop_yes` counts, plus `shift`."""
    module = tf.Module()
    module.shift = tf.Variable(shift)
    spec = {
        "price": tf.TensorSpec([None], tf.float32, name="price"),
        "name": tf.TensorSpec([None], tf.string, name="name"),
        "steps": tf.TensorSpec([None, None], tf.float32, name="steps"),
        "photo": tf.TensorSpec([None], tf.string, name="photo"),
    }

    @tf.function(input_signature=[spec])
    def raw(columns: dict[str, Any]) -> dict[str, Any]:
        price, steps = columns["price"], columns["steps"]
        yes = tf.where(tf.math.is_nan(price), 0.25, price / 100)
        yes += tf.cast(tf.strings.length(columns["name"]), tf.float32) / 100
        yes += tf.reduce_sum(tf.where(tf.math.is_nan(steps), 0.0, steps), axis=1) / 100
        yes += tf.cast(tf.strings.length(columns["photo"]), tf.float32) / 1000 + module.shift
        classes = tf.tile(tf.constant([["no", "yes"]]), [tf.shape(price)[0], 1])
        return {"scores": tf.stack([1 - yes, yes], axis=1), "classes": classes}

    return _save(module, path, SHOP_LABELS, raw)


def shop_yes(row: Mapping[str, Any]) -> float:
    """What `shop` answers for a row whose photo is bytes."""
    price = row.get("price")
    yes = 0.25 if price is None or price != price else price / 100
    yes += len((row.get("name") or "").encode()) / 100
    yes += float(np.nansum(np.array(row.get("steps") or [0.0], float))) / 100
    return float(yes + len(row.get("photo") or b"") / 1000)


def tags(path: Path) -> str:
    """One column of text; the score of a, b and c is the share of that letter."""
    module = tf.Module()

    @tf.function(input_signature=[{"text": tf.TensorSpec([None], tf.string, name="text")}])
    def raw(columns: dict[str, Any]) -> dict[str, Any]:
        text = columns["text"]
        size = tf.cast(tf.strings.length(text), tf.float32)
        lengths = [
            size - tf.cast(tf.strings.length(tf.strings.regex_replace(text, letter, "")), tf.float32)
            for letter in "abc"
        ]
        classes = tf.tile(tf.constant([["a", "b", "c"]]), [tf.shape(text)[0], 1])
        shares = tf.stack(lengths, axis=1) / tf.maximum(size, 1)[:, tf.newaxis]
        return {"scores": shares, "classes": classes}

    return _save(module, path, TAG_LABELS, raw)


def value(path: Path) -> str:
    """One column of numbers, doubled."""
    module = tf.Module()

    @tf.function(input_signature=[{"x": tf.TensorSpec([None], tf.float32, name="x")}])
    def raw(columns: dict[str, Any]) -> dict[str, Any]:
        return {"outputs": columns["x"] * 2}

    labels = {"name": "y", "task": "regression", "classes": None, "threshold": None}
    return _save(module, path, labels, raw)


def picture(path: Path) -> str:
    """A column of pictures, decoded as pushed models decode them; the mean of each, in [0, 1]."""
    # Here, since they import tf.Transform, which the other models do without.
    from headrace.components.features.graph import Column
    from headrace.components.features.outputs import Picture
    from headrace.components.features.pictures import build_picture

    module = tf.Module()
    planned = Picture("photo", "photo", "photo", 2, 2, 3, "stretch", False, "unit", None, 255.0)

    @tf.function(input_signature=[{"photo": tf.TensorSpec([None], tf.string, name="photo")}])
    def raw(columns: dict[str, Any]) -> dict[str, Any]:
        files = columns["photo"]
        flat = build_picture(planned, Column(files, tf.not_equal(files, ""), None), "photo")
        return {"outputs": tf.reduce_mean(flat, axis=1)}

    labels = {"name": "y", "task": "regression", "classes": None, "threshold": None}
    return _save(module, path, labels, raw)


@dataclass(frozen=True)
class Served:
    """Models behind both doors."""

    root: Path
    running: RunningServer
    secure: bool = False

    def rest(self, model: str) -> str:
        scheme = "https" if self.secure else "http"
        return f"{scheme}://localhost:{self.running.server.doors[1].port}/v1/models/{model}"

    def grpc(self, model: str) -> str:
        scheme = "grpcs" if self.secure else "grpc"
        return f"{scheme}://localhost:{self.running.server.doors[0].port}/{model}"

    def url(self, scheme: str, model: str) -> str:
        return self.rest(model) if scheme == "rest" else self.grpc(model)


@contextmanager
def serving(
    root: Path, names: tuple[str, ...], *, tls: Any = None, credentials: Any = None, **rest: Any
) -> Iterator[Served]:
    """Serve the models in folders of `root` until the block ends."""
    settings = RestSettings(port=0, tls=tls, **rest)
    run = RunSettings(
        entries=tuple(ModelEntry(name, str(root / name)) for name in names),
        core=Settings(manager=ManagerSettings(poll_wait_s=0.1), labels_for_unavailable=True),
        doors=(lambda core, listeners: RestDoor(core, settings, listeners),),
    )
    with running(run, credentials=credentials) as server:
        yield Served(root, server, secure=tls is not None)
