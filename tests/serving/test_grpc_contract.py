"""TensorFlow Serving's contract over gRPC, from its sources and tests, against a server on a real port."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from headrace.serving.server.core import Settings
from headrace.serving.server.run import RunSettings
from headrace.serving.server.source import ModelEntry, VersionPolicy
from tests.serving import saved_models
from tests.serving.running import RunningServer, running

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("models")
    saved_models.half_plus_two(root / "hpt" / "1")
    saved_models.half_plus_two(root / "hpt" / "00000002", add=3.0)
    saved_models.zoo(root / "zoo" / "123")
    entries = (
        ModelEntry(
            "hpt", str(root / "hpt"), VersionPolicy("all"), labels=(("canary", 2), ("gone", 9), ("stable", 1))
        ),
        ModelEntry("zoo", str(root / "zoo")),
    )
    core = Settings(labels_for_unavailable=True)
    with running(RunSettings(entries=entries, core=core)) as found:
        yield found


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with server.channel() as found:
        yield found


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(
    name: str = "hpt", version: int | None = None, label: str = "", signature: str = "", **inputs: Any
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        proto = value if isinstance(value, TensorProto) else None
        request.inputs[alias].CopyFrom(proto if proto is not None else tf.make_tensor_proto(value))
    return request


def x(*values: float) -> Any:
    return tf.make_tensor_proto([[value] for value in values], tf.float32)


def fails(call: Any, request: Any, **kwargs: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10, **kwargs)
    return caught.value.code(), caught.value.details()


# Predict


def test_predict_answers_with_the_newest_version_and_says_so(stub):
    response = stub.Predict(predict_request(x=x(2.0, 4.0)), timeout=10)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [[4.0], [5.0]]
    assert (response.model_spec.name, response.model_spec.version.value) == ("hpt", 2)
    assert response.model_spec.signature_name == "serving_default"
    assert not response.model_spec.version_label


def test_predict_answers_in_typed_fields_as_upstream(stub):
    output = stub.Predict(predict_request(x=x(2.0)), timeout=10).outputs["y"]
    assert list(output.float_val) == [4.0]
    assert output.tensor_content == b""
    assert [dim.size for dim in output.tensor_shape.dim] == [1, 1]


@pytest.mark.parametrize(
    ("spec", "answer", "version"),
    [
        ({"version": 1}, 3.0, 1),
        ({"version": 2}, 4.0, 2),
        ({"label": "stable"}, 3.0, 1),
        ({"label": "canary"}, 4.0, 2),
        ({"signature": "serving_default"}, 4.0, 2),
    ],
)
def test_predict_on_a_chosen_version(stub, spec, answer, version):
    response = stub.Predict(predict_request(**spec, x=x(2.0)), timeout=10)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [[answer]]
    assert response.model_spec.version.value == version


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        ({"name": "absent"}, CODE.NOT_FOUND, "Servable not found for request: Latest(absent)"),
        ({"version": 7}, CODE.NOT_FOUND, "Servable not found for request: Specific(hpt, 7)"),
        ({"version": 0}, CODE.NOT_FOUND, "Servable not found for request: Specific(hpt, 0)"),
        ({"label": "no"}, CODE.INVALID_ARGUMENT, "Unrecognized servable version label: no"),
        ({"label": "gone"}, CODE.NOT_FOUND, "Servable not found for request: Specific(hpt, 9)"),
        ({"name": ""}, CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ({"signature": "no"}, CODE.FAILED_PRECONDITION, 'Serving signature key "no" not found.'),
        (
            {"signature": "__saved_model_init_op"},
            CODE.FAILED_PRECONDITION,
            'Serving signature key "__saved_model_init_op" not found.',
        ),
    ],
)
def test_predict_on_what_is_not_there(stub, spec, code, text):
    assert fails(stub.Predict, predict_request(**spec, x=x(1.0))) == (code, text)


def test_predict_without_a_model_spec(stub):
    assert fails(stub.Predict, predict_pb2.PredictRequest()) == (CODE.INVALID_ARGUMENT, "Missing ModelSpec")


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {},
            "input size does not match signature: 0!=1 len({}) != len({x}). "
            "Sent extra: {}. Missing but required: {x}.",
        ),
        (
            {"x": x(1.0), "z": x(1.0)},
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
            "Sent extra: {z}. Missing but required: {}.",
        ),
        (
            {"z": x(1.0)},
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
            "Inputs expected to be in the request {z}, or default input alias set: ",
        ),
    ],
)
def test_predict_with_other_inputs(stub, inputs, text):
    assert fails(stub.Predict, predict_request(**inputs)) == (CODE.INVALID_ARGUMENT, text)


def test_predict_with_one_input_of_two_misnamed(stub):
    request = predict_request("zoo", numbers=np.ones((1, 2), np.float32), words=[b"a"])
    code, text = fails(stub.Predict, request)
    assert code == CODE.INVALID_ARGUMENT
    assert "Signature input alias: texts(feed name: serving_default_texts:0) not found in request" in text
    assert "{numbers,words}" in text


@pytest.mark.parametrize(
    ("value", "given"),
    [([[1]], "int32"), ([["a"]], "string"), (np.ones((1, 1)), "double"), (np.array([[True]]), "bool")],
)
def test_predict_with_another_type(stub, value, given):
    code, text = fails(stub.Predict, predict_request(x=value))
    assert (code, text) == (CODE.INVALID_ARGUMENT, f"Expects arg[0] to be float but {given} is provided")


def test_predict_with_another_shape_gives_tensorflows_own_error(stub):
    request = predict_request("zoo", numbers=np.ones((1, 3), np.float32), texts=[b"a"])
    code, text = fails(stub.Predict, request)
    assert code == CODE.INVALID_ARGUMENT
    assert "Matrix size-incompatible" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda proto: setattr(proto, "tensor_content", b"123"),
        lambda proto: setattr(proto, "dtype", 0),
        lambda proto: setattr(proto, "dtype", 99),
        lambda proto: setattr(proto.tensor_shape.dim[0], "size", -1),
        lambda proto: setattr(proto.tensor_shape, "unknown_rank", True),
    ],
)
def test_predict_with_what_is_no_tensor(stub, change):
    request = predict_request(x=x(1.0))
    change(request.inputs["x"])
    assert fails(stub.Predict, request) == (CODE.INVALID_ARGUMENT, "tensor parsing error: x")


def test_the_signature_is_looked_up_before_tensors_are_read(stub):
    request = predict_request(signature="no", x=x(1.0))
    request.inputs["x"].tensor_content = b"123"
    assert fails(stub.Predict, request)[0] == CODE.FAILED_PRECONDITION


def test_output_filter(stub):
    request = predict_request("zoo", numbers=np.ones((2, 2), np.float32), texts=[b"a", b"b"])
    request.output_filter.extend(["shout", "total"])
    response = stub.Predict(request, timeout=10)
    assert set(response.outputs) == {"shout", "total"}
    assert list(response.outputs["shout"].string_val) == [b"A", b"B"]
    assert list(response.outputs["total"].float_val) == [11.0, 11.0]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["no"], "output tensor alias not found in signature: no Outputs expected to be in the set {y}."),
        (["y", "y"], "duplicate output tensor alias: y"),
    ],
)
def test_output_filter_with_wrong_names(stub, names, text):
    request = predict_request(x=x(1.0))
    request.output_filter.extend(names)
    assert fails(stub.Predict, request) == (CODE.INVALID_ARGUMENT, text)


SAMPLES = {
    "float32": [1.5, -2.5],
    "float64": [1.5, -2.5],
    "int8": [1, -2],
    "int16": [1, -2],
    "int32": [1, -2],
    "int64": [1, -(2**60)],
    "uint8": [1, 255],
    "uint16": [1, 65535],
    "uint32": [1, 2**32 - 1],
    "uint64": [1, 2**64 - 1],
    "bool": [True, False],
    "float16": [1.5, -2.5],
    "bfloat16": [1.5, -2.5],
    "complex64": [1 + 2j, -3j],
    "complex128": [1 + 2j, -3j],
    "string": [b"a\xff", b""],
}


@pytest.mark.parametrize("as_content", [False, True])
def test_every_type_comes_back_as_it_went(stub, as_content):
    arrays = {name: np.array(values, tf.as_dtype(name).as_numpy_dtype) for name, values in SAMPLES.items()}
    request = predict_request("zoo", signature="echo")
    for name, array in arrays.items():
        proto = request.inputs[name]
        proto.dtype = tf.as_dtype(name).as_datatype_enum
        proto.tensor_shape.dim.add().size = 2
        if name == "string":
            proto.string_val.extend(array.tolist())
        elif as_content:
            proto.tensor_content = array.tobytes()
        else:
            _fill_typed(proto, array, name)
    response = stub.Predict(request, timeout=10)
    for name, array in arrays.items():
        assert response.outputs[name].dtype == tf.as_dtype(name).as_datatype_enum
        assert tf.make_ndarray(response.outputs[name]).tolist() == array.tolist(), name


def _fill_typed(proto: Any, array: Any, name: str) -> None:
    fields = {"float32": "float", "float64": "double", "int64": "int64", "bool": "bool"}
    fields |= {"uint32": "uint32", "uint64": "uint64", "float16": "half", "bfloat16": "half"}
    fields |= {"complex64": "scomplex", "complex128": "dcomplex"}
    field = fields.get(name, "int") + "_val"
    if field == "half_val":
        array = array.view(np.uint16)
    elif field in ("scomplex_val", "dcomplex_val"):
        array = array.view(array.real.dtype)
    getattr(proto, field).extend(array.tolist())


def test_a_single_value_stands_for_all(stub):
    request = predict_request("zoo", signature="any_shape")
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].float_val.append(7.0)
    for size in (2, 3):
        request.inputs["x"].tensor_shape.dim.add().size = size
    response = stub.Predict(request, timeout=10)
    assert tf.make_ndarray(response.outputs["x"]).tolist() == [[7.0] * 3] * 2


def test_no_values_are_zeros(stub):
    request = predict_request("zoo", signature="any_shape")
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add().size = 3
    response = stub.Predict(request, timeout=10)
    assert tf.make_ndarray(response.outputs["x"]).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(), (0,), (1, 2, 3), (5, 0)])
def test_shapes_come_back_as_they_went(stub, shape):
    request = predict_request("zoo", signature="any_shape", x=np.zeros(shape, np.float32))
    assert tf.make_ndarray(stub.Predict(request, timeout=10).outputs["x"]).shape == shape


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_any_number_of_rows(stub, rows):
    values = np.arange(rows, dtype=np.float32)[:, None]
    response = stub.Predict(predict_request(x=values), timeout=10)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), values / 2 + 3)


def test_nan_and_infinity(stub):
    response = stub.Predict(predict_request(x=x(np.nan, np.inf, -np.inf)), timeout=10)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"])[:, 0], [np.nan, np.inf, -np.inf])


def test_messages_over_four_mebibytes(stub):
    values = np.random.default_rng(0).random((3_000_000, 1), np.float32)
    response = stub.Predict(predict_request(x=values), timeout=30)
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["y"]), values / 2 + 3, rtol=1e-6)


def test_error_texts_are_cut(stub):
    code, text = fails(stub.Predict, predict_request("zoo", signature="positive", x=[-1.0]))
    assert code == CODE.INVALID_ARGUMENT
    assert text.endswith("...TRUNCATED")
    assert len(text.encode()) == 1024 + len("...TRUNCATED")


def test_a_failing_request_leaves_its_neighbours_alone(stub):
    futures = [
        stub.Predict.future(predict_request("zoo", signature="positive", x=[value]), timeout=20)
        for value in [1.0, -1.0] * 20
    ]
    codes = [future.code() for future in futures]
    assert codes == [CODE.OK, CODE.INVALID_ARGUMENT] * 20


def test_a_method_name_does_not_matter_by_default(stub):
    response = stub.Predict(predict_request(signature="odd_method", x=x(2.0)), timeout=10)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [[4.0]]
    assert response.model_spec.signature_name == "odd_method"


def test_a_deadline_is_kept_and_the_server_goes_on(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(predict_request("zoo", signature="slow", x=[20_000.0]), timeout=0.05)
    assert caught.value.code() == CODE.DEADLINE_EXCEEDED
    stub.Predict(predict_request(x=x(1.0)), timeout=20)


def test_a_request_that_is_no_message(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    code, text = fails(call, b"\xff\xff\xff")
    assert code == CODE.INVALID_ARGUMENT
    assert "parse" in text


def test_an_unknown_method(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Guess")
    assert fails(call, b"")[0] == CODE.UNIMPLEMENTED


# Classify, Regress, MultiInference


def with_examples(request: Any, *values: float, name: str = "hpt", signature: str = "") -> Any:
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for value in values:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    return request


def test_regress(stub):
    request = with_examples(regression_pb2.RegressionRequest(), 2.0, 4.0, signature="regress_x_to_y")
    response = stub.Regress(request, timeout=10)
    assert [entry.value for entry in response.result.regressions] == [4.0, 5.0]
    assert response.model_spec.signature_name == "regress_x_to_y"
    assert response.model_spec.version.value == 2


def test_classify_with_scores_only(stub):
    request = with_examples(classification_pb2.ClassificationRequest(), 2.0, signature="classify_x_to_y")
    response = stub.Classify(request, timeout=10)
    assert [(c.label, c.score) for c in response.result.classifications[0].classes] == [("", 4.0)]


def test_classify_with_labels_and_scores(stub):
    request = with_examples(
        classification_pb2.ClassificationRequest(), 1.0, 2.0, name="zoo", signature="classes"
    )
    response = stub.Classify(request, timeout=10)
    size = float(request.input.example_list.examples[0].ByteSize())
    found = [[(c.label, c.score) for c in row.classes] for row in response.result.classifications]
    assert found == [[("long", size), ("short", -size)]] * 2


def test_regress_on_a_signature_of_tensorflow_2(stub):
    request = with_examples(regression_pb2.RegressionRequest(), 1.0, name="zoo", signature="lengths")
    response = stub.Regress(request, timeout=10)
    assert [entry.value for entry in response.result.regressions] == [
        float(request.input.example_list.examples[0].ByteSize())
    ]


def test_context_is_merged_into_every_example(stub):
    request = with_examples(regression_pb2.RegressionRequest(), signature="regress_x_to_y")
    both = request.input.example_list_with_context
    both.context.features.feature["x"].float_list.value.append(6.0)
    both.examples.add()
    both.examples.add().features.feature["x"].float_list.value.append(2.0)
    response = stub.Regress(request, timeout=10)
    assert [entry.value for entry in response.result.regressions] == [6.0, 4.0]


@pytest.mark.parametrize("kind", ["none", "list", "context"])
@pytest.mark.parametrize("api", ["Classify", "Regress"])
def test_no_examples(stub, api, kind):
    signature = {"Classify": "classify_x_to_y", "Regress": "regress_x_to_y"}[api]
    made = {"Classify": classification_pb2.ClassificationRequest, "Regress": regression_pb2.RegressionRequest}
    request = with_examples(made[api](), signature=signature)
    if kind == "list":
        request.input.example_list.SetInParent()
    elif kind == "context":
        request.input.example_list_with_context.context.features.SetInParent()
    assert fails(getattr(stub, api), request) == (CODE.INVALID_ARGUMENT, "Input is empty.")


def test_an_example_without_its_feature(stub):
    request = with_examples(regression_pb2.RegressionRequest(), signature="regress_x_to_y")
    request.input.example_list.examples.add()
    code, text = fails(stub.Regress, request)
    assert code == CODE.INVALID_ARGUMENT
    assert "Feature: x (data type: float) is required but could not be found" in text


@pytest.mark.parametrize(
    ("api", "name", "signature", "text"),
    [
        ("Classify", "hpt", "no", "No signature was found with the name: no"),
        ("Regress", "hpt", "no", "No signature was found with the name: no"),
        ("Classify", "zoo", "", "Expected one input Tensor."),
        ("Regress", "zoo", "", "Expected one input Tensor."),
        ("Classify", "zoo", "share", "No classification inputs found in SignatureDef: "),
        ("Regress", "zoo", "share", "No regression inputs found in SignatureDef: "),
        ("Regress", "zoo", "classes", "Expected one output Tensor."),
        (
            "Classify",
            "zoo",
            "lengths",
            "Expected classification signature outputs to contain at least one of ",
        ),
        ("Regress", "hpt", "classify_x_to_y", "No regression outputs found in SignatureDef: "),
    ],
)
def test_signatures_of_another_kind(stub, api, name, signature, text):
    made = {"Classify": classification_pb2.ClassificationRequest, "Regress": regression_pb2.RegressionRequest}
    code, found = fails(getattr(stub, api), with_examples(made[api](), 1.0, name=name, signature=signature))
    assert code == CODE.INVALID_ARGUMENT
    assert found.startswith(text)


@pytest.mark.parametrize("api", ["Classify", "Regress", "GetModelMetadata"])
def test_no_model_spec(stub, api):
    made = {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    }
    assert fails(getattr(stub, api), made[api]()) == (CODE.INVALID_ARGUMENT, "Missing ModelSpec")


def multi_request(*tasks: tuple[str, str, str]) -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add()
        task.model_spec.name = name
        task.model_spec.signature_name = signature
        task.method_name = f"tensorflow/serving/{method}"
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    return request


def test_multi_inference(stub):
    request = multi_request(("hpt", "regress_x_to_y", "regress"), ("hpt", "classify_x_to_y", "classify"))
    response = stub.MultiInference(request, timeout=10)
    assert [result.WhichOneof("result") for result in response.results] == [
        "regression_result",
        "classification_result",
    ]
    assert response.results[0].regression_result.regressions[0].value == 4.0
    assert response.results[1].classification_result.classifications[0].classes[0].score == 4.0
    assert [result.model_spec.version.value for result in response.results] == [2, 2]
    assert [result.model_spec.signature_name for result in response.results] == [
        "regress_x_to_y",
        "classify_x_to_y",
    ]


def test_multi_inference_over_signatures_with_inputs_of_their_own(stub):
    """TensorFlow Serving before 2.4 refused them."""
    request = multi_request(("zoo", "lengths", "regress"), ("zoo", "classes", "classify"))
    results = stub.MultiInference(request, timeout=10).results
    size = len(request.input.example_list.examples[0].SerializeToString())
    assert results[0].regression_result.regressions[0].value == size
    found = [(c.label, c.score) for c in results[1].classification_result.classifications[0].classes]
    assert found == [("long", size), ("short", -size)]


REGRESS = ("hpt", "regress_x_to_y", "regress")


@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        ([], CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ([("absent", "a", "regress")], CODE.NOT_FOUND, "Servable not found for request: Latest(absent)"),
        (
            [REGRESS, ("zoo", "lengths", "regress")],
            CODE.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [REGRESS, ("", "lengths", "regress")],
            CODE.INVALID_ARGUMENT,
            "Found ModelSpec with an empty model name.",
        ),
        ([REGRESS, REGRESS], CODE.INVALID_ARGUMENT, "Duplicate evaluation of signature: regress_x_to_y"),
        (
            [("hpt", "no", "regress")],
            CODE.INVALID_ARGUMENT,
            "Requested signature not found in model graph: no",
        ),
        (
            [("hpt", "regress_x_to_y", "predict")],
            CODE.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_multi_inference_that_cannot_be(stub, tasks, code, text):
    assert fails(stub.MultiInference, multi_request(*tasks)) == (code, text)


# Metadata and status


def metadata_request(*fields: str, name: str = "hpt", **spec: Any) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.CopyFrom(predict_request(name, **spec).model_spec)
    return request


def test_metadata_holds_every_signature(stub):
    response = stub.GetModelMetadata(metadata_request("signature_def", label="stable"), timeout=10)
    assert (response.model_spec.name, response.model_spec.version.value) == ("hpt", 1)
    packed: AnyMessage = response.metadata["signature_def"]
    found = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(found)
    assert found.signature_def["regress_x_to_y"].method_name == "tensorflow/serving/regress"
    assert found.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum
    assert set(found.signature_def["serving_default"].outputs) == {"y"}


def test_metadata_of_tensorflow_2_holds_the_initialisation(stub):
    response = stub.GetModelMetadata(metadata_request("signature_def", name="zoo"), timeout=10)
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    assert "__saved_model_init_op" in found.signature_def


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (
            metadata_request(),
            CODE.INVALID_ARGUMENT,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (metadata_request("color"), CODE.INVALID_ARGUMENT, "Metadata field color is not supported"),
        (
            metadata_request("signature_def", name="absent"),
            CODE.NOT_FOUND,
            "Servable not found for request: Latest(absent)",
        ),
        (
            metadata_request("signature_def", version=9),
            CODE.NOT_FOUND,
            "Servable not found for request: Specific(hpt, 9)",
        ),
    ],
)
def test_metadata_that_is_not_there(stub, request_, code, text):
    assert fails(stub.GetModelMetadata, request_) == (code, text)


def status_request(name: str = "hpt", **spec: Any) -> Any:
    return get_model_status_pb2.GetModelStatusRequest(model_spec=predict_request(name, **spec).model_spec)


@pytest.mark.parametrize(
    ("spec", "versions"),
    [({}, [2, 1]), ({"version": 1}, [1]), ({"label": "canary"}, [2, 1]), ({"label": "no"}, [2, 1])],
)
def test_status_of_versions(models, spec, versions):
    found = models.GetModelStatus(status_request(**spec), timeout=10).model_version_status
    assert [status.version for status in found] == versions
    assert {status.state for status in found} == {get_model_status_pb2.ModelVersionStatus.AVAILABLE}
    assert {(status.status.error_code, status.status.error_message) for status in found} == {(0, "")}


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        ({"name": "absent"}, CODE.NOT_FOUND, "Could not find any versions of model absent"),
        ({"version": 9}, CODE.NOT_FOUND, "Could not find version 9 of model hpt"),
    ],
)
def test_status_of_what_is_not_there(models, spec, code, text):
    assert fails(models.GetModelStatus, status_request(**spec)) == (code, text)


def test_status_without_a_model_spec(models):
    request = get_model_status_pb2.GetModelStatusRequest()
    assert fails(models.GetModelStatus, request) == (CODE.INVALID_ARGUMENT, "Missing ModelSpec")


@pytest.mark.parametrize("custom", [False, True])
def test_a_reload_takes_lists_only(models, custom):
    request = model_management_pb2.ReloadConfigRequest()
    if custom:
        request.config.custom_model_config.SetInParent()
    assert fails(models.HandleReloadConfigRequest, request) == (
        CODE.INVALID_ARGUMENT,
        "ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported",
    )


def test_a_reload_tells_how_counters_grew(tmp_path: Path):
    saved_models.half_plus_two(tmp_path / "hpt" / "1")
    request = model_management_pb2.ReloadConfigRequest()
    loads = "/tensorflow/cc/saved_model/load_attempt_count"
    request.metric_names.extend([loads, "/no/such/counter"])
    entry = request.config.model_config_list.config.add(name="hpt", model_platform="tensorflow")
    entry.base_path = str(tmp_path / "hpt")
    with running(RunSettings()) as found, found.channel() as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        for more in (1, 0):
            answer = models.HandleReloadConfigRequest(request, timeout=60)
            assert answer.status.error_code == 0
            grown = {metric.name: metric.int64_value_increase for metric in answer.metric}
            assert grown == {loads: more, "/no/such/counter": 0}


def test_a_reload_that_is_off_changes_nothing(tmp_path: Path):
    saved_models.half_plus_two(tmp_path / "hpt" / "1")
    request = model_management_pb2.ReloadConfigRequest()
    entry = request.config.model_config_list.config.add(name="hpt", model_platform="tensorflow")
    entry.base_path = str(tmp_path / "hpt")
    with running(RunSettings(), reload_config=False) as found, found.channel() as channel:
        code, text = fails(
            model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest, request
        )
        assert code == CODE.PERMISSION_DENIED
        assert "must not choose its models" in text
        assert "--allow_reload_config permits it" in text
        assert not found.core.manager.entries


# Health and reflection


@pytest.mark.parametrize("service", ["", "PredictionService", "tensorflow.serving.ModelService"])
def test_health_says_serving(channel, service):
    check = health_pb2_grpc.HealthStub(channel).Check
    answer = check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service(channel):
    check = health_pb2_grpc.HealthStub(channel).Check
    assert fails(check, health_pb2.HealthCheckRequest(service="no"))[0] == CODE.NOT_FOUND


def test_reflection_lists_the_services_and_their_messages(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
    }
    file = database.FindFileContainingSymbol("tensorflow.serving.PredictionService")
    assert [method.name for method in file.service[0].method] == [
        "Classify",
        "Regress",
        "Predict",
        "MultiInference",
        "GetModelMetadata",
    ]
    assert database.FindFileContainingSymbol("tensorflow.serving.PredictRequest").name.endswith(
        "predict.proto"
    )


# Settings that change answers


def test_tensors_as_content_and_checked_method_names(tmp_path: Path):
    saved_models.half_plus_two(tmp_path / "hpt" / "1")
    settings = RunSettings(
        entries=(ModelEntry("hpt", str(tmp_path / "hpt")),), core=Settings(check_method_name=True)
    )
    with running(settings, tensors_as_content=True) as found, found.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        output = stub.Predict(predict_request(x=x(2.0)), timeout=10).outputs["y"]
        assert output.tensor_content == np.float32(3.0).tobytes()
        assert not output.float_val
        assert fails(stub.Predict, predict_request(signature="odd_method", x=x(2.0))) == (
            CODE.INTERNAL,
            "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
            "tensorflow/serving/classify, tensorflow/serving/regress}. Was: tensorflow/serving/odd",
        )
        request = with_examples(classification_pb2.ClassificationRequest(), 1.0, signature="regress_x_to_y")
        assert fails(stub.Classify, request) == (
            CODE.INVALID_ARGUMENT,
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            "Was: tensorflow/serving/regress",
        )
