"""The evaluation node on tiny real SavedModels."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn import metrics as sk

from headrace.components.evaluation.run import run
from headrace.components.node import NodeContext
from headrace.components.push.training_keys import pack
from headrace.data.errors import ConfigError, DataRejected

ROWS = 240
COLUMNS = {"delay": "float", "hour": "int", "carrier": "string", "weight": "float"}
CARRIERS = ("AA", "B6", "UA")

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def encode(row: dict[str, Any]) -> bytes:
    """Encode one row as ingest does: a missing value is left out, and so is an empty text."""
    features = {}
    for name, value in row.items():
        if value == "":
            continue
        if isinstance(value, str):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        elif isinstance(value, int):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        elif value is not None:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def make_table(task: str, seed: int) -> list[dict[str, Any]]:
    """Draw rows whose label depends on delay and carrier; some values are missing."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        delay, carrier = float(np.float32(random.normal())), int(random.integers(0, 3))
        signal = delay + 0.5 * carrier
        label: Any = float(np.float32(signal + 0.1 * random.normal()))
        if task == "binary":
            label = "yes" if random.random() < 1 / (1 + np.exp(-signal)) else "no"
        if task == "multilabel":
            label = "|".join(
                name for name, z in zip("abc", (signal, -signal, 1.0), strict=True) if random.normal() < z
            )
        if task == "multiclass":
            label = "abc"[int(np.clip(signal + random.normal(), 0, 2))]
        rows.append(
            {
                "delay": None if number % 11 == 0 else delay,
                "hour": None if number % 7 == 0 else int(random.integers(0, 3)),
                "carrier": CARRIERS[carrier],
                "weight": float(1 + number % 2),
                "label": label,
            }
        )
    return rows


class Model(tf.Module):
    """A formula with our serving signatures."""

    def __init__(self, task: str, classes: Sequence[str], bias: float) -> None:
        self.task, self.classes, self.bias = task, list(classes), tf.Variable(bias)
        self.table = tf.constant(CARRIERS)

    def answer(self, delay: Any, carrier: Any) -> dict[str, Any]:
        index = tf.argmax(tf.cast(carrier[:, None] == self.table[None, :], tf.int32), 1)
        z = tf.where(tf.math.is_nan(delay), 0.0, delay) + 0.5 * tf.cast(index, tf.float32) + self.bias
        if self.task == "regression":
            return {"outputs": z}
        k = tf.range(len(self.classes), dtype=tf.float32)
        if self.task == "multilabel":
            scores = tf.sigmoid(z[:, None] * (1 - 2 * k[None, :]) / (1 + k[None, :]))
            return {"scores": scores, "classes": tf.tile([self.classes], [tf.shape(z)[0], 1])}
        scores = tf.nn.softmax(z[:, None] * k[None, :] - k[None, :] ** 2 / 2 * (len(self.classes) - 2))
        return {"scores": scores, "classes": tf.tile([self.classes], [tf.shape(z)[0], 1])}


