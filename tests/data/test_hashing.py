"""Hashes of values and rows: one canonical form, whatever the file."""

import datetime
import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from headrace.data.hashing import (
    NULL_WORDS,
    among,
    distinct,
    hash_column,
    hash_rows,
    hash_values,
    mix,
    unit_interval,
)  # fmt: skip


def test_mix_gives_the_published_splitmix64_stream():
    # The first outputs for seed 1234567,
    # as the reference C program prints them (Rosetta Code,
    # "Pseudo-random numbers/Splitmix64").
    states = (np.uint64(1234567) + np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(
        np.uint64
    )
    assert mix(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip


DAY = datetime.datetime(2024, 1, 31, tzinfo=datetime.UTC)

ALIKE = {
    "one": [["1", "1.0", " 01 ", "+1", "1e0", "1."], pa.array([1], pa.int8()), [1.0], [Decimal("1.00")]],
    "half": [["0.5", ".5", "5e-1", "00.50"], pa.array([0.5], pa.float32()), pa.array([np.float16(0.5)])],
    "tenth": [["0.1"], pa.array([0.1], pa.float32()), [0.1], [Decimal("0.1000000000")]],
    "price": [["1234.10"], [1234.1], [Decimal("1234.1000000000")]],
    "zero": [["0", "-0", "0.0"], [0], [-0.0]],
    "large": [[str(2**63 + 2**11)], pa.array([2**63 + 2**11], pa.uint64()), [2.0**63 + 2**11]],
    "true": [["true", "True", "TRUE", " true"], [True]],
    "false": [["false", "FALSE"], [False]],
    "day": [
        ["2024-01-31", "2024-01-31 00:00", "2024-01-31T00:00:00", "2024-01-31 00:00:00.000000000"],
        ["2024-01-31T01:00:00+01:00", "2024-01-31 01:00:00 +0100", "2024-01-31T00:00:00Z"],
        [DAY.date()],
        pa.array([DAY], pa.timestamp("ns")),
        pa.array([DAY], pa.timestamp("s", "Europe/Berlin")),
        pa.array([DAY.date()], pa.date64()),
    ],
    "moment": [
        ["2024-01-31 12:30:05.25", "2024-01-31T12:30:05.250000"],
        pa.array([DAY.replace(hour=12, minute=30, second=5, microsecond=250_000)], pa.timestamp("ms")),
    ],
    "clock": [["12:30:05", "12:30:05.000000"], [datetime.time(12, 30, 5)]],
    "split second": [["12:30:05.5"], [datetime.time(12, 30, 5, 500_000)]],
    "text": [
        ["abc", " abc\t"],
        [b"abc"],
        pa.array(["abc"]).dictionary_encode(),
        pa.array(["abc"], pa.string_view()),
    ],
    "case": [["ABC"], pa.array(["ABC"], pa.large_string())],
    "no day": [["2024-02-31"]],
    "infinite": [["1e999"]],
    "bytes": [[b"\xff\x00"], pa.array([b"\xff\x00"], pa.binary(2))],
    "list": [[[1, 2]], pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))],
    "struct": [[{"a": 1, "b": None}], [{"b": None, "a": 1.0}]],
    "map": [pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))],
}


@pytest.mark.parametrize("forms", ALIKE.values(), ids=ALIKE)
def test_forms_of_one_value_hash_alike(forms):
    found = [hash_values(form if isinstance(form, pa.Array) else pa.array(form)) for form in forms]
    assert len(set(np.concatenate(found).tolist())) == 1
    assert found[0][0] != 0


def test_values_that_differ_hash_apart():
    found = [
        hash_values(form if isinstance(form, pa.Array) else pa.array(form))[0] for form, *_ in ALIKE.values()
    ]
    assert len(set(found)) == len(ALIKE)


@pytest.mark.parametrize("word", [*sorted(NULL_WORDS), "NaN", " NA ", "N/A", "Unknown"])
def test_null_words_are_missing(word):
    assert hash_values(pa.array([word, None])).tolist() == [0, 0]


def test_missing_is_missing_in_every_type():
    for kind in (pa.int32(), pa.float32(), pa.string(), pa.bool_(), pa.timestamp("us"), pa.decimal128(9, 2),
                 pa.binary(), pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.null(), pa.time64("us"),
                 pa.duration("s"), pa.dictionary(pa.int8(), pa.string())):  # fmt: skip
        assert hash_values(pa.array([None, None], kind)).tolist() == [0, 0], kind
    assert hash_values(pa.array([float("nan")])).tolist() == [0]
    empty, one, two = hash_values(pa.array([[], [7], [7, 7]], pa.list_(pa.int8()))).tolist()
    assert empty == 0
    assert len({empty, one, two, *hash_values(pa.array([7])).tolist()}) == 3


