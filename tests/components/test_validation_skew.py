"""Common bins, the distances on them, and what chance gives in few rows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, norm

from headrace.components.gates.state import Bound
from headrace.components.validation.distributions import (
    Bins,
    Distribution,
    choose_bins,
    count_values,
    merge,
    read_distributions,
    write_distribution,
)
from headrace.components.validation.skew import (
    Distance,
    jensen_shannon,
    judge_skew,
    l_infinity,
    measure_skew,
    skew_rows,
)
from tests.components.validation_room import Room, make_rows, usual
from tests.pipeline.report_fixture import record_batch


def compared(splits: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Distance]:
    """Measure splits of columns, as the nodes do."""
    batches = {split: record_batch(columns) for split, columns in splits.items()}
    bins = choose_bins({split: [batch] for split, batch in batches.items()})
    counted = {
        split: (batch.num_rows, merge([count_values(batch, bins)], bins)) for split, batch in batches.items()
    }
    return {(found.split, found.feature): found for found in measure_skew(counted)}


@pytest.mark.parametrize("odd", [1e9, -1e9, np.inf, 1e38])
@pytest.mark.parametrize("place", ["train", "test"])
def test_one_odd_row_moves_no_distance(odd: float, place: str) -> None:
    rng = np.random.default_rng(0)
    splits = {"train": {"x": rng.normal(size=2000)}, "test": {"x": rng.normal(size=500)}}
    before = compared(splits)["test", "x"].value
    splits[place]["x"][17] = odd
    assert compared(splits)["test", "x"].value == pytest.approx(before, abs=0.004)
    # Nor does it hide that the others are apart.
    splits["test"]["x"] = splits["test"]["x"] + 2
    assert compared(splits)["test", "x"].value > 0.3


def test_bins_are_trains_deciles_open_at_both_ends() -> None:
    train, test = np.arange(1000.0), np.array([-5.0, 99.0, 100.0, 1e6])
    batches = {"train": [record_batch({"x": train})], "test": [record_batch({"x": test})]}
    bins = choose_bins(batches)
    assert bins["x"].edges == tuple(float(n) for n in range(99, 1000, 100)[:9])
    assert merge([count_values(batches["train"][0], bins)], bins)["x"].counts == [99, *[100] * 8, 101]
    assert merge([count_values(batches["test"][0], bins)], bins)["x"].counts == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("kind", [float, int])
def test_a_value_of_many_rows_has_a_bin_of_its_own(kind: type) -> None:
    train = np.array([0] * 95 + [1, 2, 3, 4, 5], kind)
    test = np.array([0] * 50 + list(range(1, 51)), kind)
    found = compared({"train": {"x": train}, "test": {"x": test}})["test", "x"]
    assert found.value == pytest.approx(jensenshannon([0.95, 0.05], [0.5, 0.5], base=2) ** 2)


def test_rows_without_a_value_are_a_bin() -> None:
    full = np.arange(100.0)
    half = np.where(full % 2 == 0, np.nan, full)
    words = np.array(["a", "b"] * 50)
    gone = np.array(["a", ""] * 50)
    found = compared({"train": {"x": full, "w": words}, "test": {"x": half, "w": gone}})
    assert found["test", "w"].value == pytest.approx(0.5)
    assert found["test", "x"].value > 0.3
    away = compared({"train": {"x": full, "w": words}, "test": {"z": full}})
    assert (away["test", "x"].value, away["test", "w"].value) == (1.0, 1.0)
    assert away["test", "z"].value == pytest.approx(1.0)


def test_categories_are_compared_by_name_and_others_are_none() -> None:
    rng = np.random.default_rng(1)
    ids = np.array([f"id{i}" for i in range(4000)])
    train, test = {"w": rng.permutation(ids)[:3000]}, {"w": ids[:60]}
    assert compared({"train": train, "test": test})["test", "w"].value < 0.05
    # A value that one split has alone is named, however rare it is in all.
    test["w"] = np.array(["new"] * 20 + list(ids[:40]))
    assert compared({"train": train, "test": test})["test", "w"].value == pytest.approx(20 / 60)


def test_lists_count_their_values_and_their_rows() -> None:
    rows = [[1.0, 2.0, float("nan")], None, [], [float("nan")], [5.0]]
    batch = pa.RecordBatch.from_pydict({"s": pa.array(rows, pa.large_list(pa.float32()))})
    bins = {"s": Bins(edges=(2.0,), drawn=(2.0,))}
    found = merge([count_values(batch, bins)], bins)["s"]
    assert (found.present, found.counts) == (2, [1, 2])
    assert found.shares(5) == pytest.approx([0.4 / 3, 0.8 / 3, 0.6])


def test_what_is_no_column_of_both_kinds_or_is_skipped_has_no_bins() -> None:
    text, numbers = (
        record_batch({"x": np.array(["a"]), "y": np.array([1])}),
        record_batch({"x": np.array([1])}),
    )
    assert choose_bins({"train": [text], "test": [numbers]}, ["y"]) == {}
    raw = pa.RecordBatch.from_pydict(
        {"b": pa.array([[b"\xff"], [b"ok"], [b"x" * 999]], pa.large_list(pa.large_binary()))}
    )
    bins = choose_bins({"train": [raw]})
    assert bins["b"].values == ("ok",)
    assert count_values(raw, bins)["b"].counts == [1, 2]


def test_distributions_survive_the_file(tmp_path: Path) -> None:
    held = {
        "n": Distribution(Bins((1.0, 2.5), (0.5,), None, True), 7, [1, 2, 4], [3, 4]),
        "w": Distribution(Bins(values=("é", "b")), 3, [2, 0, 1]),
    }
    for split in ("eval", "train"):
        (tmp_path / f"Split-{split}").mkdir()
        write_distribution(tmp_path / f"Split-{split}" / "distribution.json", 9, held)
    found = read_distributions(tmp_path)
    assert found == {"train": (9, held), "eval": (9, held)}
    assert list(found) == ["train", "eval"]


def test_the_measures_are_those_of_scipy_and_of_hand() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        one, other = rng.dirichlet(np.ones(6)) * [1, 1, 0, 1, 1, 1], rng.dirichlet(np.ones(6))
        one /= one.sum()
        assert jensen_shannon(one, other) == pytest.approx(jensenshannon(one, other, base=2) ** 2)
    assert jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert l_infinity(np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])) == pytest.approx(0.4)


def test_chance_is_chi_squared() -> None:
    found = compared({"train": {"x": np.arange(400.0)}, "test": {"x": np.arange(0, 400, 10.0)}})["test", "x"]
    expected = chi2.ppf(0.99, 9) * (1 / 400 + 1 / 40) / (8 * np.log(2))
    assert found.chance == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("rows", "held", "power"), [(107, 35, 0.95), (40, 10, 0.7), (600, 60, 0.95)])
def test_equal_distributions_rarely_warn_and_others_do(rows: int, held: int, power: float) -> None:
    rng = np.random.default_rng(rows)

    def columns(n: int, shift: float) -> dict[str, Any]:
        return {
            "normal": rng.normal(shift, 1, n),
            "skewed": rng.lognormal(2 * shift, 2, n),
            "hour": rng.integers(0, 24, n),
            "zeros": np.where(rng.random(n) < 0.7 - shift / 3, 0.0, rng.exponential(1, n)),
            "two": np.where(rng.random(n) < 0.5 + shift / 4.2, "yes", "no"),
            "many": np.array([f"c{i}" for i in (rng.zipf(1.5, n) % 97)]),
        }

    def warns(shift: float) -> bool:
        splits = {"train": columns(rows, 0), "eval": columns(held, 0), "test": columns(held, shift)}
        gates = judge_skew(list(compared(splits).values()), list(splits), 0.02, error=False)
        return any(gate.state == "WARN" for gate in gates)

    assert np.mean([warns(0) for _ in range(200)]) < 0.05
    assert np.mean([warns(2) for _ in range(50)]) > power


def distance(split: str, feature: str, value: float, chance: float) -> Distance:
    return Distance(split, feature, "jensen_shannon", value, chance)


@pytest.mark.parametrize(
    ("value", "chance", "error", "state", "bound", "words"),
    [
        (0.2, 0.1, False, "PASS", 0.2, "by 0.2 (jensen_shannon); at most 0.2 is allowed."),
        (0.21, 0.1, False, "WARN", 0.2, "at most 0.2 is allowed. It stops nothing"),
        (0.21, 0.1, True, "FAIL", 0.2, "by 0.21 (jensen_shannon); at most 0.2 is allowed."),
        (0.21, 0.3, True, "PASS", 0.3, "chance alone gives up to 0.3 in so few rows."),
        (0.31, 0.3, False, "WARN", 0.3, "chance alone gives up to 0.3 in so few rows. It stops"),
    ],
)
def test_the_gate_is_the_bound_or_chance(
    value: float, chance: float, error: bool, state: str, bound: float, words: str
) -> None:
    found = [distance("test", "a", value, chance), distance("test", "b", 0.05, 0.01)]
    (gate,) = judge_skew(found, ["train", "test"], 0.2, error=error)
    assert (gate.state, gate.bound, gate.value, gate.slice) == (
        state, Bound("<=", bound), value, {"split": "test"},
    )  # fmt: skip
    assert words in gate.reason
    assert gate.reason.startswith("a differs most between train and test")
    rows = skew_rows(found, 0.2, error=error)
    assert [(row.feature, row.split, row.severity) for row in rows] == (
        [] if state == "PASS" else [("a", "test", "error" if error else "warning")]
    )


def test_the_column_farthest_beyond_its_own_bound_is_named() -> None:
    found = [distance("test", "noisy", 0.4, 0.5), distance("test", "moved", 0.3, 0.1)]
    (gate,) = judge_skew(found, ["train", "test"], 0.2, error=False)
    assert (gate.state, gate.reason.split()[0]) == ("WARN", "moved")
    (empty,) = judge_skew(found, ["train", "eval"], 0.2, error=False)
    assert (empty.state, empty.reason) == ("FAIL", "no distance could be measured.")


def test_the_nodes_write_what_was_counted(tmp_path: Path) -> None:
    splits = usual()
    splits["test"] = make_rows(200, 5, month=lambda i: 1 if i else 10**6)
    _, base = Room(tmp_path).run(splits)
    held = read_distributions(base / "statistics")
    assert {split: rows for split, (rows, _) in held.items()} == {"train": 600, "eval": 200, "test": 200}
    carriers = held["train"][1]["carrier"]
    assert carriers.bins.values is not None
    counted = dict(zip(carriers.bins.values, carriers.counts, strict=False))
    assert counted == {name: sum(row["carrier"] == name for row in splits["train"]) for name in counted}
    assert len(counted) == 4
    assert held["train"][1]["tail"].present == sum(row["tail"] is not None for row in splits["train"])
    assert held["test"][1]["month"].bins == held["train"][1]["month"].bins
    worst = json.loads((base / "gates/skew.json").read_text())
    assert [entry["split"] for entry in worst] == ["eval"] * 6 + ["test"] * 6
    assert worst[6]["feature"] == "month"
    assert worst[6]["value"] > 0.5


@pytest.mark.parametrize(
    ("values", "edges", "drawn"),
    [
        # Whole numbers 0 to 11: a bin each.
        (np.arange(12), (1, 2, 3, 4, 5, 7, 8, 9, 10), tuple(range(1, 12))),
        # 0 to 99: five numbers a bin.
        (np.arange(100), (9, 19, 29, 39, 49, 59, 69, 79, 89), tuple(range(5, 100, 5))),
        # One odd number on each side: drawn are 2.6 times the inner eight tenths, no more.
        (np.array([-1000, *range(98), 1000]), (8, 18, 28, 38, 48, 58, 68, 78, 88), None),
        # A value of nine tenths of the rows: it, and what lies below and above.
        (np.array([4] * 95 + [1, 2, 3, 5, 6]), (4, 5), (4, 5)),
    ],
)
def test_edges_of_whole_numbers(
    values: np.ndarray, edges: tuple[int, ...], drawn: tuple[int, ...] | None
) -> None:
    found = choose_bins({"train": [record_batch({"n": values})]})["n"]
    assert (found.edges, found.integer) == (edges, True)
    if drawn is not None:
        assert found.drawn == drawn
    else:  # from 8 - 80 to 88 + 80 in steps of 13
        assert found.drawn == tuple(range(-72 + 13, 169, 13))


def test_edges_of_fractions() -> None:
    values = np.array([-100.0, *np.linspace(0, 1, 199), 100.0])
    found = choose_bins({"train": [record_batch({"x": values})]})["x"]
    deciles = np.sort(values)[np.ceil(np.arange(1, 10) * 201 / 10).astype(int) - 1].astype(np.float32)
    assert found.edges == pytest.approx(deciles, abs=1e-6)
    room = deciles[-1] - deciles[0]
    low, high = deciles[0] - room, deciles[-1] + room
    assert found.drawn == pytest.approx([low + k * (high - low) / 20 for k in range(1, 20)], abs=1e-6)
    assert not found.integer
    # The ends are those of train where nothing lies far out.
    inner = choose_bins({"train": [record_batch({"x": np.linspace(0, 1, 201)})]})["x"]
    assert inner.drawn == pytest.approx(np.linspace(0, 1, 21)[1:-1])
    constant = choose_bins({"train": [record_batch({"x": np.full(9, 0.5)})]})["x"]
    assert constant.edges == constant.drawn == (0.5, float(np.nextafter(0.5, 1)))


def test_chance_of_categories_is_that_of_the_most_variable_share() -> None:
    train, test = np.array(["a"] * 60 + ["b"] * 40), np.array(["a"] * 10 + ["b"] * 15)
    found = compared({"train": {"w": train}, "test": {"w": test}})["test", "w"]
    share = 70 / 125
    # Three shares: of a, of b, and of rows without a value; two sides each.
    sigmas = norm.ppf(1 - 0.01 / 6)
    expected = sigmas * np.sqrt(share * (1 - share) * (1 / 100 + 1 / 25)) + 1 / 25
    assert found.chance == pytest.approx(expected)
    # With as many columns again, chance has more tries.
    more = compared({"train": {"w": train, "v": train}, "test": {"w": test, "v": test}})["test", "w"]
    assert more.chance == pytest.approx(
        norm.ppf(1 - 0.005 / 6) * np.sqrt(share * (1 - share) * (1 / 100 + 1 / 25)) + 1 / 25
    )


def test_a_bound_that_chance_only_meets_is_the_bound() -> None:
    (gate,) = judge_skew([distance("test", "a", 0.1, 0.2)], ["train", "test"], 0.2, error=False)
    assert gate.reason.endswith("at most 0.2 is allowed.")
