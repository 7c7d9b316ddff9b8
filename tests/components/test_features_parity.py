"""The TensorFlow graph and the numpy sidecar on rows that are meant to tell them apart."""

import datetime
import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from headrace.components.features.dates import parse_dates
from headrace.components.features.golden import encode_rows
from headrace.components.features.signatures import FittedTransform
from headrace.serving.dates import DATE_PARTS, date_part
from headrace.serving.preprocessing import HASH_KEY, Preprocessor
from headrace.serving.raw import raw_columns
from headrace.serving.siphash import hash_buckets

from .transformed import TYPES, fitted_tabular, random_row

pytestmark = pytest.mark.long

ODD_FLOATS = [
    0.0,
    -0.0,
    1e-45,
    -1.0,
    2.5,
    1e30,
    -1e30,
    3.4e38,
    1e9 + 0.5,
    -1e-8,
    6.38905609893065,
    1.718281828,
]
ODD_INTS = [0, 18, 40, 41, 65, -1, 2**31, -(2**62), 2**63 - 1, -(2**63), 2**24 + 1]
ODD_TEXTS = [
    "",
    " ",
    "x",
    "İ",
    "\U0001f600",
    "a\tb",
    "a\nb",
    "a\rb",
    "\x00",
    "\x1f",
    "é",
    "e\u0301",
    "z" * 500,
    "|",
    "||",
]
ODD_DATES = [
    "2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "0001-01-01", "0000-01-01", "9999-12-31",
    "2020-13-01", "2020-00-10", "2020-01-00", "2020-04-31", "2020-1-1", "20200101", "2020-01-01T23:59",
    "2020-01-01 24:00", "2020-01-01T23:60", "2020-01-01 07:08:09.123Z", "2020-01-01T07:08:09+02:00",
    "2020-01-01T07:08-0330", "2020-01-01T07", "2020-01-01T", "2020-01-01\n", " 2020-01-01", "٢٠٢٠-٠١-٠١",
    "2020-12-31", "2021-12-31", "2020-01-01T07:08:99",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> tuple[FittedTransform, Preprocessor]:
    """The graph and the sidecar of one fitted transform."""
    graph = fitted_tabular().folder / "graph"
    return FittedTransform(str(graph)), Preprocessor.load(str(graph / "headrace" / "preprocessing.json"))


def odd_rows(seed: int, size: int, bounds: list[float]) -> list[dict[str, Any]]:
    """Draw rows whose values are ordinary, missing, extreme, exactly on a bound, or not of this world."""
    draw = random.Random(seed)
    choices: dict[str, list[Any]] = {
        "amount": ODD_FLOATS + bounds,
        "age": ODD_INTS,
        "ratio": ODD_FLOATS + bounds,
        "city": ODD_TEXTS,
        "code": ODD_INTS,
        "tags": ["red||blue", "|red", "red|", "|||", "a||b||c||d", "red|red|red|red", *ODD_TEXTS],
        "when": ODD_DATES + ODD_TEXTS,
    }
    rows = []
    for _ in range(size):
        row = random_row(draw)
        for name, odd in choices.items():
            if draw.random() < 0.4:
                row[name] = draw.choice(odd)
        rows.append(row)
    return rows


def sidecar_bounds(sidecar: Preprocessor) -> list[float]:
    ops = [output.spec for output in sidecar._outputs]
    return [bound for op in ops if op["op"] == "buckets" for bound in op["bounds"]]


@pytest.mark.parametrize("seed", range(5))
def test_odd_rows_agree(pair: tuple[FittedTransform, Preprocessor], seed: int) -> None:
    transform, sidecar = pair
    rows = odd_rows(seed, 600, sidecar_bounds(sidecar))
    found = sidecar.transform(rows)
    by_examples = transform.from_examples(tf.constant(encode_rows(rows, TYPES)))  # type: ignore[arg-type]
    by_raw = transform.from_raw(raw_columns(rows, TYPES))
    for wanted in (by_examples, by_raw):
        assert set(found) == set(wanted)
        for name, tensor in wanted.items():
            expected = tensor.numpy()
            assert found[name].dtype == expected.dtype
            assert found[name].shape == expected.shape
            if expected.dtype == np.int64:
                np.testing.assert_array_equal(found[name], expected, err_msg=name)
            else:
                np.testing.assert_array_less(
                    np.abs(found[name] - expected), 1e-5 * np.maximum(1, np.abs(expected)), err_msg=name
                )


def test_rows_and_columns_are_the_same(pair: tuple[FittedTransform, Preprocessor]) -> None:
    _, sidecar = pair
    rows = odd_rows(99, 50, [])
    by_column = sidecar.transform({name: [row[name] for row in rows] for name in TYPES})
    by_array = sidecar.transform({name: np.array([row[name] for row in rows], object) for name in TYPES})
    for name, expected in sidecar.transform(rows).items():
        np.testing.assert_array_equal(by_column[name], expected)
        np.testing.assert_array_equal(by_array[name], expected)


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%Y%m%d", "on %m-%d-%Y (%H.%M)"])
def test_dates_in_another_form_agree_with_the_graph_and_the_calendar(form: str) -> None:
    days = [
        datetime.datetime(2023, 12, 30, 22, 58) + datetime.timedelta(hours=7 * step) for step in range(300)
    ]
    texts = [day.strftime(form) for day in days] + [day.strftime(form).replace("0", "") for day in days]
    texts += ["", "2024-02-29", "30/02/2024", "20240230", "on 2-30-2024 (1.1)"]
    found = parse_dates(tf.constant(texts), form)
    for part in DATE_PARTS:
        assert found[part].numpy().tolist() == date_part(texts, part, form).tolist(), part
    months = date_part(texts[: len(days)], "month", form).tolist()
    assert months == [day.month for day in days]
    assert date_part(texts[-5:], "day", form).tolist() == [0] * 5


def test_dates_agree_with_the_graph() -> None:
    found = parse_dates(tf.constant(ODD_DATES))
    for part in DATE_PARTS:
        assert found[part].numpy().tolist() == date_part(ODD_DATES, part).tolist(), part


@pytest.mark.parametrize("buckets", [1, 2, 7, 1000, 10_000_000])
def test_hash_is_that_of_tensorflow(buckets: int) -> None:
    draw = random.Random(buckets)
    texts = [draw.randbytes(draw.randrange(40)) for _ in range(500)] + [
        b"",
        b"x" * 255,
        b"x" * 256,
        b"x" * 1000,
    ]
    expected = tf.strings.to_hash_bucket_strong(texts, buckets, list(HASH_KEY)).numpy()
    np.testing.assert_array_equal(hash_buckets(texts, buckets, HASH_KEY), expected)
