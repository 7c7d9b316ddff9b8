"""Predict over REST: rows and columns, types, binary values and outputs, by 2.20.0's `json_tensor_test`."""

import base64
import json
import math

import numpy as np
import pytest

LARGEST = {"float32": np.finfo(np.float32).max, "float64": np.finfo(np.float64).max}
BOUNDS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
NAMES = {"float32": "float", "float64": "double"}
DOCUMENTED = [
    {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
    {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
]


def echo(rest, dtype: str, value: str, form: str = "instances"):
    """What the echo of a type answers to a value written in JSON."""
    reply = rest.predict("mirror", f'{{"signature_name": "{dtype}", "{form}": {value}}}')
    if reply.status != 200:
        return reply.status, reply.error
    return reply.json["predictions" if form == "instances" else "outputs"]


def refusal(rest, signature: str, body: str) -> str:
    reply = rest.predict("mirror", f'{{"signature_name": "{signature}", {body}}}')
    assert reply.status == 400
    return reply.error


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1.0, 2.0], [3.0, 4.0]]},
        {"signature_name": "serving_default", "instances": [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}]},
        {"signature_name": "", "instances": [[1, 2], [3, 4]]},
        {"instances": [[1.0, 2], [3, 4.0]], "ignored": {"other": [None]}},
    ],
)
def test_rows_are_answered_by_rows(rest, body):
    assert rest.predict("mirror", body).json == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ({"x": [1.0, 2.0]}, [1.0, 2.0]),
        ({"x": [[1], [2]], "unknown": "is left out"}, [[1.0], [2.0]]),
        (3.5, 3.5),
        ({"x": 3.5}, 3.5),
        ([], []),
        ([[], []], [[], []]),
    ],
)
def test_columns_are_answered_by_columns(rest, value, answer):
    reply = rest.predict("mirror", {"inputs": value})
    assert (reply.status, reply.json) == (200, {"outputs": answer})


def test_the_manuals_named_inputs_by_rows_and_by_columns(rest):
    answer = [{"tag": "foo", "total": 15.0, "trace": 5}, {"tag": "bar", "total": 15.0, "trace": 12}]
    reply = rest.predict("mirror", {"signature_name": "named", "instances": DOCUMENTED})
    assert reply.json == {"predictions": answer}
    columns = {name: [row[name] for row in DOCUMENTED] for name in DOCUMENTED[0]}
    reply = rest.predict("mirror", {"signature_name": "named", "inputs": columns})
    assert reply.json == {"outputs": {name: [row[name] for row in answer] for name in answer[0]}}


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_whole_numbers_come_back_whole(rest, dtype):
    if dtype == "uint16":  # upstream has no such conversion
        assert echo(rest, dtype, "[1, 2]")[0] == 400
    else:
        assert [type(value) for value in echo(rest, dtype, "[1, 2]")] == [int, int]
        assert echo(rest, dtype, "[[0, 3], [127, 5]]") == [[0, 3], [127, 5]]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_whole_numbers_up_to_the_bounds_of_their_type(rest, dtype):
    low, high = BOUNDS[dtype]
    assert echo(rest, dtype, f"[{low}, {high}]") == [low, high]
    for beyond in (low - 1, high + 1):
        found = echo(rest, dtype, f"[{beyond}]")
        assert found[0] == 400
        assert found[1].endswith(f"Type: Number is not of expected type: {dtype}")


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32", "uint64"])
@pytest.mark.parametrize(
    ("value", "shown", "kind"),
    [
        ("1.0", "1.0", "Number"),
        ('"1"', '"1"', "String"),
        ("true", "true", "True"),
        ("null", "null", "Null"),
        ("NaN", "NaN", "Number"),
        ('{"b64": "aGVsbG8="}', '{\n    "b64": "aGVsbG8="\n}', "Object"),
    ],
)
def test_a_whole_number_must_be_one(rest, dtype, value, shown, kind):
    status, text = echo(rest, dtype, f"[[1], [{value}]]")
    assert status == 400
    assert text == (
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype}"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decimals_whole_numbers_and_tokens_mix_in_a_float_tensor(rest, dtype):
    kind = np.float32 if dtype == "float32" else np.float64
    text = "[1, 2.0, 3, 5.003, 0.007, 0.0, -1.5e-3, 1E2]"
    assert np.asarray(echo(rest, dtype, text), kind).tolist() == np.asarray(json.loads(text), kind).tolist()
    found = echo(rest, dtype, "[NaN, Infinity, -Infinity, 3, Inf, -Inf]")
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, 3.0, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("dtype", "value", "found"),
    [
        ("float32", "1.7976931348623157e308", math.inf),
        ("float32", "-3.5e38", -math.inf),
        ("float32", "3.4028235e38", 3.4028235e38),
        ("float32", "16777215", 16777215.0),
        ("float32", "16777217", 16777216.0),
        ("float32", "-16777219", -16777220.0),
        ("float32", "18446744073709551616", 1.8446744e19),
        ("float64", "9007199254740993", 9007199254740992.0),
        ("float64", "18446744073709551615", 18446744073709551616.0),
        ("float64", "-9007199254740991", -9007199254740991.0),
        ("float64", "1.7e308", 1.7e308),
    ],
)
def test_a_float_takes_every_number_rounded_or_infinite(rest, dtype, value, found):
    """TensorFlow Serving before 2.5 refused those that lost precision."""
    for form in ("instances", "inputs"):
        assert echo(rest, dtype, f"[{value}]", form) == [found]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", ['"x"', "true", "null", '{"b64": "aGVsbG8="}'])
