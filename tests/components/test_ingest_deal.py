"""Who goes where: shares, rare classes, equal keys, and that nothing else bears on it."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.components.ingest import row_records
from headrace.components.ingest.deal import FEW_ROWS, RARE_ROWS, Dealer, portions
from headrace.components.ingest.row_records import RowRecords, codes_of, part_of
from headrace.data.config import HashSplit
from headrace.data.hashing import mix
from headrace.data.row_hashes import RowHashes

SHARES = {"train": 0.6, "eval": 0.2, "test": 0.2}


def keys_of(numbers):
    return mix(np.asarray(numbers, np.uint64))


def deal(numbers, codes=None, **split):
    """Deal out rows whose keys are `numbers`, all in one call."""
    numbers = np.asarray(numbers)
    codes = np.zeros(len(numbers), np.int64) if codes is None else np.asarray(codes)
    classes = np.bincount(codes).tolist() if codes.any() else ()
    dealer = Dealer(HashSplit(**SHARES | split), len(numbers), classes)
    return dealer.deal(keys_of(numbers), codes, np.arange(len(numbers)))


def counts(splits):
    return np.bincount(splits, minlength=3).tolist()


@pytest.mark.parametrize(
    ("rows", "shares", "expected"),
    [
        (178, (0.6, 0.2, 0.2), [107, 36, 35]),
        (10, (0.8, 0.1, 0.1), [8, 1, 1]),
        (3, (0.8, 0.1, 0.1), [3, 0, 0]),
        (7, (1 / 3, 1 / 3, 1 / 3), [3, 2, 2]),
        (999, (0.7, 0.15, 0.15), [699, 150, 150]),
    ],
)
def test_portions_follow_the_largest_remainder(rows, shares, expected):
    assert portions(rows, shares).tolist() == expected


@pytest.mark.parametrize("rows", [3, 4, 10, 57, 178, 555, 999])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_few_rows_are_cut_to_the_shares(rows, seed):
    expected = [1, 1, 1] if rows == 3 else portions(rows, (0.6, 0.2, 0.2)).tolist()
    assert counts(deal(range(rows), seed=seed)) == expected


def test_the_splits_of_known_rows_are_pinned():
    """Moving a bound by 0.01, or any change of hash or number, shows here."""
    many = deal(range(20_000), train=0.7, eval=0.2, test=0.1)
    assert counts(many) == [14093, 3921, 1986]
    assert "".join(map(str, many[:60])) == "000022000011120001001000001000010100100010210000010010000010"
    few = deal(range(60))
    assert "".join(map(str, few)) == "101022001021120011002000002000020200100010220100010120000020"
    equal = deal([5] * 40 + [6] * 20)
    assert "".join(map(str, equal)) == "221000100200000001020020210200000001121201201000121000010002"


def test_a_row_keeps_its_split_when_rows_come():
    assert deal(range(FEW_ROWS)).tolist() == deal(range(5 * FEW_ROWS))[:FEW_ROWS].tolist()


def test_the_seed_deals_anew():
    one, other = deal(range(4000), seed=0), deal(range(4000), seed=1)
    assert 0.3 < (one == other).mean() < 0.6  # 0.44 by chance


@pytest.mark.parametrize("rows", [60, 600, 6000])
def test_equal_keys_are_spread_or_stay_together(rows):
    numbers = np.arange(rows) // 30
    apart = deal(numbers, key=("id",), equal_keys="spread")
    assert max(len(set(apart[numbers == key])) for key in set(numbers)) > 1
    whole = deal(numbers, key=("id",))
    assert all(len(set(whole[numbers == key])) == 1 for key in set(numbers))
    if rows == 600:
        assert counts(whole) == [360, 120, 120]


def test_equal_keys_are_numbered_in_the_order_of_the_data():
    numbers = np.array([1, 2, 1, 1, 2] * 400)
    splits = deal(numbers, equal_keys="spread")
    alone = deal(np.full(1200, 1), equal_keys="spread")
    assert splits[numbers == 1].tolist() == alone.tolist()


@pytest.mark.parametrize("rare", [1, 2, 3, 4, 7, RARE_ROWS - 1])
@pytest.mark.parametrize("common", [50, 2000])
def test_a_rare_class_reaches_every_split(rare, common):
    codes = np.zeros(common + rare, np.int64)
    codes[np.random.default_rng(rare).permutation(len(codes))[:rare]] = 1
    splits = deal(range(len(codes)), codes)
    found = counts(splits[codes == 1])
    assert sum(found) == rare
    if rare >= 3:
        assert min(found) >= 1
        assert abs(found[0] - 0.6 * rare) <= 1.5
    else:
        assert found == ([1, 0, 0] if rare == 1 else [1, 0, 1])
    if common == 50:
        assert counts(splits) == portions(common + rare, (0.6, 0.2, 0.2)).tolist()


def test_many_rare_classes_together_keep_the_shares():
    codes = np.concatenate([np.repeat(np.arange(1, 101), 4), np.zeros(3000, np.int64)])
    splits = deal(range(len(codes)), codes)
    assert min(min(counts(splits[codes == code])) for code in range(1, 101)) >= 1
    assert counts(splits[codes > 0]) == pytest.approx([200, 100, 100], abs=60)


def test_a_class_of_thirty_rows_is_dealt_out_like_any_other():
    codes = np.zeros(3000, np.int64)
    codes[:RARE_ROWS] = 1
    assert deal(range(3000), codes).tolist() == deal(range(3000)).tolist()


def test_rare_classes_move_no_other_row():
    codes = np.zeros(3000, np.int64)
    codes[:10] = 1
    assert deal(range(3000), codes)[10:].tolist() == deal(range(3000))[10:].tolist()


def test_groups_with_a_rare_class_stay_together_and_reach_every_split():
    numbers = np.repeat(np.arange(600), 5)
    codes = np.zeros(3000, np.int64)
    codes[[0, 7, 12, 21, 300, 2000]] = 1
    splits = deal(numbers, codes, key=("id",))
    assert all(len(set(splits[numbers == number])) == 1 for number in range(600))
    assert min(counts(splits[codes == 1])) >= 1


@pytest.mark.parametrize("equal_keys", ["spread", "together"])
@pytest.mark.parametrize("rows", [100, 5000])
def test_records_on_disk_are_dealt_out_like_rows_in_memory(tmp_path, monkeypatch, rows, equal_keys):
    monkeypatch.setattr(row_records, "_PART_ROWS", 700)
    monkeypatch.setattr(row_records, "_CHUNK_ROWS", 333)
    random = np.random.default_rng(rows)
    numbers = random.integers(0, rows // 2, rows)
    labels = random.choice(["b", "a"], rows)
    labels[random.permutation(rows)[:11]] = "z"
    split = HashSplit(**SHARES, key=("id",), equal_keys=equal_keys)
    keys = keys_of(numbers)
    records = RowRecords(str(tmp_path), has_classes=True)
    for start in range(0, rows, 90):
        part = keys[start : start + 90]
        records.add(RowHashes(part, part), pa.array(labels[start : start + 90]), None)
    records.close()
    classes = {name: int((labels == name).sum()) for name in ("b", "a", "z")}
    records.deal(split, classes)
    codes = np.searchsorted(["a", "b", "z"], labels)
    dealer = Dealer(split, rows, [classes["a"], classes["b"], classes["z"]])
    assert records.parts == 1 + rows // 700
    assert records.splits().tolist() == dealer.deal(keys, codes, np.arange(rows)).tolist()


def test_parts_are_even_ranges_in_order():
    keys = np.sort(keys_of(range(10_000)))
    parts = part_of(keys, 7)
    assert (np.diff(parts) >= 0).all()
    assert set(parts.tolist()) == set(range(7))
    assert np.bincount(parts) == pytest.approx(np.full(7, 10_000 / 7), rel=0.1)


def test_codes_number_labels_as_they_come():
    numbers: dict[str, int] = {}
    assert codes_of(pa.array(["b", None, "a", "b"]), numbers).tolist() == [0, 1, 2, 0]
    assert codes_of(pa.array(["a", "c"]), numbers).tolist() == [2, 3]
    assert numbers == {"b": 0, "": 1, "a": 2, "c": 3}
