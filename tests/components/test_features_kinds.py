"""Texts, series and pictures through the transform node, against scikit-learn, numpy and Pillow."""

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from headrace.components.features.golden import encode_rows, golden_limit
from headrace.components.features.run import check_sidecar
from headrace.components.features.signatures import FittedTransform, parse_examples
from headrace.components.features.spec import dtype_of, shape_of
from headrace.data.errors import DataRejected, HeadraceError
from headrace.serving.preprocessing import Preprocessor
from headrace.serving.raw import raw_columns

from .kinds import FEATURES, TYPES, fitted_kinds, make_splits, save_picture
from .transformed import read_json, run_transform, write_examples

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]

# scikit-learn's own cutting, told the rule of ours for words.
WORDS = r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_"


@pytest.fixture(scope="module")
def done() -> Any:
    """The artifacts of one run, and the rows that went in."""
    folder = fitted_kinds().folder
    headrace = folder / "graph" / "headrace"
    return SimpleNamespace(
        folder=folder,
        splits=fitted_kinds().splits,
        features=read_json(headrace / "features.json"),
        sidecar=read_json(headrace / "preprocessing.json"),
        golden=read_json(headrace / "golden.json"),
        transform=FittedTransform(str(folder / "graph")),
    )


def transformed(done: Any, split: str) -> dict[str, Any]:
    """Read transformed examples the way any TFX component does, each with the shape of its feature."""
    spec = tft.TFTransformOutput(str(done.folder / "graph")).transformed_feature_spec()
    files = sorted(map(str, (done.folder / "transformed" / f"Split-{split}").glob("*.gz")))
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    found = {name: tensor.numpy() for name, tensor in tf.io.parse_example(records, spec).items()}
    for entry in done.features["features"]:
        found[entry["name"]] = found[entry["name"]].reshape(-1, *shape_of(entry))
    return found


def op_of(done: Any, name: str) -> dict[str, Any]:
    (found,) = [output for output in done.sidecar["outputs"] if output["name"] == name]
    return found


def test_outputs_follow_the_contract(done: Any) -> None:
    roles = {entry["name"]: entry["role"] for entry in done.features["features"]}
    assert roles == {
        "words": "tokens", "letters": "tokens", "tfidf": "bag", "tfidf_weights": "bag_weights",
        "counts": "bag", "counts_weights": "bag_weights", "photo": "image", "grey": "image", "cut": "image",
        "pixels": "image", "smaller": "image", "left": "series", "left_length": "length", "both": "series",
        "both_length": "length", "as_is": "series", "as_is_length": "length",
    }  # fmt: skip
    found = transformed(done, "eval")
    for entry in done.features["features"]:
        tensor = found[entry["name"]]
        assert tensor.shape == (30, *shape_of(entry))
        assert tensor.dtype == dtype_of(entry)
        assert entry["width"] == math.prod(shape_of(entry))
        assert ("shape" in entry) == (entry["role"] in ("image", "series"))
        if entry["cardinality"] is not None:
            assert -1 <= tensor.min() <= tensor.max() < entry["cardinality"]
            assert entry["encode"] == "embedding"
    companions = {e["name"]: e["of"] for e in done.features["features"] if "of" in e}
    assert companions == {
        "tfidf_weights": "tfidf", "counts_weights": "counts", "left_length": "left", "both_length": "both",
        "as_is_length": "as_is",
    }  # fmt: skip


def test_the_sidecar_keeps_its_published_format(done: Any) -> None:
    jsonschema.validate(done.sidecar, read_json(ROOT / "docs" / "preprocessing.schema.json"))


def test_golden_rows_miss_each_column_and_show_each_something_new(done: Any) -> None:
    seen = {repr(row[name]) for rows in done.splits.values() for row in rows for name in TYPES}
    for name in TYPES:
        values = [row[name] for row in done.golden["inputs"]]
        assert None in values
        assert any(repr(value) not in seen for value in values)
    assert golden_limit(10) == 256
    assert golden_limit(28 * 28) == 256
    assert golden_limit(96 * 96 * 3) == 14
    assert golden_limit(10**9) == 8


def test_raw_tensors_and_examples_are_the_same_rows(done: Any) -> None:
    rows = done.golden["inputs"]
    serialized = tf.constant(encode_rows(rows, TYPES))  # type: ignore[arg-type]
    by_examples = done.transform.from_examples(serialized)
    for raw in (raw_columns(rows, TYPES), parse_examples(serialized, done.features)):
        columns = {name: tf.constant(values) for name, values in raw.items()}
        for name, spec in done.transform.raw_signature().items():
            assert spec.is_compatible_with(columns[name])
        for name, tensor in done.transform.from_raw(columns).items():
            np.testing.assert_array_equal(tensor.numpy(), by_examples[name].numpy(), err_msg=name)
    by_numpy = Preprocessor(done.sidecar).transform(rows)
    for name, tensor in by_examples.items():
        assert by_numpy[name].shape == tensor.shape
        np.testing.assert_allclose(by_numpy[name], tensor.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(done.golden["transformed"][name], tensor.numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("grey", "divide", [60.0]), ("left", "impute", [0.0]), ("words", "lowercase", False)],
)
def test_a_sidecar_that_disagrees_is_an_error(done: Any, name: str, key: str, value: Any) -> None:
    outputs = [op | ({key: value} if op["name"] == name else {}) for op in done.sidecar["outputs"]]
    with pytest.raises(HeadraceError, match=rf"(?s)must agree with the transform graph.*output '{name}'"):
        check_sidecar(Preprocessor(done.sidecar | {"outputs": outputs}), done.golden)