def test_a_float_must_be_a_number(rest, dtype, value):
    for form in ("instances", "inputs"):
        status, text = echo(rest, dtype, f"[{value}]", form)
        assert status == 400
        assert text.endswith(f"is not of expected type: {NAMES[dtype]}")


@pytest.mark.parametrize(("value", "wanted"), [("[true, false]", [True, False]), ("[[true]]", [[True]])])
def test_truth_values(rest, value, wanted):
    assert echo(rest, "bool", value) == wanted


@pytest.mark.parametrize("value", ["0", "1.0", '"true"', "null"])
def test_a_truth_value_must_be_one(rest, value):
    status, text = echo(rest, "bool", f"[{value}]")
    assert (status, text.endswith("is not of expected type: bool")) == (400, True)


@pytest.mark.parametrize("dtype", ["float16", "complex64", "uint16"])
def test_types_without_a_conversion(rest, dtype):
    reply = rest.predict("mirror", {"signature_name": dtype, "inputs": [1.5]})
    assert (reply.status, reply.error) == (
        501,
        f"Conversion of JSON Value: 1.5 to type: {'half' if dtype == 'float16' else dtype}",
    )
    reply = rest.predict("mirror", {"signature_name": dtype, "instances": [1]})
    assert reply.status == 400
    assert "Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: " in reply.error


@pytest.mark.parametrize(
    "text", ["", "plain", "ünïcödé 漢字 🙂", 'quotes " and \\ and /', "tab\tline\nnul\x00", "\u2028\x7f"]
)
def test_texts_come_back_the_same(rest, text):
    body = {"signature_name": "string", "instances": [text, [text]][:1]}
    for ascii_only in (True, False):
        reply = rest.predict("mirror", json.dumps(body, ensure_ascii=ascii_only))
        assert reply.json == {"predictions": [text]}


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ('[{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]', ["hello", "world"]),
        ('[[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]', [["hello"], ["world"]]),
        ('[{"x": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}]', [[["hello"], ["world"]]]),
        ('[{"x": {"b64": "aGVsbG8="}}, {"x": "plain"}]', ["hello", "plain"]),
        ('["plain", {"b64": "aGVsbG8"}]', ["plain", "hello"]),
        ('[{"b64": ""}]', [""]),
    ],
)
def test_base64_values_are_decoded(rest, value, answer):
    assert echo(rest, "string", value) == answer


def test_base64_as_the_whole_of_inputs_is_a_scalar(rest):
    assert echo(rest, "string", '{"b64": "aGVsbG8="}', "inputs") == "hello"
    assert echo(rest, "string", '{"x": {"b64": "aGVsbG8="}}', "inputs") == "hello"


@pytest.mark.parametrize("text", ["!!!!", "aGVsbG8=aGVsbG8=", "a", "YQ=", "aGV sbG8é"])
def test_base64_that_is_none(rest, text):
    assert refusal(rest, "string", f'"instances": [{{"b64": {json.dumps(text)}}}]').endswith(
        "Unable to base64 decode"
    )


