from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, StratifiedKFold, TimeSeriesSplit

from headrace.components.crossval.config import CrossValidationConfig, extra_columns
from headrace.components.crossval.folds import Fold, deal_alike, deal_groups, make_folds
from headrace.data.config import DataConfig
from headrace.data.errors import ConfigError

ROWS = 211
RNG = np.random.default_rng(0)
LABELS = RNG.choice(["a", "b", "c"], ROWS, p=[0.7, 0.25, 0.05])
GROUPS = RNG.choice(40, ROWS, p=RNG.dirichlet(np.full(40, 0.5)))
TIMES = RNG.permutation(ROWS).astype(float)


def config(method: str, **fields: Any) -> CrossValidationConfig:
    group = {"group": ["g"]} if method == "grouped" else {}
    return CrossValidationConfig.model_validate({"enabled": True, "method": method, **group, **fields})


def cut(method: str, keys: np.ndarray, seed: int = 3, **fields: Any) -> list[Fold]:
    return make_folds(config(method, **fields), keys, seed)


def keys_of(method: str) -> np.ndarray:
    return {"kfold": np.zeros(ROWS), "stratified": LABELS, "grouped": GROUPS, "time": TIMES}[method]


@pytest.mark.parametrize("method", ["kfold", "stratified", "grouped", "time"])
class TestEveryMethod:
    def test_the_parts_of_a_fold_share_no_row(self, method: str):
        for fold in cut(method, keys_of(method)):
            parts = [fold.train, fold.eval, fold.held_out]
            assert all(len(part) for part in parts)
            joined = np.concatenate(parts)
            assert len(np.unique(joined)) == len(joined)
            if method != "time":
                assert len(joined) == ROWS

    def test_the_seed_decides(self, method: str):
        def held(seed: int) -> list[list[int]]:
            return [fold.held_out.tolist() for fold in cut(method, keys_of(method), seed)]

        assert held(3) == held(3)
        if method != "time":
            assert held(3) != held(4)

    def test_what_chooses_the_epoch_is_about_its_share(self, method: str):
        for fold in cut(method, keys_of(method), eval_share=0.2):
            share = len(fold.eval) / (len(fold.eval) + len(fold.train))
            assert abs(share - 0.2) < (0.12 if method == "grouped" else 0.04)


@pytest.mark.parametrize("method", ["kfold", "stratified", "grouped"])
def test_every_row_is_held_out_once_a_repeat(method: str):
    folds = cut(method, keys_of(method), repeats=3)
    assert [(fold.repeat, fold.fold) for fold in folds] == [(r, f) for r in (1, 2, 3) for f in range(1, 6)]
    held = [
        np.sort(np.concatenate([f.held_out for f in folds if f.repeat == repeat])) for repeat in (1, 2, 3)
    ]
    assert all((rows == np.arange(ROWS)).all() for rows in held)
    cuts = [[f.held_out.tolist() for f in folds if f.repeat == repeat] for repeat in (1, 2, 3)]
    assert cuts[0] != cuts[1] != cuts[2]


class TestStratified:
    def test_shares_are_as_even_as_scikit_learns(self):
        def counts(rows: list[np.ndarray]) -> np.ndarray:
            return np.array([[(LABELS[part] == label).sum() for label in "abc"] for part in rows])

        own = counts([fold.held_out for fold in cut("stratified", LABELS)])
        theirs = counts([held for _, held in StratifiedKFold(5, shuffle=True).split(LABELS, LABELS)])
        assert (np.ptp(own, axis=0) <= 1).all()
        assert (np.sort(own, axis=0) == np.sort(theirs, axis=0)).all()
        assert np.ptp(own.sum(axis=1)) <= 1

    def test_the_rows_that_choose_the_epoch_have_every_class(self):
        for fold in cut("stratified", LABELS):
            assert set(LABELS[fold.eval]) == {"a", "b", "c"}

    def test_numbers_are_spread_evenly(self):
        values = np.random.default_rng(1).lognormal(size=1000)
        parts = deal_alike(values, 5, np.random.default_rng(2))
        # Each run of five neighbours in size has one row in each part.
        assert (np.sort(parts[np.argsort(values)].reshape(-1, 5), axis=1) == np.arange(5)).all()


