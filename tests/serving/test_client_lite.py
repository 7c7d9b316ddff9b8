"""One model behind every client: bundle, SavedModel in the process, REST and gRPC give the same results."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
import tensorflow as tf

from headrace.components.models.output import Output
from headrace.components.parity.tolerance import TOLERANCE, max_relative_difference
from headrace.components.quantization.lite import convert_float
from headrace.components.training.signatures import save_module, transformed_module
from headrace.data.errors import ConfigError
from headrace.pipeline.predict import PredictOptions, predict_file
from headrace.serving.client import LiteClient, SavedModelClient, connect
from headrace.serving.columns import InvalidRow
from headrace.serving.images import encode_png
from headrace.serving.raw import raw_columns
from headrace.serving.session import SessionModel
from tests.components.trained_model import Trained, trained
from tests.serving.client_models import Served, serving


@pytest.fixture(scope="module")
def made() -> Trained:
    return trained()


@pytest.fixture(scope="module")
def push(made: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A push target: `lite/flights/3` and `serving/flights/3`, both float32."""
    root = tmp_path_factory.mktemp("push")
    labels = json.dumps({**made.features()["label"], "threshold": 0.4})
    lite = root / "lite" / "flights" / "3"
    lite.mkdir(parents=True)
    (lite / "model.tflite").write_bytes(convert_float(str(made.root / "model/Format-Transformed")))
    shutil.copy(made.root / "transform_graph/headrace/preprocessing.json", lite)
    (lite / "labels.json").write_text(labels)
    whole = root / "serving" / "flights" / "3"
    shutil.copytree(made.root / "model/Format-Serving", whole)
    (whole / "assets.extra").mkdir(exist_ok=True)
    (whole / "assets.extra" / "labels.json").write_text(labels)
    return root


@pytest.fixture(scope="module")
def served(push: Path) -> Iterator[Served]:
    with serving(push / "serving", ("flights",)) as found:
        yield found


def test_every_client_gives_the_same_results(made: Trained, push: Path, served: Served) -> None:
    rows = made.golden_rows()  # with each column missing once and unseen once
    types = {column["name"]: column["type"] for column in made.features()["raw"]}
    with SessionModel.load(str(push / "serving/flights/3")) as model:
        expected = model.run("serving_raw", raw_columns(rows, types))["scores"]
    decided = ["1" if late >= np.float32(0.4) else "0" for late in expected[:, 1]]
    assert set(decided) == {"0", "1"}
    targets = (
        push / "lite/flights",
        push / "serving/flights",
        served.rest("flights"),
        served.grpc("flights"),
    )
    for target in targets:
        with connect(target, labels=push / "serving/flights", batch_rows=100) as client:
            found = client.predict(rows)
            assert max_relative_difference(expected, found.scores) <= TOLERANCE, target
            assert list(found.decided) == decided, target
            assert (found.classes, found.version, found.task) == (("0", "1"), 3, "binary")


def test_a_bundle_is_a_folder_or_its_highest_version(push: Path) -> None:
    row = [{"distance": 700.0}]
    versions = push / "lite/flights"
    assert LiteClient(versions).predict(row).decided == LiteClient(versions / "3").predict(row).decided
    for kind, file in ((LiteClient, "model.tflite"), (SavedModelClient, "saved_model.pb")):
        with pytest.raises(ConfigError, match=rf"must be a folder with {file}, or hold versions of one"):
            kind(push)
    with pytest.raises(ConfigError, match=r"or hold versions of one, or a URL. Received: "):
        connect(push / "nowhere")
    with pytest.raises(ConfigError, match=r"signature for rows. Received: 'odd' .*serving_raw"):
        SavedModelClient(push / "serving/flights", signature="odd")


@pytest.mark.parametrize("side", ["lite", "serving"])
def test_a_folder_reads_text_as_its_labels_tell(push: Path, tmp_path: Path, side: str) -> None:
    model = tmp_path / "3"
    shutil.copytree(push / side / "flights/3", model)
    labels = model / ("labels.json" if side == "lite" else "assets.extra/labels.json")
    told = {"csv": {"delimiter": ";", "null_values": ["", "?"]}}
    labels.write_text(json.dumps(json.loads(labels.read_text()) | told))
    rows, answers = tmp_path / "a.csv", tmp_path / "out.csv"
    rows.write_text("distance;carrier\n700;?\n?;UA\n")
    predict_file(PredictOptions(str(model), str(rows), str(answers)), lambda _: None)
    with connect(model) as client:
        expected = client.predict([{"distance": 700.0}, {"carrier": "UA"}]).scores[:, 1]
        other = client.predict([{"distance": 700.0, "carrier": "?"}]).scores[0, 1]
    assert abs(expected[0] - other) > 1e-5  # so what is missing is told from an unknown category
    found = csv.read_csv(answers)["score_1"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_parts_progress_and_places_are_those_of_the_other_clients(made: Trained, push: Path) -> None:
    client, rows = LiteClient(push / "lite/flights", batch_rows=10), made.golden_rows()[:25]
    told: list[tuple[int, int]] = []
    found = client.predict(rows, progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 25), (20, 25), (25, 25)]
    whole = LiteClient(push / "lite/flights").predict(rows)
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-6)
    with pytest.raises(InvalidRow, match=r"must be an integer. Received: 1.5, .* \(row 25, column 'month'\)"):
        client.predict([*rows, {"month": 1.5}])
    with pytest.raises(InvalidRow, match=r"must be given. Received: none for .*'month'"):
        client.predict([{"distance": 1.0}], complete=True)
    assert client.columns()["month"] == "int"


