"""Graphs whose rows see each other are never taken for independent; others answer alike alone and merged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.independence.graph import dependent_signatures
from headrace.components.independence.mark import copy_mark, extreme_rows, mark_rows
from headrace.components.independence.rules import RULES
from headrace.components.models.config import stated_independence
from headrace.components.models.registry import parse_model_config
from headrace.data.errors import HeadraceError
from headrace.serving.row_mark import read_row_mark

X = tf.TensorSpec([None, 4], tf.float32, name="x")
T = tf.TensorSpec([None], tf.string, name="t")
V = tf.TensorSpec([None], tf.float32, name="v")
WIDE = tf.TensorSpec([None, None], tf.float32, name="w")
PICTURE = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="p")
WEIGHTS = tf.constant(np.random.default_rng(1).normal(size=(4, 3)), tf.float32)
TABLE = tf.constant(np.random.default_rng(2).normal(size=(5, 2)), tf.float32)
FILTER = tf.constant(np.random.default_rng(3).normal(size=(3, 3, 3, 2)), tf.float32)

Function = Callable[[Any], Any]


def words(t: Any) -> Any:
    return tf.compat.v1.strings.split(t, sep=" ")


def sparse(v: Any) -> Any:
    mask = v > 0.0
    indices = tf.pad(tf.where(mask), [[0, 0], [0, 1]])
    values = tf.boolean_mask(v, mask)
    shape = tf.stack([tf.shape(v, tf.int64)[0], 1])
    return tf.sparse.to_dense(tf.SparseTensor(indices, values + tf.ones_like(values), shape), -1.0)[:, 0]


def flat_sparse(x: Any) -> Any:
    mask = x > 0.0
    return tf.sparse.to_dense(
        tf.SparseTensor(tf.where(mask), tf.boolean_mask(x, mask), tf.shape(x, tf.int64)), 0.0
    )


def attention(x: Any) -> Any:
    heads = tf.reshape(x, [-1, 2, 2])
    return tf.matmul(tf.nn.softmax(tf.matmul(heads, heads, transpose_b=True)), heads)


INDEPENDENT: dict[str, tuple[Any, Function]] = {
    "elements": (X, lambda x: tf.where(tf.math.is_nan(x), 0.0, tf.nn.relu(x * 2.0 - 1.0) ** 2.0)),
    "dense": (X, lambda x: tf.nn.softmax(tf.nn.bias_add(tf.matmul(x, WEIGHTS), [0.1, 0.2, 0.3]))),
    "of_a_row": (X, lambda x: (x - tf.reduce_mean(x, 1, keepdims=True)) / tf.reduce_max(x, -1)[:, None]),
    "standardised": (X, lambda x: (x - [1.0, 2.0, 3.0, 4.0]) / tf.constant([[2.0, 2.0, 1.0, 1.0]])),
    "joined": (X, lambda x: tf.concat([x[:, :2], x[:, 1:], x[:, 3:]], 1)),
    "stacked": (X, lambda x: tf.reshape(tf.stack([x, x + 1.0], 1), [-1, 8])),
    "reshaped": (X, lambda x: tf.reshape(tf.reshape(x, [tf.shape(x)[0], 2, 2]), [tf.shape(x)[0], -1])),
    "transposed": (X, lambda x: tf.transpose(tf.reshape(x, [-1, 2, 2]), [0, 2, 1])),
    "embedded": (V, lambda v: tf.gather(TABLE, tf.cast(tf.clip_by_value(tf.abs(v), 0.0, 4.0), tf.int32))),
    "one_hot": (V, lambda v: tf.one_hot(tf.cast(tf.abs(v), tf.int32), 6)),
    "classes": (X, lambda x: tf.tile(tf.constant([["a", "b"]]), [tf.shape(x)[0], 1])),
    "filled": (X, lambda x: tf.fill([tf.shape(x)[0], 2], 7.0)),
    "column": (V, lambda v: tf.expand_dims(v, 1) * tf.constant([[1.0, 2.0]])),
    "attention": (X, attention),
    "einsum": (X, lambda x: tf.einsum("bij,jk->bik", tf.reshape(x, [-1, 2, 2]), TABLE[:2])),
    "buckets": (V, lambda v: tf.searchsorted(tf.constant([-1.0, 0.0, 1.0]), v, side="right")),
    "best": (X, lambda x: tf.argmax(x, 1)),
    "running": (X, lambda x: tf.cumsum(x, 1)),
    "unstacked": (X, lambda x: tf.add_n(tf.unstack(x, axis=1))),
    "split": (X, lambda x: tf.split(x, 2, 1)[1]),
    "texts": (T, lambda t: tf.strings.to_hash_bucket_strong(tf.strings.lower(t), 100, [1, 2])),
    "sparse": (V, sparse),
    "flat_sparse": (X, flat_sparse),
    "wide": (WIDE, lambda w: tf.reduce_sum(w, 1) + tf.reduce_mean(w * 2.0, 1)),
    "first_word": (T, lambda t: tf.sparse.to_dense(words(t), "")[:, 0]),
    "picture": (PICTURE, lambda p: tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(p, FILTER, 1, "SAME")), [1, 2])),
    "nested": (X, lambda x: tf.function(lambda y: tf.function(tf.nn.sigmoid)(y) * 3.0)(x)),
}  # fmt: skip


DEPENDENT: dict[str, tuple[Any, Function]] = {
    "swayed": (V, lambda v: tf.where(tf.reduce_max(v) > 1000.0, -tf.ones_like(v), 2.0 * v)),
    "share": (V, lambda v: v / tf.reduce_sum(v)),
    "centred": (X, lambda x: x - tf.reduce_mean(x, 0)),
    "centred_all": (X, lambda x: x - tf.reduce_mean(x)),
    "counted": (X, lambda x: x * tf.cast(tf.shape(x)[0], tf.float32)),
    "counted_less": (X, lambda x: x + tf.cast(tf.shape(x)[0] - 1, tf.float32)),
    "counted_size": (X, lambda x: x + tf.cast(tf.size(x), tf.float32)),
    "numbered": (V, lambda v: v + tf.cast(tf.range(tf.shape(v)[0]), tf.float32)),
    "softmax_down": (X, lambda x: tf.nn.softmax(x, 0)),
    "softmax_flat": (V, tf.nn.softmax),
    "running_down": (X, lambda x: tf.cumsum(x, 0)),
    "rolled": (X, lambda x: tf.roll(x, 1, 0)),
    "reversed": (X, lambda x: tf.reverse(x, [0])),
    "sorted": (V, tf.sort),
    "first": (X, lambda x: x * 0.0 + x[:1]),
    "last": (X, lambda x: x * 0.0 + x[-1]),
    "without_first": (X, lambda x: tf.pad(x[1:], [[0, 1], [0, 0]])),
    "padded": (X, lambda x: tf.pad(x, [[1, 0], [0, 0]])[:-1]),
    "gathered": (X, lambda x: tf.gather(x, tf.zeros_like(tf.cast(x[:, 0], tf.int32)))),
    "pairs": (X, lambda x: tf.matmul(tf.matmul(x, x, transpose_b=True), x)),
    "pairs_einsum": (X, lambda x: tf.einsum("ai,bi,bj->aj", x, x, x)),
    "outer": (V, lambda v: tf.reduce_sum(v[:, None] * v[None, :], 1)),
    "transposed": (X, lambda x: tf.reshape(tf.transpose(x), tf.shape(x))),
    "regrouped": (X, lambda x: tf.reshape(tf.reshape(x, [4, -1]), [-1, 4])),
    "folded": (X, lambda x: tf.tile(tf.reshape(x, [1, -1])[:, :4], [tf.shape(x)[0], 1])),
    "chosen": (X, lambda x: tf.boolean_mask(x, x[:, 0] > 0.0)),
    "counted_chosen": (V, lambda v: v + tf.cast(tf.shape(tf.where(v > 0.0))[0], tf.float32)),
    "mixed_lists": (V, lambda v: tf.sparse.to_dense(tf.SparseTensor(
        tf.pad(tf.where(v > 0.0), [[0, 0], [0, 1]]), tf.boolean_mask(v, v <= 0.0),
        tf.stack([tf.shape(v, tf.int64)[0], 1])))[:, 0]),
    "mean_of_padded": (T, lambda t: tf.reduce_mean(
        tf.cast(tf.strings.length(tf.sparse.to_dense(words(t), "")), tf.float32), 1)),
    "width_of_padded": (T, lambda t: tf.cast(tf.shape(tf.sparse.to_dense(words(t), ""))[1], tf.float32)
        + tf.cast(tf.strings.length(t), tf.float32)),
    "last_of_padded": (T, lambda t: tf.sparse.to_dense(words(t), "")[:, -1]),
    "padded_itself": (T, lambda t: tf.sparse.to_dense(words(t), "")),
    "all_words": (T, lambda t: words(t).values),
    "word_rows": (T, lambda t: words(t).indices),
    "normed": (PICTURE, lambda p: tf.compat.v1.nn.fused_batch_norm(p, [1.0] * 3, [0.0] * 3)[0]),
    "squeezed": (X, lambda x: tf.squeeze(x)),
    "summed": (X, lambda x: tf.reduce_sum(x)),
    "constant": (X, lambda x: tf.constant([1.0, 2.0])),
    "fixed_rows": (X, lambda x: x + tf.constant(np.eye(4), tf.float32)[: tf.shape(x)[0]]),
    "random": (X, lambda x: x + tf.random.uniform([1])),
    "dropped": (X, lambda x: tf.nn.dropout(x, 0.5)),
    "loop": (X, lambda x: tf.map_fn(lambda row: row * 2.0, x)),
    "branch": (X, lambda x: tf.cond(tf.reduce_any(x > 9.0), lambda: x * 0.0, lambda: x)),
    "unique": (V, lambda v: tf.cast(tf.unique(v).idx, tf.float32)),
    "ranked": (V, lambda v: tf.cast(tf.math.top_k(v, tf.shape(v)[0]).indices, tf.float32)),
    "python": (X, lambda x: tf.reshape(tf.numpy_function(np.sort, [x], tf.float32), [-1, 4])),
    "cast_list": (V, lambda v: tf.sparse.to_dense(tf.SparseTensor(
        tf.pad(tf.where(tf.cast(v, tf.int32)), [[0, 0], [0, 1]]), tf.boolean_mask(v, tf.cast(v, tf.bool)),
        tf.stack([tf.shape(v, tf.int64)[0], 1])))[:, 0]),
}  # fmt: skip


class Counter(tf.Module):
    """Answers how many rows it has seen: what one request leaves behind, the next one finds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = tf.Variable(0.0)

    @tf.function(input_signature=[X])
    def count(self, x: Any) -> dict[str, Any]:
        self.seen.assign_add(tf.reduce_sum(x))
        return {"y": x * 2.0}