def test_what_cannot_be_compared_is_an_error():
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(TypeError, match="have no canonical form"):
        hash_values(union)


def test_rows_are_told_by_names_and_values_not_by_order_or_neighbours():
    a, b = pa.array([1, 2, None, 3]), pa.array(["x", None, "", "x"])
    whole = hash_rows({"a": a, "b": b})
    assert whole.tolist() == hash_rows({"b": b, "a": a}).tolist()
    assert whole.tolist() == [hash_rows({"a": a[i : i + 1], "b": b[i : i + 1]})[0] for i in range(4)]
    assert whole.tolist() == hash_rows({"a": a, "b": b, "c": pa.nulls(4)}).tolist()
    assert len(set(whole.tolist())) == 4
    assert whole[2] == 0
    assert (whole == hash_column("a", a) + hash_column("b", b)).all()
    assert hash_rows({"a": b, "b": a})[0] != whole[0]


@pytest.mark.parametrize("rows", [0, 1, 2, 500])
@pytest.mark.parametrize("most", [1, 20, 2**64 - 1])
def test_different_hashes_and_those_among_others_are_those_of_sets(rows, most):
    rng = np.random.default_rng(rows)
    one, other = (rng.integers(0, most, rows, np.uint64, endpoint=True) for _ in range(2))
    one[: rows // 3] = other[: rows // 3]
    ordered = sorted({*one.tolist()})
    assert distinct(one).tolist() == ordered
    assert among(other, distinct(one)).tolist() == [value in ordered for value in other.tolist()]


def test_hashes_are_frozen():
    """A change of these values moves rows between the splits of every user's data."""
    assert hash_rows({"n": pa.array([1.5, None]), "t": pa.array(["x", "y"])}).tolist() == [
        11381279944896010473,
        13064448354899819698,
    ]
    assert hash_values(pa.array(["2024-01-31", "abc", "true", "7"])).tolist() == [
        5391859178493996889,
        6455300059550759896,
        4608981236071098869,
        4604207644681594226,
    ]


def test_hashes_spread_evenly():
    for rows in ({"n": pa.array(np.arange(100_000))}, {"a": pa.array(np.arange(100_000) % 300), "b": pa.array(
        np.arange(100_000) // 300)}):  # fmt: skip
        counts, _ = np.histogram(unit_interval(mix(hash_rows(rows))), bins=100, range=(0, 1))
        # Chi-square with 99 degrees of freedom: mean 99, standard deviation 14.
        assert ((counts - 1000) ** 2 / 1000).sum() < 170


@pytest.mark.parametrize("writer", ["pandas", "arrow"])
def test_a_table_hashes_alike_from_csv_and_parquet(writer):
    rng = np.random.default_rng(5)
    rows = 400
    table = pd.DataFrame(
        {
            "whole": rng.integers(-(2**40), 2**40, rows),
            "double": rng.normal(size=rows),
            "single": rng.normal(size=rows).astype(np.float32),
            "flag": rng.random(rows) < 0.5,
            "gap": np.where(rng.random(rows) < 0.3, np.nan, rng.integers(0, 9, rows)),
            "word": rng.choice(["a", "é", "NA", "x y", None], rows),
            "kind": pd.Categorical(rng.choice(["p", "q"], rows)),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, rows), "D"),
            "moment": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**9, rows), "ms"),
            "zoned": pd.Timestamp("2024-01-01", tz="Europe/Berlin")
            + pd.to_timedelta(rng.integers(0, 10**6, rows), "s"),
            "money": [Decimal(int(cents)) / 100 for cents in rng.integers(0, 10**7, rows)],
        }
    )  # fmt: skip
    stored, text = io.BytesIO(), io.BytesIO()
    table.to_parquet(stored)
    whole = pq.read_table(stored)
    if writer == "pandas":
        table.to_csv(text, index=False)
    else:
        plain = whole.set_column(6, "kind", whole["kind"].cast(pa.string()))
        arrow_csv.write_csv(plain, text)
    text.seek(0)
    kinds = dict.fromkeys(table.columns, pa.string())
    read = arrow_csv.read_csv(text, convert_options=arrow_csv.ConvertOptions(column_types=kinds))
    for name in table.columns:
        np.testing.assert_array_equal(
            hash_column(name, whole[name].combine_chunks()),
            hash_column(name, read[name].combine_chunks()),
            name,
        )
