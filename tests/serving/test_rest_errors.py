"""What the REST door says of requests that are wrong, in upstream's words, and of JSON that is odd."""

import json

import pytest


def refused(rest, body: str | bytes, model: str = "mirror", verb: str = "predict") -> str:
    reply = rest.post(f"/v1/models/{model}:{verb}", body)
    assert reply.status == 400, reply
    assert reply.headers["content-type"] == "application/json"
    return reply.error


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("[1, 2]", "JSON Value: [1, 2] Is not object"),
        ('"instances"', 'JSON Value: "instances" Is not object'),
        ("3", "JSON Value: 3 Is not object"),
        ("null", "JSON Value: null Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"signature_name": 100}', "'signature_name' key must be a string value."),
        ('{"signature_name": ["string"], "instances": [1]}', "'signature_name' key must be a string value."),
        (
            '{"signature_name": "none", "instances": [1]}',
            'Serving signature name: "none" not found in signature def',
        ),
        (
            '{"signature_name": "constant", "instances": [1]}',
            "Failed to get input map for signature: constant",
        ),
        (
            '{"instances": [1], "inputs": [1]}',
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        ('{"instances": 1}', "Expecting 'instances' to be an list/array"),
        ('{"instances": {"x": [1]}}', "Expecting 'instances' to be an list/array"),
        ('{"instances": null}', "Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"inputs": {"y": [1]}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": {}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": null}', "JSON Value: null Type: Null is not of expected type: float"),
        ('{"inputs": "x"}', 'JSON Value: "x" Type: String is not of expected type: float'),
    ],
)
def test_the_body_as_a_whole(rest, body, text):
    found = refused(rest, body)
    assert found.endswith(text)
    assert found.startswith(("JSON ", text))


@pytest.mark.parametrize(
    "body",
    [
        " \n", "instances = [1, 2]", '{"instances": [1,]}', '{"instances": [1', '{"instances": [1]',
        "{instances: [1]}", '{"instances" [1]}', '{"instances": [1.]}', '{"instances": [1e]}',
        '{"instances": [1e400]}', '{"instances": ["a]}', '{"instances": ["\\q"]}', "{'instances': [1]}",
        '{"instances": ["\\ud800"]}', '{"instances": ["\\udcff"]}', '{"instances": ["\\u12"]}',
        '{"instances": ["a\tb"]}', '{"instances": [01]}', '{"instances": [+1]}', '{"instances": [.5]}',
        '{"instances": [nan]}', '{"instances": [INF]}', '{"instances": [Info]}', "{", "\x00", "\ufeff",
        '{"instances": [NaN, ]}', '{"instances": [NaN, 1e400]}', '{"instances": [NaN, "\\ud800"]}',
    ],
)  # fmt: skip
def test_what_is_no_json_says_so(rest, body):
    found = refused(rest, body)
    assert found.startswith("JSON Parse error: ")
    assert len(found) > len("JSON Parse error: ")


@pytest.mark.parametrize("more", [" {}", "X", "\x00", "]", ' "a"', ", 1"])
def test_more_behind_the_object_is_refused(rest, more):
    """TensorFlow Serving stops reading where the object ends."""
    for body in ('{"instances": [1]}', '{"instances": [NaN]}'):
        assert rest.predict("mirror", body).status == 200
        assert refused(rest, body + more).startswith("JSON Parse error: ")


def test_no_error_repeats_more_than_256_bytes_of_a_request(rest):
    secret = "é" * 5000
    bodies = [
        {"instances": [secret]},
        {"instances": [[1, 2], [1, secret]]},
        {"instances": [{"y" * 10: 1, "x": secret}]},
        {"signature_name": 1, "instances": [secret] * 50},
        {"instances": 1, "inputs": {"a": [[secret]]}},
        {"inputs": [[[1], secret]]},
        {"inputs": {"x": {"b64": secret, "c": [1] * 1000}}},
        [secret],
        [[[1] * 10] * 10] * 10,
        {"signature_name": "string", "instances": [{"b64": secret}]},
    ]
    for body in bodies:
        found = refused(rest, json.dumps(body, ensure_ascii=False).encode())
        assert 20 < len(found.encode()) < 256 + 200
    assert refused(rest, json.dumps([1] * 1000)) == f"JSON Value: {('[' + '1, ' * 85)[:256]} Is not object"


@pytest.mark.parametrize(
    ("signature", "rows", "text"),
    [
        (
            "int32",
            "[[1,2],[3,4],[5,6,7]]",
            "2 of 'instances' list. Error: {}Expecting tensor size: 2 but got: 3",
        ),
        (
            "int32",
            "[[1,2],[3,4],[[5,6]]]",
            "2 of 'instances' list. Error: {}Expecting shape [2] but got: [1,2]",
        ),
        ("int32", "[1, [1]]", "1 of 'instances' list. Error: {}Expecting shape [] but got: [1]"),
        (
            "int32",
            '[[1,2],["a","b"]]',
            "1 of 'instances' list. Error: {}JSON Value: \"a\" Type: String is not of expected type: int32",
        ),
        (
            "int32",
            "[[[1,2],[3]]]",
            "0 of 'instances' list. Error: {}Encountered list at unexpected size: 1 at level: 1 "
            "expected size: 2",
        ),
        (
            "int32",
            "[[[1],2]]",
            "0 of 'instances' list. Error: {}JSON Value: 2 found at incorrect level: 2 in the JSON DOM. "
            "Expected at level: 2",
        ),
        (
            "int32",
            "[[1,[2]]]",
            "0 of 'instances' list. Error: {}Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            "int32",
            '[{"y": 1}]',
            "0 key: y of 'instances' list. Error: {}JSON object: does not have named input: y",
        ),
        (
            "named",
            '[{"tag": "a", "signal": [1]}]',
            "0 of 'instances' list. JSON object: "
            '{{\n    "tag": "a",\n    "signal": [1]\n}} '
            "keys must be equal to: sensor,signal,tag",
        ),
        (
            "named",
            '[{"tag": "a", "signal": [1], "sensor": [[1]]}, {"tag": "a", "signal": [[1]], "sensor": [[1]]}]',
            "1 key: signal of 'instances' list. Error: {}Expecting shape [1] but got: [1,1]",
        ),
        (
            "named",
            '[{"tag": "a", "signal": [1], "sensor": [[1]], "more": 1}]',
            "0 key: more of 'instances' list. Error: {}JSON object: does not have named input: more",
        ),
    ],
)
def test_one_row_is_named_with_what_is_wrong(rest, signature, rows, text):
    found = refused(rest, f'{{"signature_name": "{signature}", "instances": {rows}}}')
    assert found == "Failed to process element: " + text.format("INVALID_ARGUMENT: ")


@pytest.mark.parametrize(
    ("signature", "body", "text"),
    [
        (
            "named",
            '"instances": [[1, 2]]',
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map",
        ),
        (
            "named",
            '"inputs": [[1, 2]]',
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            "string",
            '"instances": [{"x": "a"}, ["b"]]',
            "Expecting object but got list at item 1 of input list",
        ),
        (
            "string",
            '"instances": ["a", {"x": "b"}]',
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            "named",
            '"inputs": {"tag": ["a"], "signal": [[1]]}',
            "Missing named input: sensor in 'inputs' object.",
        ),
        (
            "int32",
            '"inputs": [[1, 2], [3]]',
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ("string", '"inputs": [[{"b64": "!"}], ["a", "b"]]', "Unable to base64 decode"),
        ("int32", '"inputs": {"x": [1, "2"]}', 'JSON Value: "2" Type: String is not of expected type: int32'),
    ],
)
def test_rows_and_columns_that_do_not_fit_the_signature(rest, signature, body, text):
    assert refused(rest, f'{{"signature_name": "{signature}", {body}}}') == text


def test_the_body_is_read_before_the_signature_but_after_the_model(rest):
    assert refused(rest, "{", model="absent").startswith("JSON Parse error")
    reply = rest.post("/v1/models/absent:predict", "{}")
    assert (reply.status, reply.error) == (404, "Servable not found for request: Latest(absent)")
    assert "not found in signature def" in refused(rest, '{"signature_name": "none"}')


def test_errors_of_the_graph_keep_their_code_and_text(rest):
    reply = rest.predict("half", {"signature_name": "regress_x_to_y", "instances": ["no example"]})
    assert reply.status == 400
    assert "Could not parse example input, value: 'no example'" in reply.error


def test_a_byte_order_mark_is_skipped(rest):
    body = b'\xef\xbb\xbf{"instances": [1]}'
    assert rest.predict("mirror", body).json == {"predictions": [1.0]}


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n"])
def test_white_space_does_not_matter(rest, space):
    body = space + space.join(["{", '"instances"', ":", "[", "1", ",", "2", "]", "}"]) + space
    assert rest.predict("mirror", body).json == {"predictions": [1.0, 2.0]}


def test_bytes_that_are_no_utf_8_reach_the_model_as_they_are(rest):
    reply = rest.predict("mirror", b'{"signature_name": "binary_bytes", "instances": ["\xff\xfe"]}')
    assert reply.json == {"predictions": [{"b64": "//4="}]}


def test_a_name_that_is_no_utf_8_is_quoted_as_json(rest):
    reply = rest.predict("mirror", b'{"inputs": {"\xff": [1]}, "signature_name": 1}')
    assert reply.status == 400
    assert "'signature_name' key must be a string value." in json.loads(reply.body.decode("utf-8"))["error"]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"instances": [1], "instances": [2]}', {"predictions": [2.0]}),
        ('{"signature_name": "int32", "inputs": {"x": 7}, "inputs": {"x": 8}}', {"outputs": 8}),
        ('{"instances": [{"x": 1, "x": 5}, {"x": 2}]}', {"predictions": [5.0, 2.0]}),
        ('{"instances": [{"x": Infinity, "x": 5}, {"x": 2}]}', {"predictions": [5.0, 2.0]}),
        ('{"inputs": {"x": [1], "x": [5]}}', {"outputs": [5.0]}),
    ],
)
def test_the_last_of_two_equal_names_counts(rest, body, answer):
    """In TensorFlow Serving mostly the first."""
    assert rest.predict("mirror", body).json == answer