def texts_of(done: Any, split: str) -> list[str]:
    return [row["review"] or "" for row in done.splits[split]]


def test_words_keep_their_order(done: Any) -> None:
    analyze = CountVectorizer(token_pattern=WORDS, lowercase=True).build_analyzer()
    found, vocabulary = transformed(done, "test")["words"], op_of(done, "words")["vocabulary"]
    for row, text in zip(found, texts_of(done, "test"), strict=True):
        words = analyze(text)[:6]
        assert row[len(words) :].tolist() == [0] * (6 - len(words))
        assert [vocabulary[place - 2] if place > 1 else None for place in row[: len(words)]] == [
            word if word in vocabulary else None for word in words
        ]


def test_the_vocabulary_of_a_sequence_counts_tokens(done: Any) -> None:
    train = texts_of(done, "train")
    counter = CountVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False, strip_accents="unicode")
    times = np.asarray(counter.fit_transform([" ".join(t.split()) for t in train]).sum(axis=0))[0]
    counts = dict(zip(counter.get_feature_names_out(), times.tolist(), strict=True))
    vocabulary = op_of(done, "letters")["vocabulary"]
    assert len(vocabulary) == 60
    assert [counts[token] for token in vocabulary] == sorted(counts.values(), reverse=True)[:60]


def bags(found: Any, name: str) -> list[dict[int, float]]:
    """Return category -> weight of each row."""
    return [
        {int(c): float(w) for c, w in zip(*row, strict=True) if c >= 0}
        for row in zip(found[name], found[f"{name}_weights"], strict=True)
    ]


def test_tfidf_is_that_of_scikit_learn(done: Any) -> None:
    train, test = texts_of(done, "train"), texts_of(done, "test")
    theirs = TfidfVectorizer(token_pattern=WORDS, ngram_range=(1, 2), min_df=3, norm=None).fit(train)
    op = op_of(done, "tfidf")
    assert set(op["vocabulary"]) == set(theirs.get_feature_names_out())
    np.testing.assert_allclose(
        op["idf"], [theirs.idf_[theirs.vocabulary_[t]] for t in op["vocabulary"]], 1e-6
    )
    expected, analyze = theirs.transform(test).toarray(), theirs.build_analyzer()
    compared = 0
    for text, weights, bag in zip(test, expected, bags(transformed(done, "test"), "tfidf"), strict=True):
        tokens = dict.fromkeys(analyze(text))
        if len(tokens) > 12 or not all(token in theirs.vocabulary_ for token in tokens):
            continue
        known = {op["vocabulary"].index(token) + 3: weights[theirs.vocabulary_[token]] for token in tokens}
        length = math.sqrt(sum(weight**2 for weight in known.values()))
        assert bag == pytest.approx({place: weight / length for place, weight in known.items()}, rel=1e-5)
        compared += 1
    assert compared >= 3


def test_every_bag_has_length_one_and_its_first_tokens(done: Any) -> None:
    found = transformed(done, "train")
    for text, bag in zip(texts_of(done, "train"), bags(found, "tfidf"), strict=True):
        assert len(bag) <= 12
        assert math.hypot(*bag.values()) == pytest.approx(1 if text.strip() else 0, abs=1e-6)
    assert (np.diff((found["tfidf"] >= 0).astype(int), axis=1) <= 0).all()  # -1 only at the end


def test_counts_are_those_of_scikit_learn(done: Any) -> None:
    test, op = texts_of(done, "test"), op_of(done, "counts")
    theirs = CountVectorizer(token_pattern=WORDS, strip_accents="unicode", vocabulary=op["vocabulary"])
    analyze = theirs.build_analyzer()
    for text, counts, bag in zip(
        test, theirs.transform(test).toarray(), bags(transformed(done, "test"), "counts"), strict=True
    ):
        tokens = analyze(text)
        expected = {place + 2: int(n) for place, n in enumerate(counts) if n}
        if unknown := sum(token not in op["vocabulary"] for token in tokens):
            expected[1] = unknown
        if len(expected) <= 8:
            assert bag == expected


def series_of(done: Any, split: str, column: str) -> list[Any]:
    """Return the numbers of each row up to the last one, NaN where there is none."""
    found = []
    for row in done.splits[split]:
        steps = np.array(row[column] or [], np.float32)
        known = np.flatnonzero(~np.isnan(steps))
        found.append(steps[: known[-1] + 1] if len(known) else steps[:0])
    return found


