"""Parts of the clients that need no server: URLs, rows, labels, results, and what goes over the wire."""

import base64
import datetime
import json
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from headrace.data.errors import ConfigError
from headrace.serving.client import Predictions, RequestFailed, rest_json
from headrace.serving.client.address import parse_url
from headrace.serving.client.failures import Code
from headrace.serving.client.grpc_tensors import fill, read
from headrace.serving.client.labels import Labels, read_labels
from headrace.serving.client.messages import _MESSAGES, message_class
from headrace.serving.client.requests import RowOptions, TensorRequest
from headrace.serving.client.signatures import ModelSignature, Tensor, column_kinds
from headrace.serving.columns import InvalidRow
from headrace.serving.dates import date_part
from headrace.serving.server.tensors import DTYPES, from_proto, to_proto

GENERATED = {
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "Shape": tensor_shape_pb2.TensorShapeProto,
    "Tensor": tensor_pb2.TensorProto,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "MetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "MetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "SignatureMap": get_model_metadata_pb2.SignatureDefMap,
    "Signature": meta_graph_pb2.SignatureDef,
    "TensorInfo": meta_graph_pb2.TensorInfo,
}


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "path", "netloc"),
        [
            ("http://h:1/v1/models/m", "/v1/models/m", "h:1"),
            ("https://h/team/v1/models/m/", "/team/v1/models/m", "h:443"),
            ("http://[::1]:8501/v1/models/a%20b/versions/12", "/v1/models/a%20b/versions/12", "[::1]:8501"),
            ("grpc://h/m/labels/st%2Fable", "/v1/models/m/labels/st%2Fable", "h:8500"),
        ],
    )
    def test_a_url_names_host_model_and_version(self, url: str, path: str, netloc: str) -> None:
        found = parse_url(url)
        assert (found.path, found.netloc) == (path, netloc)
        assert parse_url(found.url).path == path

    @pytest.mark.parametrize(
        "url",
        [
            "h:8501/v1/models/m", "http:///v1/models/m", "http://h/m", "http://h/v1/models/", "grpc://h:8500",
            "http://h/v1/models/m:predict", "grpc://h/m/versions/x", "grpc://h/m/versions", "http://h:x/v1/models/m",
            "http://h/v1/models/m?a=1", "grpc://h/m/odd/1",
        ],
    )  # fmt: skip
    def test_anything_else_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"URL must begin with .*Received: "):
            parse_url(url)


class TestMessages:
    @pytest.mark.parametrize("name", GENERATED)
    def test_fields_have_the_numbers_and_kinds_of_the_real_ones(self, name: str) -> None:
        real = GENERATED[name].DESCRIPTOR.fields_by_number
        for number, (field, _) in _MESSAGES[name].items():
            ours = message_class(name).DESCRIPTOR.fields_by_number[number]
            assert real[number].name == field
            assert real[number].is_repeated == ours.is_repeated
            wire = {14: 5}.get(real[number].type, real[number].type)  # an enum travels as an int32
            assert wire == ours.type

    @pytest.mark.parametrize("number", [n for n in DTYPES if n in (1, 2, 3, 4, 5, 6, 9, 10, 17, 19, 22, 23)])
    @pytest.mark.parametrize("as_content", [False, True])
    def test_numbers_survive_both_ways(self, number: int, as_content: bool) -> None:
        array = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[number])
        sent = message_class("Tensor")()
        fill(sent, array)
        np.testing.assert_array_equal(
            from_proto(tensor_pb2.TensorProto.FromString(sent.SerializeToString())), array
        )
        wire = to_proto(array, as_content=as_content).SerializeToString()
        found = read(message_class("Tensor").FromString(wire))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype

    def test_strings_scalars_and_few_values_for_many(self) -> None:
        for array in (
            np.array([b"a", "\xe4".encode(), b"\xff"], object),
            np.array(["x", "y"]),
            np.float32(3.5),
        ):
            sent = message_class("Tensor")()
            fill(sent, np.asarray(array))
            real = from_proto(tensor_pb2.TensorProto.FromString(sent.SerializeToString()))
            assert real.shape == np.shape(array)
            wanted = np.asarray(array)
            assert real.tolist() == (
                np.char.encode(wanted).tolist() if wanted.dtype.kind == "U" else wanted.tolist()
            )
        message = message_class("Tensor")(dtype=1, float_val=[1.0, 2.0])
        message.tensor_shape.dim.add(size=4)
        assert read(message).tolist() == [1.0, 2.0, 2.0, 2.0]
        with pytest.raises(ValueError, match=r"must be of a known type. Received: 20"):
            read(message_class("Tensor")(dtype=20))
        with pytest.raises(ValueError, match=r"must be of numbers, bool or strings. Received: complex64"):
            fill(message_class("Tensor")(), np.zeros(1, np.complex64))


