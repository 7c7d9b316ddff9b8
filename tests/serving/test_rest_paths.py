"""Paths, methods, status and metadata of the REST API, by upstream's manual and tests."""

import pytest

AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
STATUS = {"model_version_status": [{"version": "123", **AVAILABLE}, {"version": "122", **AVAILABLE}]}


def shown(method: str, path: str) -> str:
    return f"Malformed request: {method} {path}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("POST", "/v1/models"),
        ("GET", "/v1/models/debug/model_name"),
        ("GET", "/v1/models/foo:predict"),
        ("GET", "/v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/version/50:regress"),
        ("POST", "/v1/models/foo/versions/HELLO:regress"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/label/some_label:regress"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress"),
        ("POST", "/v1/models/foo/versions/some_label:regress"),
        ("POST", "/v1/models/half"),
        ("POST", "/v1/models/half:explain"),
        ("POST", "/v1/models/half:PREDICT"),
        ("POST", "/v1/models/half:predict/"),
        ("POST", "/v1/models/half/versions/-1:predict"),
        ("POST", "/v1/models/half/versions/:predict"),
        ("POST", "/v1/models/:predict"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/half/"),
        ("GET", "/v1/models/half/versions/abc"),
        ("GET", "/v1/models/half/versions/123/metadata/"),
        ("GET", "/v1/models/half/../half"),
        ("GET", "/v1//models/half"),
        ("GET", "/v1/"),
        ("PUT", "/v1/models/half:predict"),
        ("DELETE", "/v1/models/half"),
        ("PATCH", "/v1/models/half"),
    ],
)
def test_a_path_or_method_that_is_none_of_the_api_is_malformed(rest, method, path):
    reply = rest.call(method, path, b"" if method != "GET" else None)
    assert (reply.status, reply.error) == (400, shown(method, path))
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/", "/index.html", "/statuspage", "/v2/models/half", "/v1", "/etc/passwd"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_outside_of_the_api_is_not_found(rest, method, path):
    reply = rest.call(method, path, b"" if method == "POST" else None)
    assert (reply.status, reply.error) == (404, f"Not Found: {method} {path}")


def test_status_needs_a_name(rest):
    reply = rest.get("/v1/models")
    assert (reply.status, reply.error) == (400, "Missing model name in request.")


def test_status_tells_every_version(rest):
    reply = rest.get("/v1/models/half")
    assert (reply.status, reply.json) == (200, STATUS)
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "version"),
    [("versions/123", "123"), ("versions/0122", "122")],
)
def test_status_of_one_version(rest, path, version):
    reply = rest.get(f"/v1/models/half/{path}")
    assert (reply.status, reply.json) == (200, {"model_version_status": [{"version": version, **AVAILABLE}]})


@pytest.mark.parametrize("label", ["stable", "none"])
def test_status_passes_over_labels(rest, label):
    """As `get_model_status_impl.cc` does: only a number asks for one version."""
    assert rest.get(f"/v1/models/half/labels/{label}").json == STATUS


@pytest.mark.parametrize(
    "path", ["/v1/models/half?verbose=1", "/V1/MODELS/half", "/v1/models/h%61lf", "/v1/models/%68%61%6C%66"]
)
def test_queries_case_and_escapes_do_not_matter(rest, path):
    assert rest.get(path).json == STATUS


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("absent", 404, "Could not find any versions of model absent"),
        ("half/versions/9", 404, "Could not find version 9 of model half"),
        (
            "half/versions/18446744073709551615",
            400,
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("absent/metadata", 404, "Servable not found for request: Latest(absent)"),
        ("half/versions/9/metadata", 404, "Servable not found for request: Specific(half, 9)"),
        ("half/labels/none/metadata", 400, "Unrecognized servable version label: none"),
        ("%2E%2E%2Fhalf", 404, "Could not find any versions of model ../half"),
        ("half%2F..%2Fhalf", 404, "Could not find any versions of model half/../half"),
        ("a%00b", 404, "Could not find any versions of model a\0b"),
        ("%ff", 404, "Could not find any versions of model �"),
        ("ha lf".replace(" ", "%20"), 404, "Could not find any versions of model ha lf"),
    ],
)
def test_status_and_metadata_of_what_is_not_there(rest, path, status, text):
    reply = rest.get(f"/v1/models/{path}")
    assert (reply.status, reply.error) == (status, text)


@pytest.mark.parametrize("method", ["predict", "classify", "regress"])
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("absent", 404, "Servable not found for request: Latest(absent)"),
        ("absent/versions/5", 404, "Servable not found for request: Specific(absent, 5)"),
        ("half99", 404, "Servable not found for request: Latest(half99)"),
        ("half/versions/99", 404, "Servable not found for request: Specific(half, 99)"),
        (
            "half/versions/9223372036854775808",
            400,
            "Failed to convert version: 9223372036854775808 to numeric.",
        ),
        ("half/versions/" + "0" * 5000 + "7", 404, "Servable not found for request: Specific(half, 7)"),
        ("half/versions/" + "9" * 5000, 400, "Failed to convert version: " + "9" * 100),
    ],
)
def test_a_computation_of_what_is_not_there(rest, method, path, status, text):
    body = {"signature_name": "regress_x_to_y", "instances": [1.0], "examples": [{"x": 1.0}]}
    reply = rest.post(f"/v1/models/{path}:{method}", body)
    assert reply.status == status
    assert reply.error.startswith(text)


def test_metadata_is_the_signatures_with_the_names_of_the_messages(rest):
    reply = rest.get("/v1/models/half/metadata")
    assert reply.status == 200
    found = reply.json
    assert found["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {
        "serving_default",
        "regress_x_to_y",
        "regress_x_to_double",
        "classify_x_to_y",
        "odd_method",
    }
    fixed = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
            "unknown_rank": False,
        },
    }
    assert signatures["serving_default"] == {
        "inputs": {"x": {"name": "x:0", **fixed}},
        "outputs": {"y": {"name": "y:0", **fixed}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


@pytest.mark.parametrize(
    ("path", "version"), [("versions/122", "122"), ("labels/stable", "122"), ("versions/123", "123")]
)
def test_metadata_of_one_version(rest, path, version):
    found = rest.get(f"/v1/models/half/{path}/metadata").json
    assert found["model_spec"]["version"] == version


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("half", 3.0),
        ("half/versions/123", 3.0),
        ("half/versions/122", 4.0),
        ("half/labels/stable", 4.0),
        ("half/labels/st%61ble", 4.0),
    ],
)
def test_the_path_chooses_the_version_of_every_computation(rest, path, answer):
    assert rest.predict(path, {"instances": [[2.0]]}).json == {"predictions": [[answer]]}
    found = rest.post(
        f"/v1/models/{path}:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}]}
    )
    assert found.json == {"results": [answer]}
    found = rest.post(
        f"/v1/models/{path}:classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]}
    )
    assert found.json == {"results": [[["", answer]]]}
