"""Models that compute the same have the same digest, whatever their files look like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.quantization.digest import flatbuffer_digest, saved_model_digest


class Scorer(tf.Module):
    """A table, a loop, a condition, an effect, constants and a variable."""

    def __init__(self, folder: Path, words: str = "a\nb\n", change: str = "") -> None:
        super().__init__()
        self.change = change
        file = folder / "words.txt"
        file.write_text(words)
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        initializer = tf.lookup.TextFileInitializer(str(file), tf.string, line, tf.int64, number)
        self.table = tf.lookup.StaticHashTable(initializer, -1)
        self.weight = tf.Variable(2.0)

    def score(self, x: Any, y: Any, word: Any) -> dict[str, Any]:
        change = self.change
        tf.debugging.assert_less(x, 1e6 if change != "effect" else 1e7)
        first, second = (y, x) if change == "order" else (x, y)
        total = first - second * self.weight + (3.0 if change == "constant" else 4.0)
        steps = tf.constant(0)
        body = (lambda i, t: (i + 1, t * 2.0)) if change == "loop" else (lambda i, t: (i + 1, t + 2.0))
        steps, total = tf.while_loop(lambda i, t: i < 3, body, (steps, total))
        total = tf.cond(
            tf.reduce_sum(x) > 0, lambda: total, lambda: total + (1.0 if change == "branch" else 2.0)
        )
        total += tf.cast(self.table.lookup(word), tf.float32)
        return {
            "sum" if change == "output" else "score": tf.exp(total)
            if change == "operator"
            else tf.tanh(total)
        }


def save(root: Path, name: str, change: str = "", noise: int = 0, **given: Any) -> Path:
    """Export a scorer after tracing `noise` other functions, which moves the names of all that follow."""
    for number in range(noise):
        tf.function(lambda x, n=number: x + n).get_concrete_function(tf.TensorSpec([None]))
    folder = root / name
    folder.mkdir()
    module = Scorer(folder, change=change, **given)
    numbers, text = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.string)
    concrete = tf.function(module.score).get_concrete_function(x=numbers, y=numbers, word=text)
    signature = "other" if change == "signature" else "serving_default"
    tf.saved_model.save(module, str(folder / "saved"), signatures={signature: concrete})
    return folder / "saved"


def test_an_export_made_again_is_the_same(tmp_path: Path) -> None:
    one, again = save(tmp_path, "one"), save(tmp_path, "again", noise=7)
    assert (one / "saved_model.pb").read_bytes() != (again / "saved_model.pb").read_bytes()
    assert saved_model_digest(one) == saved_model_digest(again)
    assert saved_model_digest(one, "weights") != saved_model_digest(one)


@pytest.mark.parametrize(
    "change", ["order", "constant", "loop", "branch", "operator", "output", "signature", "effect"]
)
def test_another_computation_is_another_model(tmp_path: Path, change: str) -> None:
    found, other = (
        saved_model_digest(save(tmp_path, name, what)) for name, what in (("one", ""), ("two", change))
    )
    assert found != other


def test_an_asset_counts(tmp_path: Path) -> None:
    one, other = save(tmp_path, "one"), save(tmp_path, "two", words="a\nc\n")
    assert saved_model_digest(one) != saved_model_digest(other)


def flatbuffer(
    scope: str,
    change: Callable[[Any], Any] = lambda x: x,
    width: int = 2,
    swap: bool = False,
    value: float = 3.0,
) -> bytes:
    """Convert a small formula; `scope` goes into the names of all that it computes."""
    weights = np.arange(width * 4, dtype=np.float32).reshape(width, 4)
    weights[0, 0] = value

    def score(left: Any, right: Any) -> dict[str, Any]:
        with tf.name_scope(scope):
            return {"scores": change(tf.matmul(right - left if swap else left - right, tf.constant(weights)))}

    spec = [tf.TensorSpec([None, width], tf.float32, name=name) for name in ("left", "right")]
    concrete = tf.function(score).get_concrete_function(*spec)
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert())


@pytest.mark.filterwarnings("ignore")
def test_a_flatbuffer_is_what_it_computes() -> None:
    one, again = flatbuffer("a"), flatbuffer("quite_another")
    assert one != again
    assert flatbuffer_digest(one) == flatbuffer_digest(again)
    others = [
        flatbuffer("a", tf.nn.relu),
        flatbuffer("a", lambda x: x * 2.0),
        flatbuffer("a", lambda x: x * 3.0),
        flatbuffer("a", width=3),
        flatbuffer("a", swap=True),
        flatbuffer("a", value=4.0),
    ]
    assert len({flatbuffer_digest(content) for content in [one, *others]}) == 7
