"""Augmentation, mixup and sampling: what they change, by how much, and what they leave alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

from headrace.components.training.augment import augmentation
from headrace.components.training.augment_images import change_images, warp
from headrace.components.training.config import Augment, AugmentImages, TrainingConfig
from headrace.components.training.input import Rows, batches, label_counts, read_rows, split_files
from headrace.components.training.sampling import interpolate
from headrace.data.errors import ConfigError, HeadraceError
from tests.components.tabular import draw_columns, draw_labels, features_of, write_split

SEED = tf.constant([3, 7], tf.int64)
IMAGES = np.random.default_rng(0).random((6, 8, 8, 3)).astype("f")


def spec(name: str, role: str, width: int, shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    entry = {"name": name, "role": role, "width": width, "cardinality": 9, "encode": "none", "source": name}
    return entry | ({"shape": shape} if shape else {}) | more


MIXED_INPUTS = [
    spec("size", "dense", 2),
    spec("size_missing", "dense", 1, source="size"),
    spec("photo", "image", 192, [8, 8, 3]),
    spec("words", "tokens", 6),
    spec("topics", "bag", 4),
    spec("topics_weights", "bag_weights", 4, of="topics"),
    spec("pulse", "series", 10, [5, 2]),
    spec("pulse_length", "length", 1, of="pulse"),
    spec("city", "index", 1),
]


def mixed_features(task: str = "multiclass") -> dict[str, Any]:
    classes = None if task == "regression" else ["a", "b", "c"]
    return {
        "features": MIXED_INPUTS,
        "label": {"name": "y", "task": task, "classes": classes},
        "weight": None,
        "raw": [],
    }


def mixed_rows(rows: int = 40, seed: int = 1) -> Rows:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, rows)
    pulse = random.normal(size=(rows, 5, 2)).astype("f")
    pulse[np.arange(5)[None] >= lengths[:, None]] = 0
    tokens = random.integers(1, 9, (rows, 6))
    tokens[np.arange(6)[None] >= random.integers(1, 7, rows)[:, None]] = 0
    columns = {
        "size": random.normal(size=(rows, 2)).astype("f"),
        "size_missing": random.integers(0, 2, (rows, 1)).astype("f"),
        "photo": random.random((rows, 8, 8, 3)).astype("f"),
        "words": tokens,
        "topics": random.integers(0, 9, (rows, 4)),
        "topics_weights": random.random((rows, 4)).astype("f"),
        "pulse": pulse,
        "pulse_length": lengths[:, None],
        "city": random.integers(0, 9, (rows, 1)),
    }
    return Rows(columns, random.integers(0, 3, (rows, 1)), None)


def changed(seed: Any = SEED, rows: Rows | None = None, **augment: Any) -> tuple[dict[str, Any], Any]:
    """Return the columns of a batch after augmentation as arrays, and the labels."""
    rows = rows or mixed_rows()
    change = augmentation(Augment.model_validate(augment), mixed_features())
    columns, labels = change((dict(rows.tensors[0]), rows.tensors[1]), seed)
    return {name: np.asarray(values) for name, values in columns.items()}, np.asarray(labels)


def matrix(*rows: Any) -> Any:
    return tf.constant([rows] * len(IMAGES), tf.float32)


class TestWarp:
    @pytest.mark.parametrize(
        ("transform", "expected"),
        [
            (matrix((-1, 0, 0), (0, 1, 0), (0, 0, 1)), IMAGES[:, :, ::-1]),
            (matrix((1, 0, 0), (0, -1, 0), (0, 0, 1)), IMAGES[:, ::-1]),
            (matrix((0, 1, 0), (-1, 0, 0), (0, 0, 1)), np.rot90(IMAGES, -1, (1, 2))),
            (matrix((1, 0, 2), (0, 1, 0), (0, 0, 1)), IMAGES[:, :, [2, 3, 4, 5, 6, 7, 7, 7]]),
            (matrix((1, 0, 0), (0, 1, -3), (0, 0, 1)), IMAGES[:, [0, 0, 0, 0, 1, 2, 3, 4]]),
        ],
    )
    def test_whole_pixels_move_as_numpy_moves_them(self, transform: Any, expected: np.ndarray):
        np.testing.assert_allclose(warp(tf.constant(IMAGES), transform), expected, atol=1e-6)

    def test_half_a_pixel_is_the_mean_of_neighbours(self):
        found = np.asarray(warp(tf.constant(IMAGES), matrix((1, 0, 0.5), (0, 1, 0), (0, 0, 1))))
        np.testing.assert_allclose(found[:, :, :-1], (IMAGES[:, :, :-1] + IMAGES[:, :, 1:]) / 2, atol=1e-6)


class TestImages:
    def test_flips_are_flips_of_about_half(self):
        many = np.repeat(IMAGES[:1], 400, axis=0)
        found = np.asarray(change_images(tf.constant(many), AugmentImages(flip="both"), SEED))
        kinds = [IMAGES[0], IMAGES[0][:, ::-1], IMAGES[0][::-1], IMAGES[0][::-1, ::-1]]
        counts = [int((np.abs(found - kind).max(axis=(1, 2, 3)) < 1e-6).sum()) for kind in kinds]
        assert sum(counts) == 400
        assert all(70 < count < 130 for count in counts)

    @pytest.mark.parametrize(
        "section",
        [
            {"rotate": 20},
            {"shift": 0.2},
            {"shear": 15},
            {"zoom": 0.3},
            {"crop": 0.4},
            {"brightness": 0.3},
            {"contrast": 0.5},
            {"noise": 0.1},
            {"rotate": 20, "fill": "zero"},
            {"shift": 0.3, "fill": "reflect"},
        ],
    )
    def test_each_changes_pictures_within_their_range(self, section: dict[str, Any]):
        found = np.asarray(change_images(tf.constant(IMAGES), AugmentImages(**section), SEED))
        assert found.shape == IMAGES.shape
        assert (np.abs(found - IMAGES).mean(axis=(1, 2, 3)) > 1e-3).all()
        assert found.max() <= IMAGES.max()
        assert found.min() >= (0 if section.get("fill") == "zero" else IMAGES.min())

    def test_brightness_and_contrast_are_what_they_say(self):
        grey = tf.constant(np.linspace(0, 1, 64, dtype="f").reshape(1, 8, 8, 1).repeat(50, 0) * 0.2 + 0.4)
        wide = tf.concat([grey, tf.zeros([1, 8, 8, 1]), tf.ones([1, 8, 8, 1])], 0)  # the range is 0 to 1
        brighter = np.asarray(change_images(wide, AugmentImages(brightness=0.3), SEED))[:50]
        added = (brighter - grey.numpy()).reshape(50, -1)
        assert np.ptp(added, axis=1).max() < 1e-6
        assert -0.3 <= added.min() < -0.15
        assert 0.15 < added.max() <= 0.3
        sharper = np.asarray(change_images(wide, AugmentImages(contrast=0.5), SEED))[:50]
        factors = sharper.std(axis=(1, 2, 3)) / grey.numpy().std(axis=(1, 2, 3))
        assert 0.5 <= factors.min() < 0.75
        assert 1.25 < factors.max() <= 1.5


class TestText:
    def test_dropped_tokens_leave_no_gap_and_keep_their_order(self):
        before = mixed_rows(300).columns["words"]
        found = changed(rows=mixed_rows(300), text={"drop": 0.4})[0]["words"]
        for old, new in zip(before, found, strict=True):
            kept = new[new > 0].tolist()
            assert new.tolist() == kept + [0] * (6 - len(kept))
            assert kept
            rest = iter(old.tolist())
            assert all(token in rest for token in kept)  # a subsequence
        share = (found > 0).sum() / (before > 0).sum()
        assert 0.55 < share < 0.75  # 0.6, and a little more since no text loses all

    def test_swaps_are_of_neighbours(self):
        rows = mixed_rows(300)
        rows.columns["words"][:] = np.where(rows.columns["words"] > 0, np.arange(1, 7), 0)
        found = changed(rows=rows, text={"swap": 0.5})[0]["words"]
        np.testing.assert_array_equal(np.sort(found), np.sort(rows.columns["words"]))
        np.testing.assert_array_equal(found > 0, rows.columns["words"] > 0)
        moved = np.where(found > 0, found - np.arange(1, 7), 0)
        assert set(np.unique(moved)) == {-1, 0, 1}
        assert 0.2 < np.abs(moved[found > 0]).mean() < 0.5

    def test_a_bag_loses_tokens_with_their_weights(self):
        rows = mixed_rows(200)
        found = changed(rows=rows, text={"drop": 0.3})[0]
        gone = found["topics"] == -1
        assert 0.2 < gone.mean() < 0.4
        assert (found["topics_weights"][gone] == 0).all()
        np.testing.assert_array_equal(found["topics"][~gone], rows.columns["topics"][~gone])
        np.testing.assert_array_equal(found["topics_weights"][~gone], rows.columns["topics_weights"][~gone])


class TestNumbers:
    def test_noise_leaves_missing_indicators_alone(self):
        rows = mixed_rows(500)
        found = changed(rows=rows, tabular={"noise": 0.3})[0]
        noise = found["size"] - rows.columns["size"]
        assert noise.std() == pytest.approx(0.3, rel=0.1)
        assert abs(noise.mean()) < 0.05
        np.testing.assert_array_equal(found["size_missing"], rows.columns["size_missing"])

    def test_jitter_stays_within_the_length(self):
        rows = mixed_rows(500)
        found = changed(rows=rows, series={"jitter": 0.2})[0]["pulse"]
        inside = np.arange(5)[None] < rows.columns["pulse_length"]
        assert (found[~inside] == 0).all()
        assert (found - rows.columns["pulse"])[inside].std() == pytest.approx(0.2, rel=0.1)

    def test_scaling_is_one_factor_a_channel(self):
        rows = mixed_rows(500)
        found = changed(rows=rows, series={"scale": 0.1})[0]["pulse"]
        inside = np.abs(rows.columns["pulse"]) > 0.01
        factors = np.where(inside, found / np.where(inside, rows.columns["pulse"], 1), np.nan)
        spread = np.nanmax(factors, axis=1) - np.nanmin(factors, axis=1)
        assert np.nanmax(spread) < 1e-3
        assert np.nanstd(np.nanmean(factors, axis=1)) == pytest.approx(0.1, rel=0.15)

    def test_shifts_repeat_the_ends(self):
        rows = mixed_rows(200)
        found = changed(rows=rows, series={"shift": 2})[0]["pulse"]
        shifts = []
        for old, new, size in zip(
            rows.columns["pulse"], found, rows.columns["pulse_length"][:, 0], strict=True
        ):
            versions = {by: old[np.clip(np.arange(size) - by, 0, size - 1)] for by in range(-2, 3)}
            shifts.append([by for by, version in versions.items() if np.array_equal(version, new[:size])])
            assert (new[size:] == 0).all()
        assert all(shifts)
        assert {by for one in shifts if len(one) == 1 for by in one} == {-2, -1, 0, 1, 2}


class TestMixup:
    def test_rows_and_labels_are_mixed_by_one_share(self):
        rows = mixed_rows(60)
        found, labels = changed(rows=rows, mixup=0.4)
        classes = np.eye(3)[rows.labels[:, 0]]
        shares = []
        for place in range(60):
            # The other row is the one for which a single share explains every number.
            best = None
            for other in range(60):
                difference = rows.columns["photo"][other] - rows.columns["photo"][place]
                moved = found["photo"][place] - rows.columns["photo"][place]
                size = float((difference * difference).sum())
                share = float((moved * difference).sum() / size) if size else 0.0
                left = float(np.abs(moved - share * difference).max())
                best = min(best, (left, share, other)) if best else (left, share, other)
            assert best is not None
            left, share, other = best
            assert left < 1e-4
            assert -1e-4 <= share <= 0.5 + 1e-4
            shares.append(share)
            size = (1 - share) * rows.columns["size"][place] + share * rows.columns["size"][other]
            np.testing.assert_allclose(found["size"][place], size, atol=1e-3)
            np.testing.assert_allclose(
                labels[place], (1 - share) * classes[place] + share * classes[other], atol=1e-3
            )
            length = max(rows.columns["pulse_length"][[place, other], 0])
            assert found["pulse_length"][place, 0] in (length, rows.columns["pulse_length"][place, 0])
        np.testing.assert_array_equal(found["words"], rows.columns["words"])
        np.testing.assert_array_equal(found["city"], rows.columns["city"])
        assert max(shares) > 0.2

    @pytest.mark.parametrize("alpha", [0.2, 1.0])
    def test_shares_have_the_distribution_of_the_paper(self, alpha: float):
        rows = mixed_rows(4000)
        rows.columns["size"][:] = np.arange(4000)[:, None]
        labels = np.arange(4000, dtype="f")[:, None]
        features = mixed_features("regression")
        change = augmentation(Augment(mixup=alpha), features)
        columns, mixed = change((dict(rows.tensors[0]), tf.constant(labels)), SEED)
        np.testing.assert_allclose(columns["size"][:, :1], mixed, rtol=1e-5)
        drawn = np.random.default_rng(0).beta(alpha, alpha, 100_000)
        kept = np.maximum(drawn, 1 - drawn).mean()
        # The other row's mean is that of all rows, so the slope is the mean share of a row's own label.
        slope = np.polyfit(labels[:, 0], np.asarray(mixed)[:, 0], 1)[0]
        assert slope == pytest.approx(kept, abs=0.02)

    def test_weights_are_mixed_too(self):
        rows = mixed_rows(30)
        weights = np.arange(30, dtype="f")
        change = augmentation(Augment(mixup=1.0), mixed_features())
        found = np.asarray(change((*rows.tensors, tf.constant(weights)), SEED)[2])
        assert found.sum() != weights.sum()
        assert 0 <= found.min() <= found.max() <= 29


def epoch_of(training: dict[str, Any], seed: int | None, rows: Rows, epochs: int = 1) -> list[Any]:
    made = batches(rows, mixed_features(), TrainingConfig.model_validate(training), shuffle_seed=seed)
    return [np.concatenate([np.asarray(batch[0]["photo"]) for batch in made.dataset]) for _ in range(epochs)]


EVERYTHING: dict[str, Any] = {
    "batch_size": 16,
    "augment": {
        "image": {"flip": "both", "rotate": 20, "noise": 0.1},
        "text": {"drop": 0.2, "swap": 0.2},
        "tabular": {"noise": 0.1},
        "series": {"jitter": 0.1, "scale": 0.1, "shift": 1},
        "mixup": 0.3,
    },
}


class TestBatches:
    def test_eval_batches_are_never_changed(self):
        rows = mixed_rows()
        (found,) = epoch_of(EVERYTHING, None, rows)
        np.testing.assert_array_equal(found, rows.columns["photo"])

    def test_training_batches_change_with_every_epoch_and_follow_the_seed(self):
        rows = mixed_rows()
        first, second = epoch_of(EVERYTHING, 5, rows, epochs=2)
        again = epoch_of(EVERYTHING, 5, rows, epochs=2)
        np.testing.assert_array_equal(first, again[0])
        np.testing.assert_array_equal(second, again[1])
        plain, plain_second = epoch_of({"batch_size": 16}, 5, rows, epochs=2)
        assert np.abs(first - plain).max() > 0.1
        # In the same order, the change is another one: taken from its row it leaves other differences.
        assert np.abs((first - plain) - (second - plain_second)).max() > 0.1
        assert np.abs(first - epoch_of(EVERYTHING, 6, rows)[0]).max() > 0.1

    def test_a_part_without_an_input_is_refused(self):
        augment = Augment.model_validate({"image": {"rotate": 5}})
        with pytest.raises(ConfigError, match=r"augment\.image.*role image\. Received: dense, ind"):
            augmentation(augment, features_of())


class TestSampling:
    @pytest.mark.parametrize("sampling", ["over", "under"])
    @pytest.mark.parametrize("source", ["memory", "stream"])
    def test_classes_come_out_even(self, sampling: str, source: str, tmp_path: Path):
        _, labels = write_split(tmp_path, "train", 600, "multiclass", files=2)
        features = features_of("multiclass")
        files = split_files(str(tmp_path), "train")
        rows = read_rows(files, features) if source == "memory" else files
        assert rows is not None
        training = TrainingConfig.model_validate({"sampling": sampling, "batch_size": 50})
        made = batches(rows, features, training, shuffle_seed=4)
        counts = np.bincount(labels)
        each = counts.max() if sampling == "over" else counts.min()
        drawn = [np.concatenate([np.asarray(found).ravel() for _, found in made.dataset]) for _ in range(2)]
        for epoch in drawn:
            found = np.bincount(epoch.astype(int))
            if source == "memory":
                assert found.tolist() == [each] * 3
            else:
                assert np.abs(found - each).max() < 4 * math.sqrt(each)
        assert made.rows == 3 * each
        assert drawn[0].tolist() != drawn[1].tolist()
        assert label_counts(rows, features).tolist() == counts.tolist()

    def test_every_rare_row_comes_as_often_as_any_other(self, tmp_path: Path):
        _, labels = write_split(tmp_path, "train", 300, "binary", files=1)
        rows = read_rows(split_files(str(tmp_path), "train"), features_of())
        assert rows is not None
        made = batches(rows, features_of(), TrainingConfig(sampling="over"), shuffle_seed=1)
        seen = np.concatenate([np.asarray(batch[0]["amount"][:, 0]) for batch in made.dataset])
        _, times = np.unique(seen, return_counts=True)
        rare, common = sorted(np.bincount(labels))
        assert sorted(set(times)) == sorted({1, common // rare, -(-common // rare)})

    def test_evaluation_is_not_sampled(self, tmp_path: Path):
        _, labels = write_split(tmp_path, "eval", 100, "binary", files=1)
        rows = read_rows(split_files(str(tmp_path), "eval"), features_of())
        assert rows is not None
        made = batches(rows, features_of(), TrainingConfig(sampling="over"))
        assert np.concatenate([batch[1] for batch in made.dataset])[:, 0].tolist() == labels.tolist()


def rare_rows(rows: int = 200) -> Rows:
    columns = draw_columns(rows, 1)
    labels = draw_labels(columns, "multiclass", 1)
    return Rows(columns, labels[:, None], np.linspace(0, 1, rows).astype("f"))


class TestInterpolation:
    def test_new_rows_lie_between_near_neighbours_of_their_class(self):
        rows = rare_rows()
        made = interpolate(rows, features_of("multiclass"), 3, seed=2)
        counts = np.bincount(rows.labels[:, 0])
        assert np.bincount(made.labels[:, 0]).tolist() == [counts.max()] * 3
        for name, values in rows.columns.items():
            np.testing.assert_array_equal(made.columns[name][:200], values)
        for place in range(200, len(made)):
            label = made.labels[place, 0]
            members = rows.columns["amount"][rows.labels[:, 0] == label]
            near = NearestNeighbors(n_neighbors=4).fit(members).kneighbors(members, return_distance=False)
            point = made.columns["amount"][place]
            # Categories and the weight are those of one row of the class.
            start = np.flatnonzero(rows.weights == made.weights[place])  # type: ignore[index]
            assert rows.labels[start, 0].tolist() == [label]
            assert made.columns["city"][place] == rows.columns["city"][start]
            own = np.flatnonzero((members == rows.columns["amount"][start]).all(axis=1))[0]
            between = []
            for other in near[own][1:]:
                step = members[other] - members[own]
                share = float((point - members[own]) @ step / (step @ step))
                left = np.abs(members[own] + share * step - point).max()
                between.append(left < 1e-5 and -1e-5 <= share <= 1 + 1e-5)
            assert any(between)

    def test_the_seed_decides(self):
        features = features_of("multiclass")
        first, same, other = (
            interpolate(rare_rows(), features, 3, seed).columns["amount"] for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, same)
        assert not np.array_equal(first, other)

    def test_a_class_of_one_row_is_repeated(self):
        rows = rare_rows(50)
        rows.labels[:] = 0
        rows.labels[7] = 1
        made = interpolate(rows, features_of("binary"), 5, seed=0)
        new = made.columns["amount"][50:]
        assert len(new) == 48
        np.testing.assert_array_equal(new, np.repeat(rows.columns["amount"][7:8], 48, axis=0))

    def test_equal_rows_do_no_harm(self):
        rows = rare_rows(80)
        rows.columns["amount"][:] = 1.5
        made = interpolate(rows, features_of("multiclass"), 5, seed=0)
        assert (made.columns["amount"] == 1.5).all()

    def test_files_to_stream_are_refused(self):
        with pytest.raises(HeadraceError, match=r"needs the training split in memory.*2 GiB"):
            interpolate(["file"], features_of(), 5, seed=0)