def test_a_series_is_scaled_filled_and_cut_to_its_end(done: Any) -> None:
    train = np.concatenate(series_of(done, "train", "left")).astype(np.float64)
    found = transformed(done, "test")
    for row, length, steps in zip(
        found["left"], found["left_length"], series_of(done, "test", "left"), strict=True
    ):
        kept = np.nan_to_num((steps[-4:] - np.nanmean(train)) / np.nanstd(train), nan=0.0)
        assert length.tolist() == [len(kept)]
        np.testing.assert_allclose(row[:, 0], np.pad(kept, (0, 4 - len(kept))), atol=1e-4)


def test_channels_of_unequal_length_are_filled_up(done: Any) -> None:
    train = [np.concatenate(series_of(done, "train", name)) for name in ("left", "right")]
    found = transformed(done, "test")
    for index, (left, right) in enumerate(
        zip(series_of(done, "test", "left"), series_of(done, "test", "right"), strict=True)
    ):
        length = min(5, max(len(left), len(right)))
        assert found["both_length"][index].tolist() == [length]
        for channel, (steps, seen) in enumerate(zip((left, right), train, strict=True)):
            padded = np.full(5, np.nan)
            padded[: len(steps[:5])] = steps[:5]
            filled = np.where(np.isnan(padded), np.nanmean(seen), padded)
            scaled = (filled - np.nanmin(seen)) / (np.nanmax(seen) - np.nanmin(seen))
            scaled[length:] = 0
            np.testing.assert_allclose(found["both"][index, :, channel], scaled, atol=1e-4)


def test_rows_of_pixels_are_pictures(done: Any) -> None:
    rows = [row["pixels"] for row in done.splits["train"]]
    pixels = np.array([row for row in rows if row is not None]).reshape(-1, 4, 3, 1)
    present = np.array([row is not None for row in rows])
    found = transformed(done, "train")
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(found["pixels"][present], expected, atol=1e-5)
    assert not found["pixels"][~present].any()
    for row, small in zip(pixels[:, :, :, 0], found["smaller"][present], strict=False):
        # Pillow's float mode weighs by the same triangle as TensorFlow.
        resized = Image.fromarray((row * 255 / 16).astype(np.float32)).resize(
            (2, 2), Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(small[:, :, 0], np.asarray(resized), atol=1e-3)


def test_pictures_are_decoded_resized_and_scaled(done: Any) -> None:
    found = transformed(done, "test")
    for row, photo in zip(done.splits["test"], found["photo"], strict=True):
        if row["photo"] is None:
            assert not photo.any()
            continue
        image = Image.open(io.BytesIO(row["photo"])).convert("RGB")
        for channel, band in enumerate(image.split()):
            resized = band.convert("F").resize((7, 5), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(photo[:, :, channel], np.asarray(resized) / 255, atol=1e-5)


def test_zscore_of_pictures_is_over_all_pixels_of_training(done: Any) -> None:
    found = transformed(done, "train")["grey"]
    present = np.array([row["photo"] is not None for row in done.splits["train"]])
    assert found[present].mean() == pytest.approx(0, abs=1e-5)
    assert found[present].std() == pytest.approx(1, abs=1e-5)
    assert not found[~present].any()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("photo", b"not a picture", r"Received: a picture must be a JPEG or PNG file \(features.photo\)"),
        ("photo", save_picture(Image.new("RGB", (40, 40)), "JPEG")[:300], r"Received: Invalid JPEG data"),
        ("pixels", [1.0] * 11, r"a row of pixels must hold 4 x 3 x 1 numbers \(features.pixels\).*11"),
    ],
)
def test_content_that_is_no_picture_stops_the_node(
    tmp_path: Path, column: str, value: Any, message: str
) -> None:
    splits = make_splits(train=6)
    for rows in splits.values():
        del rows[6:]
    splits["test"][3][column] = value
    write_examples(tmp_path / "examples", splits, {column: TYPES[column]})
    spec = {"photo": {"kind": "image", "height": 2, "width": 2}} | {"pixels": FEATURES["pixels"]}
    with pytest.raises(DataRejected, match=message):
        run_transform(tmp_path, {column: spec[column]})


def test_several_labels_in_one_text(tmp_path: Path) -> None:
    splits = make_splits(train=4)
    texts = ["b|a", "", "c", "a||c|nothing"]
    for rows in splits.values():
        del rows[4:]
        for row, text in zip(rows, texts, strict=True):
            row["label"] = text or None
    write_examples(tmp_path / "examples", splits, {"left": "floats"})
    content = read_json(tmp_path / "examples" / "ingest.json")
    content["label"] = {"name": "label", "task": "multilabel", "classes": ["a", "b", "c"]}
    (tmp_path / "examples" / "ingest.json").write_text(json.dumps(content))
    run_transform(tmp_path, {"left": FEATURES["left"]})
    spec = tft.TFTransformOutput(str(tmp_path / "graph")).transformed_feature_spec()
    files = sorted(map(str, (tmp_path / "transformed" / "Split-test").glob("*.gz")))
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    labels = tf.io.parse_example(records, spec)["label"]
    assert labels.numpy().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert labels.dtype == tf.int64