@pytest.mark.parametrize("value", ['{"b64": 1}', '{"b64": "aGVsbG8=", "other": 1}', '{"b46": "aGVsbG8="}'])
def test_an_object_that_is_no_base64_value(rest, value):
    text = refusal(rest, "string", f'"instances": [[{value}]]')
    assert text.endswith("not formatted correctly for base64 data")


def test_every_byte_passes_through_binary_names(rest):
    raw = bytes(range(256))
    value = {"b64": base64.b64encode(raw).decode()}
    reply = rest.predict("mirror", {"signature_name": "binary_bytes", "instances": [value, "text"]})
    assert reply.json == {"predictions": [value, {"b64": "dGV4dA=="}]}
    reply = rest.predict("mirror", {"signature_name": "binary_bytes", "inputs": [[value], ["text"]]})
    assert reply.json == {"outputs": [[value], [{"b64": "dGV4dA=="}]]}
    reply = rest.predict("mirror", {"signature_name": "twice", "instances": ["a"]})
    assert reply.json == {"predictions": [{"raw_bytes": {"b64": "YQ=="}, "text": "a"}]}
    reply = rest.predict("mirror", {"signature_name": "number_bytes", "instances": [1]})
    assert reply.json == {"predictions": [1.0]}


def test_bytes_in_a_text_output_are_still_json(rest):
    reply = rest.predict("mirror", {"signature_name": "string", "instances": [{"b64": "/w=="}]})
    assert reply.status == 200
    assert json.loads(reply.body.decode("utf-8")) == {"predictions": ["�"]}


def test_numbers_that_are_not_finite_are_tokens(rest):
    reply = rest.predict("mirror", {"signature_name": "logs", "instances": [1.0, 0.0, -1.0]})
    assert reply.body.replace(b" ", b"") == b'{"predictions":[0.0,-Infinity,NaN]}'


def test_floats_have_no_more_digits_than_they_need(rest):
    body = {"signature_name": "floats", "instances": [0, 0, 0, 0]}
    wanted = [9000000.0, 0.2, 3e-05, 555557.5]
    reply = rest.predict("mirror", body)
    assert reply.json == {"predictions": wanted}
    assert all(isinstance(value, float) for value in reply.json["predictions"])
    mixed = rest.predict("mirror", '{"signature_name": "floats", "instances": [0, NaN, 0, 0]}').json
    assert [mixed["predictions"][at] for at in (0, 2, 3)] == [wanted[at] for at in (0, 2, 3)]


def test_a_named_output_of_one_is_written_without_its_name(rest):
    assert rest.predict("mirror", {"signature_name": "scalar", "inputs": [1, 2]}).json == {"outputs": 3.0}


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        ("scalar", "Tensor name: sum has no shape information "),
        ("uneven", "Tensor name: b has inconsistent batch size: 1 expecting: 2"),
    ],
)
def test_outputs_that_are_no_rows(rest, signature, text):
    reply = rest.predict("mirror", {"signature_name": signature, "instances": [1, 2]})
    assert (reply.status, reply.error) == (400, text)
    assert rest.predict("mirror", {"signature_name": signature, "inputs": [1, 2]}).status == 200


def test_an_answer_without_rows_is_an_empty_list(rest):
    for form, key in (("instances", "predictions"), ("inputs", "outputs")):
        reply = rest.predict("mirror", {"signature_name": "empty", form: [1, 2]})
        assert (reply.status, reply.json) == (200, {key: []})


def test_rows_with_as_many_dimensions_as_there_may_be(rest):
    def nested(levels: int) -> str:
        return "[" * levels + "1" + "]" * levels

    reply = rest.predict("mirror", f'{{"instances": [{nested(32)}]}}')
    assert (reply.status, reply.error) == (400, "a tensor must have at most 32 dimensions. Received: more")


def test_a_shape_that_the_graph_cannot_work_with_is_a_bad_request(rest):
    body = {"signature_name": "pairs", "instances": [[1, 2], [3, 4]]}
    assert rest.predict("mirror", body).json == {"predictions": [[21.0], [43.0]]}
    reply = rest.predict("mirror", {"signature_name": "pairs", "instances": [[1, 2, 3]]})
    assert reply.status == 400
    assert "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]" in reply.error