@pytest.mark.parametrize("has_orjson", [True, False])
class TestJson:
    def test_a_request_is_what_it_says(self, has_orjson: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest_json, "_HAS_ORJSON", has_orjson)
        inputs = {
            "x": np.array([0.1, np.nan, 3], np.float32),
            "inf": np.array([np.inf, -np.inf, 0.5], np.float64),
            "n": np.array([[1], [2], [3]], np.int64),
            'odd "name" ä': np.array([b"null", "ä\n".encode(), b"\xff\x00"], object),
        }
        body = rest_json.write_request(inputs, "serving_raw")
        found = json.loads(body)
        assert found["signature_name"] == "serving_raw"
        columns = found["inputs"]
        np.testing.assert_array_equal(np.array(columns["x"], np.float32), inputs["x"])
        assert columns["inf"] == [np.inf, -np.inf, 0.5]
        assert columns["n"] == [[1], [2], [3]]
        assert columns['odd "name" ä'] == ["null", "ä\n", {"b64": base64.b64encode(b"\xff\x00").decode()}]
        assert "signature_name" not in json.loads(rest_json.write_request(inputs, ""))

    def test_an_answer_is_read(self, has_orjson: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest_json, "_HAS_ORJSON", has_orjson)
        wanted = {"y": Tensor("float32", (None,)), "t": Tensor("object", (None,))}
        found = rest_json.read_outputs(
            b'{"outputs": {"y": [1.5, NaN], "t": ["a", {"b64": "/w=="}]}}', wanted, ""
        )
        np.testing.assert_array_equal(found["y"], np.array([1.5, np.nan], np.float32))
        assert found["t"].tolist() == [b"a", b"\xff"]
        alone = rest_json.read_outputs(b'{"outputs": [[1, 2]]}', {"z": Tensor("int64", (None, 2))}, "")
        assert alone["z"].tolist() == [[1, 2]]
        assert rest_json.read_outputs(b'{"outputs": [1, 2]}', None, "")["outputs"].tolist() == [1, 2]


def tensors(given: Any, **kinds: Tensor) -> dict[str, Any]:
    (part,) = TensorRequest(given, ModelSignature("s", kinds, {}, 1), RowOptions()).parts()
    return {name: array.tolist() for name, array in part[1].items()}


NUMBER, TEXT, LIST = Tensor("float32", (None,)), Tensor("object", (None,)), Tensor("float32", (None, None))