def test_pictures_are_paths_bytes_or_arrays(tmp_path: Path) -> None:
    features = {"features": [{"name": "photo", "role": "image", "width": 12, "shape": [2, 2, 3]}]}
    mean = transformed_module(
        lambda x: tf.reduce_mean(x["photo"], axis=[1, 2, 3], keepdims=False)[:, tf.newaxis],
        features,
        Output("regression"),
        [],
    )
    save_module(mean, str(tmp_path / "module"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.tflite").write_bytes(convert_float(str(tmp_path / "module")))
    (bundle / "labels.json").write_text(json.dumps({"name": "y", "task": "regression", "classes": None}))
    picture = {"name": "photo", "op": "picture", "column": "photo", "height": 2, "width": 2, "channels": 3}
    picture |= {"fit": "stretch", "antialias": True, "pixels": None, "subtract": [0] * 3, "divide": [1] * 3}
    sidecar = {
        "schema_version": 1,
        "hash": {"function": "siphash-2-4", "key": [1, 2]},
        "joiner": "|",
        "columns": [{"name": "photo", "type": "image"}],
        "outputs": [picture],
    }
    (bundle / "preprocessing.json").write_text(json.dumps(sidecar))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    content = encode_png(pixels)
    (tmp_path / "one.png").write_bytes(content)
    client = LiteClient(bundle)
    packed = {"b64": base64.b64encode(content).decode()}
    forms = [tmp_path / "one.png", str(tmp_path / "one.png"), content, pixels, packed]
    assert client.predict(forms).values.tolist() == [pixels.mean()] * len(forms)
    assert client.predict([{"photo": form} for form in forms]).values.tolist() == [pixels.mean()] * len(forms)
    assert client.predict(np.stack([pixels, pixels]))[1].value == pixels.mean()
    table = pa.table({"photo": pa.array([content, None], pa.binary())})
    assert client.predict(table).values.tolist() == [pixels.mean(), 0.0]
    with pytest.raises(InvalidRow, match=r"whole JPEG or PNG file. Received: .* \(row 1, column 'photo'\)"):
        client.predict([content, content[:-9]])


def test_the_bundle_decides_by_its_labels(push: Path) -> None:
    rows = [{"distance": 700.0, "carrier": "C1"}]
    score = LiteClient(push / "lite/flights").predict(rows)[0].scores["1"]
    found = LiteClient(push / "lite/flights").predict(rows)
    assert found.decided_by == "threshold 0.4 of labels.json"
    for threshold, label in ((score - 0.01, "1"), (score + 0.01, "0")):
        assert LiteClient(push / "lite/flights", threshold=threshold).predict(rows)[0].label == label


@pytest.mark.parametrize(
    ("imports", "forbidden"),
    [
        (
            "RestClient, Retry, ClientTls, Predictions",
            ("grpc", "ai_edge_litert", "pyarrow", "pandas", "aiohttp"),
        ),
        ("GrpcClient, AsyncGrpcClient", ("ai_edge_litert", "pyarrow", "pandas", "tensorflow_serving")),
        ("AsyncRestClient, connect", ("grpc", "ai_edge_litert", "pyarrow", "pandas", "aiohttp")),
        ("LiteClient", ("grpc", "google.protobuf", "pyarrow", "pandas", "aiohttp")),
    ],
)
def test_no_client_imports_tensorflow_nor_another_transport(imports: str, forbidden: tuple[str, ...]) -> None:
    never = ("tensorflow", "keras", "tfx", "pydantic", *forbidden)
    code = (
        f"import sys\nfrom headrace.serving.client import {imports}\n"
        f"found = sorted(set({never!r}) & set(sys.modules))\nassert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_clients_answer_without_tensorflow(made: Trained, push: Path, served: Served) -> None:
    rows = json.dumps(made.golden_rows()[:3])
    code = (
        "import json, sys\n"
        "for name in ('tensorflow', 'keras', 'tfx', 'tensorflow_serving', 'pyarrow', 'orjson'):\n"
        "    sys.modules[name] = None\n"  # an import of it raises
        "from headrace.serving.client import connect\n"
        "rows = json.loads(sys.argv[1])\n"
        "print(json.dumps([connect(target).predict(rows).scores.tolist() for target in sys.argv[2:]]))\n"
    )
    targets = [str(push / "lite/flights"), served.rest("flights"), served.grpc("flights")]
    done = subprocess.run(
        [sys.executable, "-c", code, rows, *targets], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = LiteClient(push / "lite/flights").predict(json.loads(rows)).scores
    for found in json.loads(done.stdout):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_device_needs_less_than_150_mb(push: Path) -> None:
    code = (
        "import sys\n"
        "from headrace.serving.client import LiteClient\n"
        "LiteClient(sys.argv[1]).predict([{}])\n"
        # Not ru_maxrss, which begins at what the process had that this one was forked from.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    command = [sys.executable, "-c", code, str(push / "lite/flights")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) * 1024 < 150e6
