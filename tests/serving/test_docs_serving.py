"""The examples of docs/serving.md, run against a stand-in for the flights model."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from headrace.components.models.output import Output
from headrace.components.quantization.lite import convert_float
from headrace.components.training.signatures import save_module, transformed_module
from tests.serving.client_models import Served, serving

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBERS = ("hour", "minute", "sched_dep_time", "sched_arr_time", "distance", "flight", "month", "day")
TEXTS = ("carrier", "origin", "dest", "tailnum")
LABELS = {"name": "late", "task": "binary", "classes": ["0", "1"], "threshold": 0.3}


@dataclass(frozen=True)
class Example:
    """A block of the page, and what it says that it prints."""

    kind: str
    code: str
    output: str | None


EXAMPLES = [
    Example(kind, code, output or None)
    for kind, code, output in BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    if kind in ("sh", "js", "python")
]


def _serving_model(path: Path) -> None:
    """Write a SavedModel with the columns of flights."""
    module = tf.Module()
    spec = {name: tf.TensorSpec([None], tf.float32, name=name) for name in NUMBERS}
    spec |= {name: tf.TensorSpec([None], tf.string, name=name) for name in TEXTS}

    @tf.function(input_signature=[spec])
    def raw(columns: dict[str, Any]) -> dict[str, Any]:
        late = tf.where(tf.math.is_nan(columns["distance"]), 0.75, columns["distance"] / 4096)
        classes = tf.tile(tf.constant([["0", "1"]]), [tf.shape(late)[0], 1])
        return {"scores": tf.stack([1 - late, late], axis=1), "classes": classes}

    tf.saved_model.save(module, str(path), signatures={"serving_raw": raw})
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "labels.json").write_text(json.dumps(LABELS))


def _lite_bundle(path: Path, scratch: Path) -> None:
    """Write a bundle with the same columns, of which it reads one."""
    features = {"features": [{"name": "distance", "role": "dense", "width": 1}]}
    module = transformed_module(lambda x: x["distance"] / 8, features, Output("binary"), [])
    save_module(module, str(scratch))
    path.mkdir(parents=True)
    (path / "model.tflite").write_bytes(convert_float(str(scratch)))
    columns = [{"name": name, "type": "int"} for name in NUMBERS]
    columns += [{"name": name, "type": "string"} for name in TEXTS]
    number = {"name": "distance", "op": "number", "column": "distance", "impute": 700.0}
    number |= {"log": False, "clip": None, "subtract": 1000.0, "divide": 500.0}
    sidecar = {
        "schema_version": 1,
        "hash": {"function": "siphash-2-4", "key": [1, 2]},
        "joiner": "|",
        "columns": columns,
        "outputs": [number],
    }
    (path / "preprocessing.json").write_text(json.dumps(sidecar))
    (path / "labels.json").write_text(json.dumps(LABELS))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Both sides of a push in one folder, the serving side served."""
    root = tmp_path_factory.mktemp("reader")
    _serving_model(root / "push" / "serving" / "flights" / "1")
    _lite_bundle(root / "push" / "lite" / "flights" / "1", root / "scratch")
    with serving(root / "push" / "serving", ("flights",), metrics=lambda: "metrics\n") as found:
        yield found


def _run(example: Example, served: Served) -> str:
    doors = served.running.server.doors
    code = example.code.replace(":8500", f":{doors[0].port}").replace(":8501", f":{doors[1].port}")
    command = {
        "sh": ["bash", "-euo", "pipefail", "-c", code],
        "js": ["node", "--input-type=module", "-e", code],
        "python": [sys.executable, "-c", code],
    }[example.kind]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        cwd=served.root.parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _shape(text: str) -> list[str]:
    """Return the words of an output with every number made equal, LiteRT's notices left out."""
    lines = [line for line in text.splitlines() if not line.startswith("INFO: ")]
    return re.sub(r"-?\d[\d,]*(\.\d+)?(e-?\d+)?", "#", " ".join(lines)).split()


@pytest.mark.parametrize("place", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(served: Served, place: int) -> None:
    example = EXAMPLES[place]
    found = _run(example, served)
    if example.output is not None:
        assert _shape(found) == _shape(example.output), found


def test_the_page_has_examples_of_every_kind() -> None:
    assert {example.kind for example in EXAMPLES} == {"sh", "js", "python"}
    assert sum("curl" in example.code for example in EXAMPLES) >= 4
    assert all(example.output for example in EXAMPLES if example.kind != "sh")


def test_flags_on_the_page_are_those_of_the_server() -> None:
    from headrace.serving.server.flags import FLAGS

    known = {flag.name for flag in FLAGS}
    commands = {"check", "labels", "help", "input", "output", "keep", "model", "images"}
    named = set(re.findall(r"--([a-z_]{4,})", PAGE.read_text(encoding="utf-8")))
    assert named - commands <= known


DIFFERENCES = {
    "Address": "test_operating_tls.py::test_tls_at_both_doors",
    "Safety": "test_lifecycle.py::test_a_bad_version_does_not_take_the_good_one_down",
    "Loading": "test_lifecycle.py::test_a_version_that_loads_but_cannot_answer_is_not_served",
    "While a version loads": "test_lifecycle.py::test_what_is_on_its_way_is_unavailable_and_not_absent",
    "Batching": "test_flags.py::test_a_flag_that_means_nothing_here_says_so",
    "Limits": "test_rest_bodies.py::test_unfinished_bodies_share_their_room",
    "Behind the JSON object": "test_rest_errors.py::test_more_behind_the_object_is_refused",
    "Of two equal names": "test_rest_errors.py::test_the_last_of_two_equal_names_counts",
    "Words": "test_rest_errors.py::test_no_error_repeats_more_than_256_bytes_of_a_request",
    "Answers": "test_rest_predict.py::test_bytes_in_a_text_output_are_still_json",
    "Besides": "test_rest_http.py::test_a_request_id_is_echoed_or_made",
    "CPU only": "test_flags.py::test_a_flag_that_means_nothing_here_says_so",
}
"""What differs from TensorFlow Serving -> the test that holds it."""


def test_every_difference_on_the_page_has_its_test() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = page.partition("## What differs from TensorFlow Serving\n")[2]
    assert re.findall(r"(?m)^- \*\*(.+?)\*\*", listed) == list(DIFFERENCES)
    for place in DIFFERENCES.values():
        file, _, test = place.partition("::")
        assert f"\ndef {test}(" in Path(__file__).with_name(file).read_text(encoding="utf-8"), place