class TestGrouped:
    def test_no_group_is_split(self):
        for fold in cut("grouped", GROUPS, repeats=2):
            groups = [set(GROUPS[part]) for part in (fold.train, fold.eval, fold.held_out)]
            assert not groups[0] & groups[1]
            assert not groups[0] & groups[2]
            assert not groups[1] & groups[2]

    def test_sizes_are_about_as_even_as_scikit_learns(self):
        own = np.bincount(deal_groups(GROUPS, 5, np.random.default_rng(0)))
        theirs = [len(held) for _, held in GroupKFold(5).split(GROUPS, groups=GROUPS)]
        assert own.sum() == sum(theirs)
        assert np.ptp(own) <= max(np.ptp(theirs), 0.1 * ROWS)

    @pytest.mark.parametrize("groups", [3, 5])
    def test_too_few_groups_are_an_error(self, groups: int):
        keys, folds = np.arange(30) % groups, 5 if groups == 3 else 2
        if groups == 5:
            keys = keys % 2  # two folds of one group each leave none to choose the epoch on
        with pytest.raises(ConfigError, match=rf"enough to cut into {folds} folds.*group.*method grouped"):
            cut("grouped", keys, folds=folds)


class TestTime:
    def test_stretches_are_those_of_scikit_learn(self):
        order = np.argsort(TIMES)
        folds = cut("time", TIMES, folds=4)
        for fold, (train, held) in zip(folds, TimeSeriesSplit(4).split(order), strict=True):
            assert sorted(TIMES[fold.held_out]) == sorted(TIMES[order[held]])
            assert sorted(TIMES[np.r_[fold.train, fold.eval]]) == sorted(TIMES[order[train]])

    @pytest.mark.parametrize("distinct", [400, 30, 9])
    def test_the_future_is_never_trained_on(self, distinct: int):
        days = np.random.default_rng(distinct).integers(0, distinct, 400)
        times = np.array([f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in days % 330])
        for fold in cut("time", times, folds=3):
            assert max(times[fold.train]) < min(times[fold.eval])
            assert max(times[fold.eval]) < min(times[fold.held_out])

    def test_too_few_times_are_an_error(self):
        with pytest.raises(ConfigError, match=r"Received: 100 rows at 2 times \(method time\)"):
            cut("time", np.repeat([1.0, 2.0], 50))


class TestConfig:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"method": "grouped"}, "must name columns for `method: grouped`"),
            ({"group": ["a"]}, r"Received: \['a'\] with kfold"),
            ({"order": "t"}, "`order` is for `method: time`. Received: t with kfold"),
            ({"method": "time", "order": "t", "repeats": 2}, "`repeats` must be 1"),
            ({"splits": ["train", "train"]}, "`splits` must differ"),
            ({"splits": ["test"]}, "'train' or 'eval'"),
            ({"folds": 1}, "greater than or equal to 2"),
        ],
    )
    def test_mistakes_are_named(self, fields: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            CrossValidationConfig.model_validate(fields)

    def test_columns_to_keep(self):
        data = DataConfig.model_validate({"path": "x", "label": "y"})
        timed = DataConfig.model_validate(
            {
                "path": "x",
                "label": "y",
                "split": {"column": "day", "eval_from": "2024-01", "test_from": "2024-02"},
            }
        )
        assert extra_columns(config("grouped", group=["g", "h"]), data) == ("g", "h")
        assert extra_columns(config("time", order="t"), data) == ("t",)
        assert extra_columns(config("time"), timed) == ("day",)
        assert extra_columns(config("grouped", enabled=False), data) == ()
        with pytest.raises(ConfigError, match="null with a split by hash"):
            extra_columns(config("time"), data)
        with pytest.raises(ConfigError, match=r"must not be cut by the label. Received: y"):
            extra_columns(config("grouped", group=["y"]), data)