def saved(path: Path, functions: dict[str, tuple[Any, Function]], module: tf.Module | None = None) -> str:
    module = module or tf.Module()
    signatures = {}
    for name, (spec, function) in functions.items():

        def answer(value: Any, function: Function = function) -> dict[str, Any]:
            return {"y": function(value)}

        signatures[name] = tf.function(answer, input_signature=[spec])
    if isinstance(module, Counter):
        signatures["counter"] = module.count
    tf.saved_model.save(module, str(path), signatures=signatures)
    return str(path)


@pytest.fixture(scope="module")
def independent(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Any]:
    path = saved(tmp_path_factory.mktemp("independent"), INDEPENDENT)
    return dependent_signatures(path), tf.saved_model.load(path).signatures


@pytest.fixture(scope="module")
def dependent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return dependent_signatures(saved(tmp_path_factory.mktemp("dependent"), DEPENDENT, Counter()))


def batch(spec: tf.TensorSpec, rows: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(rows)
    if spec.dtype == tf.string:
        texts = [" ".join("abc"[: int(n)] for n in random.integers(1, 4, 1 + row % 5)) for row in range(rows)]
        return np.array(texts, object)
    shape = [rows, *(size or 3 for size in spec.shape[1:])]
    values = np.float32(random.normal(size=shape) * 2)
    values[:: max(1, rows // 3)] *= 1000.0
    return values


@pytest.mark.parametrize("name", INDEPENDENT)
def test_what_is_proven_answers_alike_alone_and_merged(independent, name):
    reasons, signatures = independent
    assert reasons[name] == ""
    spec, rows = INDEPENDENT[name][0], batch(INDEPENDENT[name][0], 7)

    def ask(part: Any) -> Any:
        return signatures[name](**{spec.name: tf.constant(part)})["y"].numpy()

    merged, alone = ask(rows), np.concatenate([ask(rows[at : at + 1]) for at in range(7)])
    if merged.dtype == object:
        assert merged.tolist() == alone.tolist()
    else:
        np.testing.assert_allclose(merged, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*DEPENDENT, "counter"])
def test_rows_that_see_each_other_are_never_proven(dependent, name):
    assert dependent[name]


def test_the_reason_names_operator_and_place(dependent):
    assert dependent["swayed"].startswith("output y: Max: the axis of the rows is reduced or moved (")
    assert dependent["counter"].startswith("operator AssignAddVariableOp is not on the list of row-wise ones")


def test_inputs_without_rows_prove_nothing(tmp_path):
    fixed = tf.TensorSpec([3], tf.float32, name="x")
    unranked = tf.TensorSpec(None, tf.float32, name="x")
    path = saved(tmp_path / "m", {"fixed": (fixed, lambda x: x), "unranked": (unranked, lambda x: x)})
    for reason in dependent_signatures(path).values():
        assert (
            reason == "input value must have rows of one known rank"
            or "must have rows of one known" in reason
        )


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_graph_that_cannot_be_read_proves_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    assert all(dependent_signatures(str(tmp_path)).values())


def test_operators_with_effects_or_chance_are_not_on_the_list():
    registered = {op for op in dir(tf.raw_ops) if op[0].isupper()}
    assert set(RULES) <= registered
    assert not {op for op in RULES if "Random" in op or "Assign" in op or "Print" in op or "Py" in op}


# The mark


def raw(path: Path, function: Function) -> str:
    """A model with the signature that pushed ones have: column `v` of numbers, `t` of texts."""

    @tf.function(input_signature=[V, T])
    def serving_raw(v: Any, t: Any) -> dict[str, Any]:
        v = tf.where(tf.math.is_nan(v), 0.0, v) + 0.0 * tf.cast(tf.strings.length(t), tf.float32)
        return {"outputs": function(v), "classes": tf.tile([["a"]], [tf.shape(v)[0], 1])}

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_raw": serving_raw})
    return str(path)


COLUMNS = {"v": np.float32([1.0, 2.0, np.nan, 4.0]), "t": np.array([b"a", b"", b"b", b"c"], object)}
TYPES = {"v": "float", "t": "string"}


def loop(v: Any) -> Any:
    return tf.map_fn(lambda one: one * 2.0, v)


def sway(v: Any) -> Any:
    return tf.where(tf.reduce_max(v) > 1000.0, -tf.ones_like(v), 2.0 * v)


@pytest.mark.parametrize(
    ("function", "stated", "marked", "text"),
    [
        (lambda v: v * 2.0, None, True, "may share a run"),
        (loop, None, False, "share no run: operator"),
        (sway, None, False, "share no run: output outputs: Max"),
        (loop, True, True, "may share a run"),
        (loop, False, False, "share no run: `row_independent` is false"),
        (lambda v: v * 2.0, False, False, "share no run: `row_independent` is false"),
    ],
)
def test_a_mark_is_written_where_it_is_proven_or_stated(tmp_path, function, stated, marked, text):
    path = raw(tmp_path / "m", function)
    assert text in mark_rows(path, COLUMNS, TYPES, stated)
    assert read_row_mark(path) == ({"serving_raw"} if marked else set())
    copy_mark(path, str(tmp_path / "other"))
    assert read_row_mark(tmp_path / "other") == read_row_mark(path)
    assert (tmp_path / "other").exists() is marked


def test_a_wrong_statement_is_found_by_extreme_rows(tmp_path):
    path = raw(tmp_path / "m", sway)
    with pytest.raises(HeadraceError, match="row_independent: true` needs rows that do not see each other"):
        mark_rows(path, COLUMNS, TYPES, True)
    assert not read_row_mark(path)


def test_rows_that_are_not_finite_are_compared_too(tmp_path):
    path = raw(tmp_path / "m", lambda v: tf.math.exp(tf.abs(v)) - tf.math.exp(v))
    assert "may share a run" in mark_rows(path, COLUMNS, TYPES, None)


def test_extreme_rows_follow_golden_ones():
    lists = {
        "v": np.zeros((20, 2), np.float32),
        "t": np.array([b"a"] * 20, object),
        "p": np.array([b"jpg"] * 20),
    }
    found = extreme_rows(lists, {"v": "floats", "t": "string", "p": "image"})
    assert {name: len(values) for name, values in found.items()} == {"v": 19, "t": 19, "p": 19}
    np.testing.assert_array_equal(found["v"][16:], [[1e6, 1e6], [-1e6, -1e6], [np.nan, np.nan]])
    assert len(found["t"][-1]) == 10_000
    assert set(found["p"]) == {b"jpg"}


@pytest.mark.parametrize(
    ("section", "stated"),
    [
        ({}, None),
        ({"family": "custom", "function": "m:f"}, False),
        ({"family": "custom", "function": "m:f", "row_independent": True}, True),
        ({"family": "ensemble"}, None),
        ({"family": "ensemble", "member": {"family": "custom", "function": "m:f"}}, False),
    ],
)
def test_only_families_of_the_users_own_state_it(section, stated):
    assert stated_independence(parse_model_config(section)) is stated