class TestRows:
    def test_tables_are_read_as_training_reads_them(self) -> None:
        day = pd.Timestamp("2026-03-01").to_pydatetime().date()
        table = pa.table(
            {
                "flag": pa.array([True, None]),
                "money": pa.array([Decimal("1.5"), None]),
                "code": pa.array([7.0, None]),
                "day": pa.array([day, None]),
                "long": pa.array([2**40, None], pa.int64()),
            }
        )
        kinds = {"flag": NUMBER, "money": NUMBER, "code": TEXT, "day": TEXT, "long": TEXT}
        expected = {"flag": 1.0, "money": 1.5, "code": b"7", "day": b"2026-03-01", "long": b"1099511627776"}
        for form in (table, table.to_pandas(types_mapper=pd.ArrowDtype)):
            found = tensors(form, **kinds)
            assert {name: values[0] for name, values in found.items()} == expected
            assert [values[1] for values in found.values()][2:] == [b"", b"", b""]
            assert all(np.isnan(values[1]) for values in list(found.values())[:2])

    def test_lists_are_padded_and_pixels_laid_flat(self) -> None:
        found = tensors([{"s": [1, None, 3]}, {"s": []}, {}], s=LIST)
        np.testing.assert_array_equal(found["s"], [[1, np.nan, 3], [np.nan] * 3, [np.nan] * 3])
        assert tensors(np.arange(8).reshape(2, 2, 2), s=LIST)["s"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        np.testing.assert_array_equal(tensors([{"s": None}], s=LIST)["s"], [[np.nan]])

    def test_columns_of_other_models(self) -> None:
        assert tensors({"x": [1, 2]}, x=Tensor("int64", (None, 1))) == {"x": [[1], [2]]}
        with pytest.raises(
            ConfigError, match=r"integers must have no missing values. Received: none in row 1"
        ):
            tensors({"x": [1, None]}, x=Tensor("int32", (None,)))
        for tensor in (Tensor("float32", None), Tensor("float32", (None, 3, 3)), Tensor("bool", (None,))):
            with pytest.raises(ConfigError, match=r"must be a column: .*\(signature 's', input 'x'\)"):
                column_kinds(ModelSignature("s", {"x": tensor}, {}, 1))

    def test_pictures_in_base64(self) -> None:
        packed = base64.b64encode(b"\x89PNG").decode()
        for given in ([{"b64": packed}], [{"p": {"b64": packed}}], [b"\x89PNG"], {"p": [b"\x89PNG"]}):
            assert tensors(given, p=TEXT) == {"p": [b"\x89PNG"]}

    def test_dates_of_every_library_are_text(self) -> None:
        moment = datetime.datetime(2024, 2, 29, 13, 5)
        zone = datetime.timezone(datetime.timedelta(hours=2))
        given = [
            datetime.date(2024, 2, 29), moment, moment.replace(tzinfo=zone), pd.Timestamp(moment), pd.NaT,
            np.datetime64("2024-02-29T13:05"), np.datetime64("NaT"), None,
        ]  # fmt: skip
        wanted = [
            "2024-02-29", "2024-02-29 13:05:00", "2024-02-29 13:05:00+02:00", "2024-02-29 13:05:00", "",
            "2024-02-29 13:05", "", "",
        ]  # fmt: skip
        expected = [text.encode() for text in wanted]
        assert tensors([{"x": value} for value in given], x=TEXT)["x"] == expected
        assert tensors({"x": given}, x=TEXT)["x"] == expected
        column = np.array(["2024-02-29", "NaT"], "datetime64[D]")
        assert tensors({"x": column}, x=TEXT)["x"] == [b"2024-02-29", b""]
        read = date_part([text for text in wanted if text], "hour")
        assert read.tolist() == [1, 14, 14, 14, 14]  # the pipeline reads all of them as dates
        with pytest.raises(InvalidRow, match=r"must be text, a date, .*Received: datetime.time"):
            tensors([{"x": datetime.time(1)}], x=TEXT)

    def test_an_error_keeps_its_place_across_processes(self) -> None:
        error = InvalidRow("a rule. Received: 1", "a hint", 3, "x")
        moved = pickle.loads(pickle.dumps(error)).moved(10)
        assert str(moved) == "a rule. Received: 1 (row 13, column 'x'); a hint"
        assert (
            moved.moved(0, lambda row: f"line {row}").message == "a rule. Received: 1 (line 13, column 'x')"
        )
        refused = RequestFailed(Code.NOT_FOUND, "gone", "grpc://h/m", 2)
        refused.rows, refused.hint = (3, 2), "a hint"
        failed = pickle.loads(pickle.dumps(refused))
        assert (failed.rows, failed.hint) == ((3, 2), "a hint")
        assert (
            str(failed) == "the server must answer. Received: NOT_FOUND: gone (grpc://h/m, after 2 attempts)"
        )


class TestLabels:
    def test_results_as_tables(self) -> None:
        scores = np.array([[0.2, 0.8], [0.75, 0.25]], np.float32)
        found = Labels({"task": "binary", "classes": ["no", "yes"], "threshold": None}).predictions(
            {"scores": scores}, 4
        )
        assert found.decided_by == "largest score"
        named = np.array([[b"a", b"b", b"c"]] * 2, object)
        many = Labels().predictions({"scores": np.full((2, 3), 1 / 3), "classes": named}, 4)
        assert many.decided_by == "largest score"  # of more than two classes it is the rule itself
        assert found[-1].label == "no"
        assert [row.label for row in found[:5]] == ["yes", "no"]
        assert found.to_pandas().columns.tolist() == ["class", "probability", "score_no", "score_yes"]
        assert found.to_arrow()["probability"].to_pylist() == pytest.approx([0.8, 0.75])
        assert found.to_dicts()[0] == {"class": "yes", "scores": {"no": 0.2, "yes": 0.8}}
        value = Labels().predictions({"outputs": np.array([[1.1], [2.0]], np.float32)}, None)
        assert isinstance(value, Predictions)
        assert value.to_dicts() == [{"output": 1.1}, {"output": 2.0}]
        assert (value[0].value, value[0].label, value[0].scores) == (1.1, None, {})

    def test_outputs_without_a_meaning_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="Received: a, b"):
            Labels().predictions({"a": np.zeros(1), "b": np.zeros(1)}, None)
        with pytest.raises(ConfigError, match="scores without `classes`"):
            Labels().predictions({"scores": np.zeros((1, 2))}, None)

    def test_labels_lie_on_either_side_of_a_push(self, tmp_path: Path) -> None:
        label = {"task": "regression", "classes": None}
        for number in (9, 10):
            (tmp_path / str(number) / "assets.extra").mkdir(parents=True)
            text = json.dumps({**label, "name": str(number)})
            (tmp_path / str(number) / "assets.extra" / "labels.json").write_text(text)
        for given in (tmp_path, tmp_path / "10", tmp_path / "10" / "assets.extra", str(tmp_path / "10")):
            assert read_labels(given)[0]["name"] == "10"
        with pytest.raises(ConfigError, match=r"labels must be a labels.json. Received: .*nowhere"):
            read_labels(tmp_path / "nowhere")
