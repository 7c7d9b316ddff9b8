"""Long requests, which are converted in parts: the same tensors and the same faults as value by value."""

import json
from typing import Any

import numpy as np
import pytest

from headrace.serving.server.errors import ServingError
from headrace.serving.server.json_examples import example_messages
from headrace.serving.server.json_tensors import predict_inputs, predict_request
from headrace.serving.server.json_text import quote
from headrace.serving.server.servable import Argument, Method

ROWS = 5000
NUMBERS = {"float32": 1, "int64": 9, "object": 7, "bool": 10}


def method(**inputs: str) -> Method:
    arguments = {
        name: Argument(name, f"{name}:0", NUMBERS[dtype], np.dtype(dtype), None)
        for name, dtype in inputs.items()
    }
    return Method("s", "tensorflow/serving/predict", arguments, {}, {}, None)


def tensors(document: Any, found: Method) -> dict[str, np.ndarray[Any, Any]]:
    return predict_inputs(predict_request(json.dumps(document).encode()), found)[0]


def fault(document: Any, found: Method) -> str:
    with pytest.raises(ServingError) as caught:
        tensors(document, found)
    return caught.value.message


@pytest.mark.parametrize("odd", [float("nan"), float("-inf"), 1e30, 7])
def test_a_rare_value_among_many(odd):
    values = [0.25 * index for index in range(ROWS)]
    values[3000] = odd
    wanted = np.asarray(values, np.float32)
    np.testing.assert_array_equal(tensors({"instances": values}, method(x="float32"))["x"], wanted)
    np.testing.assert_array_equal(tensors({"inputs": values}, method(x="float32"))["x"], wanted)
    pairs = [[value, 1.0] for value in values]
    wanted = np.stack([wanted, np.ones(ROWS, np.float32)], 1)
    np.testing.assert_array_equal(tensors({"inputs": pairs}, method(x="float32"))["x"], wanted)
    rows = [{"x": value, "n": index} for index, value in enumerate(values)]
    found = tensors({"instances": rows}, method(x="float32", n="int64"))
    np.testing.assert_array_equal(found["x"], wanted[:, 0])
    np.testing.assert_array_equal(found["n"], np.arange(ROWS))


def test_texts_and_binary_values_mix():
    values: list[Any] = ["a", {"b64": "YmM="}, "é"] * 1500
    for form in ("instances", "inputs"):
        found = tensors({form: values}, method(x="object"))["x"]
        assert found.tolist() == [b"a", b"bc", "é".encode()] * 1500


@pytest.mark.parametrize("at", [0, 1023, 1024, 2047, 2048, ROWS - 1])
@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("x", 'JSON Value: "x" Type: String is not of expected type: int64'),
        (2**63, "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64"),
        (1.0, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        (True, "JSON Value: true Type: True is not of expected type: int64"),
    ],
)
def test_a_row_of_the_wrong_type_is_named_wherever_it_is(at, row, text):
    rows: list[Any] = [1] * ROWS
    rows[at] = row
    wanted = f"Failed to process element: {at} of 'instances' list. Error: INVALID_ARGUMENT: {text}"
    assert fault({"instances": rows}, method(x="int64")) == wanted
    assert fault({"inputs": rows}, method(x="int64")) == text
    assert fault({"inputs": [[value] for value in rows]}, method(x="int64")) == text
    objects = [{"x": value} for value in rows]
    wanted = wanted.replace(f"element: {at}", f"element: {at} key: x")
    assert fault({"instances": objects}, method(x="int64")) == wanted


@pytest.mark.parametrize("at", [1, 1024, 2048, 4096, ROWS - 1])
def test_a_row_of_another_shape_is_named_wherever_it_is(at):
    rows: list[Any] = [[1, 2]] * ROWS
    start = f"Failed to process element: {at} of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
    rows[at] = [1, 2, 3]
    assert fault({"instances": rows}, method(x="int64")) == start + "tensor size: 2 but got: 3"
    rows[at] = [[1, 2]]
    assert fault({"instances": rows}, method(x="int64")) == start + "shape [2] but got: [1,2]"
    # From here on every part is whole in itself, and does not fit the earlier ones.
    rows[at:] = [[3]] * (ROWS - at)
    assert fault({"instances": rows}, method(x="int64")) == start + "tensor size: 2 but got: 1"


@pytest.mark.parametrize("at", [1, 1024, 3000])
def test_plain_values_and_objects_do_not_mix(at):
    rows: list[Any] = [{"x": 1}] * ROWS
    rows[at:] = [1] * (ROWS - at)
    text = f"Expecting object but got list at item {at} of input list"
    assert fault({"instances": rows}, method(x="int64")) == text
    rows[:] = [1] * at + [{"x": 1}] * (ROWS - at)
    text = f"Expecting value/list but got object at item {at} of input list"
    assert fault({"instances": rows}, method(x="int64")) == text


def test_a_row_with_other_names_is_named():
    rows: list[Any] = [{"x": 1, "n": 2}] * ROWS
    rows[2500] = {"x": 1}
    text = fault({"instances": rows}, method(x="int64", n="int64"))
    assert text.startswith("Failed to process element: 2500 of 'instances' list. JSON object: {")
    assert text.endswith("keys must be equal to: n,x")


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.5, 2.5], "float_list"), ([1, -2], "int64_list"), (["a", "é"], "bytes_list"), ([True], "int64_list")],
)
def test_features_of_one_kind(values, kind):
    document = {"examples": [{"x": values}, {"x": values[0]}]}
    _, (first, second) = example_messages(predict_request(json.dumps(document).encode()))
    wanted = [value.encode() if isinstance(value, str) else value for value in values]
    assert list(getattr(first.features.feature["x"], kind).value) == wanted
    assert list(getattr(second.features.feature["x"], kind).value) == wanted[:1]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 2**63], "Feature: x has uint64_t element. Only int64_t is supported."),
        (["a", 1], "Unexpected element type in feature: x expecting type: bytes"),
    ],
)
def test_a_feature_that_does_not_fit(values, text):
    with pytest.raises(ServingError) as caught:
        example_messages(predict_request(json.dumps({"examples": [{"x": values}]}).encode()))
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2.5, "a"], '[1, 2.5, "a"]'),
        ([], "[]"),
        ({}, "{}"),
        ({"a": [1, []], "b": {"c": None}}, '{\n    "a": [1, []],\n    "b": {\n        "c": null\n    }\n}'),
        ([{"a": True}, {}], '[{\n        "a": true\n    }, {}]'),
        ('\udcff\u00e9"', '"?\u00e9\\""'),
        (float("nan"), "NaN"),
        (1.0, "1.0"),
        ("x" * 300, '"' + "x" * 255),
        ({"k" * 300: 1}, '{\n    "' + "k" * 249),
        ("\u00e9" * 300, '"' + "\u00e9" * 127),
    ],
)
def test_values_are_quoted_as_rapidjson_writes_them(value, text):
    """PrettyWriter with kFormatSingleLineArray; cut at 256 bytes, never within a character."""
    assert quote(value) == text


def test_a_deep_value_is_quoted_as_far_as_it_is_shown():
    value: Any = []
    for _ in range(900):
        value = [value]
    assert quote(value) == "[" * 256