def save_model(folder: Path, task: str, classes: Sequence[str], bias: float = 0.0) -> None:
    """Write a SavedModel with `serving_default` and `serving_raw`."""
    model = Model(task, classes, bias)
    spec = {
        "delay": tf.io.FixedLenFeature([], tf.float32, float("nan")),
        "carrier": tf.io.FixedLenFeature([], tf.string, ""),
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(examples: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(examples, spec)
        return model.answer(parsed["delay"], parsed["carrier"])

    numbers, text = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.string)
    raw = tf.function(lambda delay, hour, carrier: model.answer(delay, carrier)).get_concrete_function(
        delay=numbers, hour=numbers, carrier=text
    )
    tf.saved_model.save(model, str(folder), signatures={"serving_default": examples, "serving_raw": raw})


def classes_of(task: str) -> list[str]:
    return {"binary": ["no", "yes"], "regression": []}.get(task, ["a", "b", "c"])


class Workspace:
    """Artifacts of one run, as docs/artifacts.md lays them out."""

    def __init__(self, root: Path, task: str = "binary") -> None:
        self.root, self.task = root, task
        self.tables = {"eval": make_table(task, 1), "test": make_table(task, 2)}
        self.variants: list[dict[str, Any]] = [
            {"name": "float32", "runtime": "tf", "path": None, "state": "built", "reason": ""}
        ]
        self.live: dict[str, Any] = {
            "version": 0,
            "side": "serving",
            "variant": "",
            "reason": "nothing is live",
        }
        self.config: dict[str, Any] = {
            "slices": [["carrier"], ["hour"], ["carrier", "hour"]],
            "min_slice_rows": 30,
        }
        self.weight: str | None = None
        self.split: dict[str, Any] = {}
        save_model(root / "model/Format-Serving", task, classes_of(task))

    def write_examples(self) -> None:
        for split, rows in self.tables.items():
            folder = self.root / "examples" / f"Split-{split}"
            folder.mkdir(parents=True, exist_ok=True)
            options = tf.io.TFRecordOptions(compression_type="GZIP")
            for shard in range(2):
                path = folder / f"data_tfrecord-0000{shard}-of-00002.gz"
                with tf.io.TFRecordWriter(str(path), options) as writer:
                    for row in rows[shard * ROWS // 2 : (shard + 1) * ROWS // 2]:
                        writer.write(encode(row))
        label_type = "float" if self.task == "regression" else "string"
        columns = [{"name": n, "type": t} for n, t in (COLUMNS | {"label": label_type}).items()]
        label = {"name": "label", "task": self.task, "classes": classes_of(self.task) or None, "counts": None}
        document = {
            "columns": columns,
            "features": ["delay", "hour", "carrier"],
            "label": label,
            "weight": self.weight,
            "split": self.split,
        }
        (self.root / "examples/ingest.json").write_text(json.dumps(document))

    def add_saved_model(self, name: str, bias: float) -> None:
        save_model(self.root / "variants" / name, self.task, classes_of(self.task), bias)
        self.variants.append({"name": name, "runtime": "tf", "path": name, "state": "built", "reason": ""})

    def evaluate(self, out: str = "out") -> dict[str, Any]:
        """Run the node and return evaluation.json."""
        self.write_examples()
        for folder in ("variants", out, "temp", "baseline"):
            (self.root / folder).mkdir(exist_ok=True)
        (self.root / "variants/variants.json").write_text(json.dumps(self.variants))
        inputs = {
            name: [str(self.root / name)]
            for name in ("examples", "schema", "transform_graph", "model", "variants", "baseline")
        }
        (self.root / "baseline/baseline.json").write_text(json.dumps(self.live))
        data: dict[str, Any] = {"path": "x", "label": "label", "task": self.task, "weight": self.weight}
        context = NodeContext(
            "evaluation", "r1", inputs, {"evaluation": str(self.root / out)},
            {"data": data, "evaluation": self.config, "seed": 5}, str(self.root / "temp"),
        )  # fmt: skip
        result = run(context)
        self.finding, self.doubts = result.finding, dict(result.doubts)
        document: dict[str, Any] = json.loads((self.root / out / "evaluation.json").read_text())
        return document

    def values(self, column: str) -> list[Any]:
        return [row[column] for row in self.tables["test"]]


def test_every_variant_is_judged_on_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
    work = Workspace(tmp_path)
    work.add_saved_model("int8_weights", 0.1)
    work.variants.append(
        {"name": "tflite_int8", "runtime": "litert", "path": None, "state": "skipped", "reason": "no sidecar"}
    )
    save_model(tmp_path / "baseline/model", "binary", ["no", "yes"], -0.5)
    work.live |= {"version": 3, "variant": "float32"}
    found = work.evaluate()

    assert (found["positive"], found["threshold"], found["rows"]) == ("yes", 0.5, ROWS)
    assert [entry["name"] for entry in found["variants"]] == ["float32", "int8_weights", "tflite_int8"]
    truth = np.array([label == "yes" for label in work.values("label")])
    carriers = np.array(work.values("carrier"))
    assert np.load(tmp_path / "out/predictions/labels.npy").tolist() == truth.astype(int).tolist()
    for entry in (*found["variants"][:2], found["baseline"]):
        scores = np.load(tmp_path / f"out/predictions/{entry['name']}.npy")
        assert scores.dtype == np.float32
        assert entry["metrics"]["auc"] == pytest.approx(sk.roc_auc_score(truth, scores[:, 1]))
        flagged = scores[:, 1] >= 0.5
        assert entry["confusion_matrix"]["matrix"] == sk.confusion_matrix(truth, flagged).tolist()
        part = next(s for s in entry["slices"] if s["keys"] == {"carrier": "B6"})
        inside = carriers == "B6"
        assert part["rows"] == inside.sum()
        assert part["metrics"]["accuracy"] == pytest.approx(sk.accuracy_score(truth[inside], flagged[inside]))
        opened = tfma.load_eval_result(str(tmp_path / "out/tfma" / entry["name"]))
        assert len(opened.slicing_metrics) == len(opened.plots) == 1 + len(entry["slices"])
    assert found["variants"][0]["agreement"] is None
    assert found["variants"][1]["agreement"]["max_abs_diff"] > 0.01
    assert found["variants"][2] == {"name": "tflite_int8", "runtime": "litert", "skipped": "no sidecar"}
    assert found["tfma"]["state"] == "PASS"
    assert "240 test rows, 2 variants, auc" in work.finding
    assert work.doubts == {}
    for name, part in (("model", "Format-Serving"), ("variants", ""), ("transform_graph", "headrace")):
        files = [p for p in sorted((tmp_path / name / part).rglob("*")) if p.is_file()]
        sums = {p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in files}
        told = {one["path"]: one["sha256"] for one in found["judged"][name]}
        assert told == {path: hashlib.sha256(content).hexdigest() for path, content in sums.items()}
        assert {one["size"] for one in found["judged"][name]} == {len(content) for content in sums.values()}
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["done"] for event in events if event["kind"] == "variant"] == [1, 2, 3, 4]


def test_slices_name_missing_and_whole_numbers(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    found = work.evaluate()["variants"][0]["slices"]
    hours = ["(missing)" if hour is None else str(hour) for hour in work.values("hour")]
    rows = {part["keys"]["hour"]: part["rows"] for part in found if set(part["keys"]) == {"hour"}}
    assert rows == {hour: hours.count(hour) for hour in set(hours)}
    assert sum(part["rows"] for part in found if len(part["keys"]) == 2) == ROWS


def test_importance_finds_what_the_model_reads(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.config |= {"importance_repeats": 2, "importance_rows": 200}
    importance = {entry["feature"]: entry for entry in work.evaluate()["importance"]}
    assert importance["delay"]["drop"] > importance["carrier"]["drop"] > 0.005
    assert importance["hour"]["drop"] == importance["hour"]["std"] == 0.0
    assert importance["delay"]["metric"] == "auc"


def test_the_threshold_is_chosen_on_eval(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.config |= {"threshold": "max_f1", "slices": []}
    found = work.evaluate()
    truth = np.array([row["label"] == "yes" for row in work.tables["eval"]])
    loaded = tf.saved_model.load(str(tmp_path / "model/Format-Serving"))
    answer = loaded.signatures["serving_default"](tf.constant([encode(row) for row in work.tables["eval"]]))
    scores = answer["scores"].numpy()[:, 1]
    best = max(sk.f1_score(truth, scores >= value) for value in scores)
    assert sk.f1_score(truth, scores >= found["threshold"]) == pytest.approx(best)
    test = np.load(tmp_path / "out/predictions/float32.npy")[:, 1] >= found["threshold"]
    expected = sk.f1_score([label == "yes" for label in work.values("label")], test)
    assert found["variants"][0]["metrics"]["f1"] == pytest.approx(expected)


def write_lite(root: Path, work: Workspace) -> None:
    """Write a flatbuffer of the same formula over transformed features, and the sidecar for it."""
    lite = tf.function(
        lambda delay, carrier: {
            "scores": tf.nn.softmax(
                (delay + 0.5 * tf.cast(carrier - 2, tf.float32)) * tf.constant([[0.0, 1.0]]), axis=1
            )
        }
    )
    concrete = lite.get_concrete_function(
        delay=tf.TensorSpec([None, 1], tf.float32), carrier=tf.TensorSpec([None, 1], tf.int64)
    )
    tf.saved_model.save(tf.Module(), str(root / "lite"), signatures={"serving_default": concrete})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(root / "lite"), ["serving_default"])
    for name in ("tflite_float32", "tflite_int8"):
        (root / "variants" / name).mkdir(parents=True)
        (root / "variants" / name / "model.tflite").write_bytes(converter.convert())
        work.variants.append(
            {"name": name, "runtime": "litert", "path": name, "state": "built", "reason": ""}
        )
    (root / "variants/tflite_int8/model.tflite").write_bytes(b"not a flatbuffer")
    number = {"name": "delay", "op": "number", "column": "delay", "impute": 0.0, "log": False, "clip": None}
    parts = [{"column": "carrier", "bounds": None}]
    sidecar = {
        "schema_version": 1,
        "hash": {"function": "siphash-2-4", "key": [1, 2]},
        "joiner": "|",
        "columns": [{"name": "delay", "type": "float"}, {"name": "carrier", "type": "string"}],
        "outputs": [
            number | {"subtract": 0.0, "divide": 1.0},
            {"name": "carrier", "op": "category", "parts": parts, "vocabulary": list(CARRIERS), "buckets": 1},
        ],
    }
    folder = root / "transform_graph/headrace"
    folder.mkdir(parents=True)
    (folder / "preprocessing.json").write_text(json.dumps(sidecar))
    label = {"name": "label", "task": "binary", "classes": ["no", "yes"]}
    (folder / "features.json").write_text(json.dumps({"label": label}))


@pytest.mark.filterwarnings("ignore:.*LiteRT.*:UserWarning")
def test_lite_variants_take_the_path_of_a_device(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    write_lite(tmp_path, work)
    _, good, broken = work.evaluate()["variants"]
    assert good["agreement"]["max_abs_diff"] < 1e-6
    assert good["agreement"]["flip_rate"] == 0
    assert "failed" in broken


@pytest.mark.filterwarnings("ignore:.*LiteRT.*:UserWarning")
def test_a_live_bundle_answers_as_on_a_device(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    write_lite(tmp_path, work)
    bundle = tmp_path / "baseline/model"
    bundle.mkdir(parents=True)
    shutil.copy(tmp_path / "variants/tflite_float32/model.tflite", bundle)
    shutil.copy(tmp_path / "transform_graph/headrace/preprocessing.json", bundle)
    labels = {"name": "label", "task": "binary", "classes": ["no", "yes"]}
    (bundle / "labels.json").write_text(json.dumps(labels))
    work.live |= {"version": 2, "side": "lite", "variant": "tflite_float32"}
    found = work.evaluate()
    lite, baseline = found["variants"][1], found["baseline"]
    assert (baseline["runtime"], baseline["version"], baseline["variant"]) == ("litert", 2, "tflite_float32")
    assert baseline["metrics"] == lite["metrics"]
    assert "no_baseline" not in found
    (bundle / "labels.json").write_text(json.dumps(labels | {"classes": ["no", "maybe"]}))
    assert "must answer with classes" in work.evaluate()["baseline"]["failed"]
    sidecar = json.loads((bundle / "preprocessing.json").read_text())
    sidecar["columns"].append({"name": "gone", "type": "float"})
    (bundle / "preprocessing.json").write_text(json.dumps(sidecar))
    (bundle / "labels.json").write_text(json.dumps(labels))
    assert "Received: no gone" in work.evaluate()["baseline"]["failed"]


def write_keys(work: Workspace, trained: Sequence[int], columns: Sequence[str] = ("delay", "hour")) -> None:
    """Let a live model of the test rows' own formula have been trained on the test rows `trained`."""
    keys = np.arange(1, ROWS + 1, dtype=np.uint64) << np.uint64(33)
    folder = work.root / "examples/keys"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "test.npy", keys)
    split = {"key": list(columns), "seed": 1}
    model = work.root / "baseline/model"
    (model / "assets.extra").mkdir(parents=True, exist_ok=True)
    (model / "assets.extra/training_keys.bin").write_bytes(pack(split, keys[list(trained)]))
    save_model(model, "binary", ["no", "yes"], -0.5)
    work.live |= {"version": 3, "variant": "float32"}
    work.split = {"key": ["delay", "hour"], "seed": 2}


def test_rows_that_the_baseline_learnt_are_left_out_of_the_comparison(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    write_keys(work, range(0, ROWS, 3))
    found = work.evaluate()
    rest = np.arange(ROWS) % 3 != 0
    comparison = found["comparison"]
    assert comparison["note"] == "Compared on 160 rows: the baseline was trained on 80 of the 240 test rows."
    assert (comparison["rows"], [entry["name"] for entry in comparison["results"]]) == (
        160,
        ["float32", "baseline"],
    )
    truth = np.array([label == "yes" for label in work.values("label")])[rest]
    carriers = np.array(work.values("carrier"))[rest]
    for entry in comparison["results"]:
        scores = np.load(tmp_path / f"out/predictions/{entry['name']}.npy")[rest, 1]
        assert entry["metrics"]["auc"] == pytest.approx(sk.roc_auc_score(truth, scores))
        (part,) = [one for one in entry["slices"] if one["keys"] == {"carrier": "UA"}]
        inside = carriers == "UA"
        assert part["rows"] == inside.sum()
        assert part["metrics"]["accuracy"] == pytest.approx(((scores >= 0.5) == truth)[inside].mean())
    assert found["baseline"]["metrics"]["auc"] != found["comparison"]["results"][1]["metrics"]["auc"]


def test_without_rows_that_it_learnt_all_are_compared(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    write_keys(work, [])
    assert work.evaluate()["comparison"] == {"note": ""}
    (tmp_path / "baseline/model/assets.extra/training_keys.bin").unlink()
    unknown = {"note": "It is not known which of these rows the baseline was trained on."}
    assert work.evaluate()["comparison"] == unknown


@pytest.mark.parametrize(
    ("trained", "columns", "why"),
    [
        (range(141), ("delay", "hour"), "was trained on 141 of the 240 test rows; the other 99 are too few"),
        (range(ROWS), ("delay", "hour"), "was trained on 240 of the 240 test rows; the other 0 are too few"),
        (range(9), ("delay",), "by other columns (delay; today delay, hour)"),
    ],
)
def test_too_few_rows_or_other_keys_are_no_baseline(
    tmp_path: Path, trained: Sequence[int], columns: Sequence[str], why: str
) -> None:
    work = Workspace(tmp_path)
    write_keys(work, trained, columns)
    found = work.evaluate()
    assert found["baseline"] is None
    assert "comparison" not in found
    assert found["no_baseline"].startswith("version 3, which is live, ")
    assert why in found["no_baseline"]
    write_keys(work, range(140))
    assert work.evaluate()["comparison"]["rows"] == 100


def test_a_rest_of_one_class_is_no_baseline(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    labels = work.values("label")
    most = max(set(labels), key=labels.count)
    assert labels.count(most) >= 100
    write_keys(work, [row for row, label in enumerate(labels) if label != most])
    assert "too alike, to compare on" in work.evaluate()["no_baseline"]


def test_why_there_is_no_baseline_is_told(tmp_path: Path) -> None:
    found = Workspace(tmp_path).evaluate()
    assert (found["baseline"], found["no_baseline"]) == (None, "nothing is live")


def test_a_variant_that_cannot_predict_fails_alone(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.add_saved_model("int8_weights", float("nan"))
    work.variants.append({"name": "tflite_float16", "runtime": "tf", "path": "gone", "state": "built"})
    save_model(tmp_path / "baseline/model", "binary", ["no", "perhaps"])
    work.live |= {"version": 3, "variant": "float32"}
    found = work.evaluate()
    float32, broken, absent = found["variants"]
    assert float32["metrics"]["accuracy"] > 0.5
    assert (
        broken["failed"]
        == f"ValueError: predictions must be finite. Received: {2 * ROWS} values that are not"
    )
    assert "gone" in absent["failed"]
    assert "metrics" not in broken
    assert (
        "must answer with classes ('no', 'yes'). Received: ('no', 'perhaps')" in found["baseline"]["failed"]
    )
    assert "failed: int8_weights, tflite_float16" in work.finding
    assert work.doubts == {"evaluation": "no prediction by int8_weights, tflite_float16"}
    assert not (tmp_path / "out/tfma/int8_weights").exists()


def test_without_float32_the_others_are_judged(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.add_saved_model("int8_weights", 0.0)
    (tmp_path / "model/Format-Serving/saved_model.pb").unlink()
    found = work.evaluate()
    assert "failed" in found["variants"][0]
    assert found["variants"][1]["agreement"] is None
    assert found["importance"] == []
    assert found["tfma"]["state"] == "SKIPPED"


def test_two_runs_write_the_same(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    assert work.evaluate("one") == work.evaluate("two")


def test_a_slice_of_an_unknown_column_is_a_config_error(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.config["slices"] = [["carrier", "gate"]]
    with pytest.raises(ConfigError, match=r"must name columns of the examples: delay.*Received: gate"):
        work.evaluate()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "every row needs a label. Received: 1 rows without one"),
        ("maybe", r"labels must be one of no, yes. Received: maybe \(row 4 of test"),
    ],
)
def test_bad_labels_are_rejected(label: str | None, message: str, tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.tables["test"][3]["label"] = label
    with pytest.raises(DataRejected, match=message):
        work.evaluate()


def test_an_empty_test_split_is_rejected(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.tables["test"] = []
    with pytest.raises(DataRejected, match="the test split must hold rows"):
        work.evaluate()