def test_the_last_of_two_equal_features_counts(rest):
    body = '{"signature_name": "values", "examples": [{"x": 80.0, "x": 2.0}]}'
    assert rest.post("/v1/models/mirror:regress", body).json == {"results": [2.0]}


@pytest.mark.parametrize("depth", [200, 1000, 100_000])
@pytest.mark.parametrize("ends", [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(rest, depth, ends):
    value = ends[0] * depth + "1" + ends[1] * depth
    for key in ("instances", "inputs", "other"):
        reply = rest.predict("mirror", f'{{"{key}": {value}, "signature_name": "int32"}}')
        assert reply.status == 400
        assert len(reply.body) < 100_000


@pytest.mark.parametrize("digits", [400, 5000, 100_000])
def test_numbers_of_many_digits_are_refused_or_rounded(rest, digits):
    for text in ("9" * digits, "-" + "9" * digits, "0." + "9" * digits, "1e" + "9" * digits):
        reply = rest.predict("mirror", f'{{"signature_name": "float64", "instances": [{text}]}}')
        assert reply.status == (200 if text.startswith("0.") else 400)
    reply = rest.predict("mirror", f'{{"signature_name": "float64", "instances": [NaN, 1{"0" * 200}]}}')
    assert reply.json["predictions"][1] == 1e200


def test_what_is_wrong_is_found_in_a_large_body_too(rest):
    numbers = ", ".join(["1.5"] * 50_000)
    for end in ("x]}", "", '"\\ud800"]}', "1e999]}", "NaN]}x"):
        assert refused(rest, f'{{"instances": [{numbers}, {end}').startswith("JSON Parse error: ")
    assert "element: 50000 of 'instances' list" in refused(rest, f'{{"instances": [{numbers}, "x"]}}')
    body = f'{{"instances": [{numbers}, NaN], "note": "\\ud83d\\ude42 \\\\ud800 Inf -NaN"}}'
    found = rest.predict("mirror", body).json["predictions"]
    assert (len(found), found[0], str(found[-1])) == (50_001, 1.5, "nan")


def test_texts_that_look_like_numbers_stay_texts(rest):
    texts = ["Inf", "-Inf", "-NaN", 'a "Inf" b', "\\Inf", "\\", "Infinity, Inf"]
    body = json.dumps({"signature_name": "string", "instances": texts})[:-1] + ', "note": [-Inf, -NaN, Inf]}'
    assert rest.predict("mirror", body).json == {"predictions": texts}
