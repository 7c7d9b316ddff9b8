"""Classify and regress over REST: examples, their context and what is answered."""

import json
import math

import pytest


def ask(rest, verb: str, signature: str, body: str):
    return rest.post(f"/v1/models/mirror:{verb}", f'{{"signature_name": "{signature}", {body}}}')


@pytest.mark.parametrize(
    ("examples", "answer"),
    [
        ('[{"x": 80.0}]', [80.0]),
        ('[{"x": [80.0]}, {"x": 1.5, "n": 2}]', [80.0, 3.5]),
        ('[{}, {"n": [3]}]', [-1.0, 2.0]),
        ('[{"x": 0.2}, {"n": true}, {"n": [false]}]', [0.2, 0.0, -1.0]),
        ('[{"x": Infinity}, {"x": -Infinity}]', [math.inf, -math.inf]),
        ('[{"x": 1.7976931348623157e308}, {"x": [-1e39]}]', [math.inf, -math.inf]),
        ('[{"unknown": ["a", {"b64": "aGVsbG8="}]}]', [-1.0]),
        ('[{"x": []}]', [-1.0]),
    ],
)
def test_regress_gives_a_number_for_each_example(rest, examples, answer):
    reply = ask(rest, "regress", "values", f'"examples": {examples}')
    assert (reply.status, reply.json) == (200, {"results": answer})
    assert reply.headers["content-type"] == "application/json"


def test_regress_of_a_column_and_of_what_is_no_number(rest):
    found = ask(rest, "regress", "value_column", '"examples": [{"x": NaN}, {"x": 2.5}]').json["results"]
    assert math.isnan(found[0])
    assert found[1] == 2.5


def test_classify_gives_labels_with_scores(rest):
    examples = '"examples": [{"x": 0.5, "n": 7, "s": "cat"}, {"x": 1.25, "s": {"b64": "ZG9n"}}]'
    assert ask(rest, "classify", "scores", examples).json == {
        "results": [[["cat", 0.5], ["7", -0.5]], [["dog", 1.25], ["0", -1.25]]]
    }


def test_classify_without_scores_or_without_labels(rest):
    assert ask(rest, "classify", "labels", '"examples": [{"s": "é"}]').json == {"results": [[["é", 0.0]]]}
    reply = rest.post(
        "/v1/models/half:classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}]}
    )
    assert reply.json == {"results": [[["", 12.0]]]}


def test_classify_writes_scores_that_are_not_finite_as_tokens(rest):
    reply = ask(rest, "classify", "scores", '"examples": [{"x": Infinity, "s": "a"}, {"x": NaN}]')
    assert reply.body.replace(b" ", b"") == (
        b'{"results":[[["a",Infinity],["0",-Infinity]],[["none",NaN],["0",NaN]]]}'
    )


def test_the_context_is_part_of_every_example(rest):
    body = '"context": {"s": "shared", "n": 3}, "examples": [{"x": 1.0}, {"x": 2.0, "n": 4}]'
    assert ask(rest, "regress", "values", body).json == {"results": [4.0, 6.0]}
    found = ask(rest, "classify", "scores", body).json["results"]
    assert [row[0][0] for row in found] == ["shared", "shared"]


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"signature_name": ["hello"], "examples": [{"x": 1.0}]}', "'signature_name' key must be a string"),
        ('{"context": [{"x": 1.0}]}', "Example must be JSON object but got JSON Array"),
        ('{"context": null, "examples": [{}]}', "Example must be JSON object but got JSON Null"),
        ("{}", "When method is classify, key 'examples' is expected and was not found"),
        ('{"instances": [1]}', "When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": {"x": 1.0}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [[{"x": 1.0}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": ["x"]}', "Example must be JSON object but got JSON String"),
        ('{"examples": [{"x": [10, null]}]}', "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [{"x": [10, 10.0]}]}', "Unexpected element type in feature: x expecting type: int64"),
        ('{"examples": [{"x": [1.5, 1]}]}', "Unexpected element type in feature: x expecting type: float"),
        ('{"examples": [{"x": ["a", 1]}]}', "Unexpected element type in feature: x expecting type: bytes"),
        (
            '{"examples": [{"x": ["a", true]}]}',
            "Unexpected element type in feature: x expecting type: bytes",
        ),
        ('{"examples": [{"x": [10, {"test": 10}]}]}', "has element with unexpected JSON type: Object"),
        ('{"examples": [{"x": [[10], 20]}]}', "Feature: x has element with unexpected JSON type: Array"),
        (
            '{"examples": [{"x": [20, 18446744073709551603]}]}',
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
        ('{"examples": [{"x": {"b64": "!"}}]}', "Unable to base64 decode"),
        ("", "JSON Parse error: The document is empty"),
        ("[]", "JSON Value: [] Is not object"),
    ],
)
def test_examples_that_are_none(rest, verb, body, text):
    reply = rest.post(f"/v1/models/mirror:{verb}", body)
    assert reply.status == 400
    assert text in reply.error


@pytest.mark.parametrize(
    ("verb", "signature", "text"),
    [
        ("classify", "none", "No signature was found with the name: none"),
        ("regress", "none", "No signature was found with the name: none"),
        (
            "classify",
            "values",
            'Expected classification signature outputs to contain at least one of "classes"',
        ),
        ("regress", "scores", "Expected one output Tensor."),
        ("regress", "labels", "No regression outputs found in SignatureDef"),
        ("classify", "string", "No classification inputs found in SignatureDef"),
        ("regress", "named", "Expected one input Tensor."),
        ("classify", "named", "Expected one input Tensor."),
    ],
)
def test_signatures_of_another_kind(rest, verb, signature, text):
    reply = ask(rest, verb, signature, '"examples": [{"x": 1.0}]')
    assert reply.status == 400
    assert reply.error.startswith(text)


def test_a_feature_of_the_wrong_type_is_the_graphs_error(rest):
    reply = ask(rest, "regress", "values", '"examples": [{"x": "text"}]')
    assert reply.status == 400
    assert (
        "Key: x, Index: 0.  Data types don't match. Data type: string but expected type: float" in reply.error
    )


def test_names_and_values_may_hold_any_text(rest):
    body = json.dumps({"signature_name": "scores", "examples": [{"s": "漢字\u0000", "ключ": 1, "": 2}]})
    reply = rest.post("/v1/models/mirror:classify", body)
    assert reply.json["results"][0][0][0] == "漢字\u0000"
