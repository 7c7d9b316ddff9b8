"""The sidecar's reference implementation: by hand counts, without TensorFlow."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.data.errors import ConfigError
from headrace.serving.columns import InvalidRow
from headrace.serving.dates import DATE_PARTS, cycle_table, date_part
from headrace.serving.preprocessing import Preprocessor
from headrace.serving.siphash import hash_buckets, siphash

KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)

SPEC: dict[str, Any] = {
    "schema_version": 1,
    "hash": {"function": "siphash-2-4", "key": [str(word) for word in KEY]},
    "joiner": "+",
    "columns": [
        {"name": "x", "type": "float"},
        {"name": "n", "type": "int"},
        {"name": "s", "type": "string"},
    ],
    "outputs": [
        {"name": "z", "op": "number", "column": "x", "impute": 4.0, "log": False, "clip": [0.0, 8.0],
         "subtract": 2.0, "divide": 0.5},
        {"name": "x_missing", "op": "missing", "column": "x"},
        {"name": "range", "op": "buckets", "column": "n", "log": False, "clip": None, "bounds": [0.0, 10.0]},
        {"name": "word", "op": "category", "parts": [{"column": "s", "bounds": None}], "buckets": 3,
         "vocabulary": ["a", "b"]},
        {"name": "cross", "op": "category",
         "parts": [{"column": "s", "bounds": None}, {"column": "n", "bounds": None},
                   {"column": "x", "bounds": [1.0]}],
         "buckets": 1, "vocabulary": ["a+7+1", "+7+", "a++0"]},
        {"name": "words", "op": "categories", "column": "s", "separator": ",", "width": 2, "buckets": 1,
         "vocabulary": ["a", "b"]},
        {"name": "day", "op": "date_category", "column": "s", "part": "day_of_week"},
        {"name": "turn", "op": "date_cycle", "column": "s", "part": "day_of_week"},
    ],
}  # fmt: skip


@pytest.fixture
def sidecar() -> Preprocessor:
    return Preprocessor(SPEC)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"x": 3.0, "n": 7, "s": "a"},
         {"z": [2], "x_missing": [0], "range": [1], "word": [4], "cross": [2],
          "words": [2, -1], "day": [0], "turn": [0, 0]}),
        ({"x": 99.0, "n": 10}, {"z": [12], "range": [2], "word": [0], "words": [0, -1]}),
        ({"x": None, "n": 7, "s": ""}, {"z": [4], "x_missing": [1], "cross": [3]}),
        ({"x": float("nan"), "n": float("nan"), "s": float("nan")},
         {"z": [4], "range": [3], "word": [0], "cross": [0]}),
        ({"x": "", "n": "", "s": "b"}, {"z": [4], "range": [3], "word": [5], "cross": [1]}),
        ({"x": 0.99, "s": "a"}, {"cross": [4], "z": [-2.02]}),
        ({"n": -1.0, "s": ",b,,a,b"}, {"range": [0], "words": [3, 2]}),
        ({"s": ",,"}, {"words": [0, -1]}),
        ({"s": "zzz,a"}, {"words": [1, 2]}),
        ({"s": "2013-01-06"}, {"day": [7], "turn": [np.sin(12 * np.pi / 7), np.cos(12 * np.pi / 7)]}),
        ({"s": "2013-01-07T23:59Z"}, {"day": [1], "turn": [0, 1]}),
    ],
)  # fmt: skip
def test_rows_counted_by_hand(sidecar: Preprocessor, row: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sidecar.transform([row])
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], [values], atol=1e-6, err_msg=name)


def test_shapes_and_types(sidecar: Preprocessor) -> None:
    for size in (0, 1, 5):
        found = sidecar.transform([{}] * size)
        assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
            "z": ((size, 1), "float32"),
            "x_missing": ((size, 1), "float32"),
            "range": ((size, 1), "int64"),
            "word": ((size, 1), "int64"),
            "cross": ((size, 1), "int64"),
            "words": ((size, 2), "int64"),
            "day": ((size, 1), "int64"),
            "turn": ((size, 2), "float32"),
        }


def test_unknown_words_are_hashed(sidecar: Preprocessor) -> None:
    words = ["c", "d", "é", "2013"]
    expected = 1 + hash_buckets([word.encode() for word in words], 3, KEY)
    np.testing.assert_array_equal(sidecar.transform({"s": words})["word"][:, 0], expected)
    # An integer in a text column is taken as its decimal text.
    assert sidecar.transform([{"s": 2013}])["word"][0, 0] == expected[3]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"x": 1}, {"x": "1"}], r"'x' must be a number. Received: '1', of type str \(row 1, column 'x'\)"),
        ([{"x": True}], r"must be a number\. Received: True"),
        ([{"n": 1.5}], r"'n' must be an integer\. Received: 1.5"),
        ([{"n": float("inf")}], r"must be an integer\. Received: inf"),
        ([{"n": 2**63}], r"must fit in 64 bits\. Received: 9223372036854775808, .*row 0"),
        ([{}, {"s": 1.5}], r"'s' must be text, .* Received: 1.5, of type float \(row 1"),
        ([{"s": ["a"]}], r"must be text"),
        ([{"s": True}], r"must be text"),
        ([{"x": 1}, {"X": 1}], r"that the model reads\. Received: 'X' \(row 1, column 'X'\)"),
        ({"x": [1], "other": [2]}, r"that the model reads\. Received: 'other'"),
        ({"x": [1], "n": [1, 2]}, r"of one length\. Received: 2 values in column 'n' and 1 in column 'x'"),
    ],
)
def test_what_does_not_fit_is_named(sidecar: Preprocessor, rows: Any, message: str) -> None:
    with pytest.raises(InvalidRow, match=message):
        sidecar.transform(rows)


def test_unknown_columns_can_be_passed_over(sidecar: Preprocessor) -> None:
    known = sidecar.transform([{"x": 1.0}])
    given: list[Any] = [[{"x": 1.0, "id": 5}], {"x": [1.0], "id": [5]}]
    for rows in given:
        for name, array in sidecar.transform(rows, ignore_unknown=True).items():
            np.testing.assert_array_equal(array, known[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, r"`schema_version` must be 1\. Received: 2"),
        ({"hash": {"function": "md5", "key": ["1", "2"]}}, r"must be siphash-2-4\. Received: 'md5'"),
        ({"outputs": [{"name": "a", "op": "fft"}]}, r"`op` must be one of number, .* Received: 'fft'"),
    ],
)
def test_a_sidecar_of_another_kind(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocessor(SPEC | change)


def test_siphash_of_the_reference() -> None:
    # The first vectors of the authors' own table (vectors.h, SipHash-2-4, 64 bits) for 00, 00 01, ...
    texts = [bytes(range(size)) for size in range(4)] + [bytes(range(63))]
    assert [value.tobytes().hex() for value in siphash(texts, KEY).astype("<u8")] == [
        "310e0edd47db6f72",
        "fd67dc93c539f874",
        "5a4fa9d909806c0d",
        "2d7efbd796666785",
        "724506eb4c328a95",
    ]


def test_dates_are_those_of_the_calendar() -> None:
    days = np.arange(np.datetime64("1896-01-01"), np.datetime64("2104-03-01"))
    texts = days.astype(str).tolist()
    months = days.astype("datetime64[M]")
    expected = {
        "month": months.astype(int) % 12 + 1,
        "day": (days - months.astype("datetime64[D]")).astype(int) + 1,
        "day_of_week": (days.astype(int) + 3) % 7 + 1,  # 1970-01-01 was a Thursday
        "day_of_year": (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1,
    }
    for part, values in expected.items():
        np.testing.assert_array_equal(date_part(texts, part), values)
    assert date_part(["2020-01-01T07:08", "2020-01-01"], "hour").tolist() == [8, 1]
    assert date_part(["2020-01-01T07:08", "2020-01-01"], "minute").tolist() == [9, 1]


@pytest.mark.parametrize("part", DATE_PARTS)
def test_cycles_close(part: str) -> None:
    table = cycle_table(part)[1:]
    np.testing.assert_allclose(np.hypot(table[:, 0], table[:, 1]), 1, atol=1e-6)
    steps = np.linalg.norm(np.diff(np.vstack([table, table[:1]]), axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], atol=1e-6)


def test_33_000_rows_take_well_under_two_seconds(sidecar: Preprocessor) -> None:
    words = ["a", "b", "unseen", None, "2013-05-06", "much longer text than one block"]
    rows = [{"x": i * 0.1, "n": i % 50, "s": words[i % 6]} for i in range(33_000)]
    start = time.process_time()
    sidecar.transform(rows)
    assert time.process_time() - start < 2


def test_tensorflow_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    path.write_text(json.dumps(SPEC))
    code = (
        "import sys; from headrace.serving.preprocessing import Preprocessor; "
        f"Preprocessor.load({str(path)!r}).transform([{{'x': 1.0}}]); "
        "heavy = {'tensorflow', 'pyarrow', 'pydantic', 'pandas'}; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
