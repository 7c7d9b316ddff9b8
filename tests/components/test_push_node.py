import json
from pathlib import Path
from typing import Any

import pytest

from headrace.components.gates.state import Gate, write_gates
from headrace.components.node import NodeContext
from headrace.components.push.manifest import read_manifest
from headrace.components.push.run import run
from headrace.data.errors import GateRejected, HeadraceError
from headrace.data.sums import file_entries

_NULLS = ("", "NA", "NaN", "nan", "null", "NULL")


def _artifacts(root: Path, verdict: str = "push", serving: str = "float32") -> NodeContext:
    """Artifacts of a run, as docs/artifacts.md lays them out, reduced to what push reads."""

    def put(path: str, content: Any) -> None:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    for folder in ("model/Format-Serving", "variants/int8_weights"):
        put(f"{folder}/saved_model.pb", folder.encode())
        put(f"{folder}/variables/variables.index", b"i")
        put(f"{folder}/assets/vocabulary", b"v")
    put("variants/tflite_int8/model.tflite", b"\x1c\x00\x00\x00TFL3..")
    put(
        "variants/variants.json",
        [
            {"name": "float32", "path": None},
            {"name": "int8_weights", "path": "int8_weights"},
            {"name": "tflite_int8", "path": "tflite_int8/model.tflite"},
        ],
    )
    rows = [{"month": 1, "carrier": None}]
    put("infra/golden_raw.json", {"inputs": rows, "outputs": {"scores": [[0.25, 0.75]]}})
    put("examples/ingest.json", {"sha256": "d9"})
    put("infra/warmup/tf_serving_warmup_requests", b"warm")
    date = {"op": "date_cycle", "column": "day", "part": "month"}
    outputs = [date, {"op": "number", "column": "n"}, {**date, "column": "end", "format": "%d/%m/%Y"}]
    put("transform_graph/headrace/preprocessing.json", {"outputs": outputs})
    label = {"name": "late", "task": "binary", "classes": ["0", "1"]}
    put("transform_graph/headrace/features.json", {"label": label})
    put("evaluation/evaluation.json", {"threshold": 0.3})
    put("transform_graph/headrace/golden.json", {"inputs": rows, "transformed": {"month": [[1.0]]}})
    put(
        "gates/verdict.json",
        {"verdict": verdict, "blocking": [], "targets": {"serving": serving, "lite": "tflite_int8"}},
    )
    write_gates(
        root / "gates/gates.json",
        [
            Gate("data", "anomalies", "PASS", "none."),
            Gate("quality", "auc", "PASS", "good.", "float32"),
            Gate("cost", "size_bytes", "PASS", "small.", "tflite_int8"),
        ],
    )
    names = ("examples", "gates", "evaluation", "model", "variants", "infra", "transform_graph")
    config = {
        "push": {"serving": serving},
        "name": "flights",
        "output.push": str(root / "push"),
        "identity": "i9",
        "data.csv": {"delimiter": ",", "encoding": "utf-8", "null_values": list(_NULLS)},
    }
    return NodeContext(
        "push", "r9", {n: [str(root / n)] for n in names}, {"pushed": str(root / "pushed")}, config, str(root)
    )


@pytest.mark.parametrize(
    ("serving", "folder"), [("float32", "model/Format-Serving"), ("int8_weights", "variants/int8_weights")]
)
def test_the_node_publishes_the_layout_of_the_design(tmp_path: Path, serving: str, folder: str) -> None:
    result = run(_artifacts(tmp_path, serving=serving))
    root = tmp_path / "push/serving/flights/1"
    assert sorted(e.path for e in file_entries(root, {"manifest.json"})) == [
        "assets.extra/headrace_golden.json",
        "assets.extra/labels.json",
        "assets.extra/tf_serving_warmup_requests",
        "assets/vocabulary",
        "saved_model.pb",
        "variables/variables.index",
    ]
    assert (root / "saved_model.pb").read_text() == folder
    lite = tmp_path / "push/lite/flights/1"
    assert sorted(e.path for e in file_entries(lite, {"manifest.json"})) == [
        "golden.json",
        "labels.json",
        "model.tflite",
        "preprocessing.json",
    ]
    assert json.loads((lite / "golden.json").read_text()) == {
        "inputs": [{"month": 1, "carrier": None}],
        "transformed": {"month": [[1.0]]},
        "outputs": {"scores": [[0.25, 0.75]]},
    }
    dates = {"day": "", "end": "%d/%m/%Y"}
    told = {"name": "late", "task": "binary", "classes": ["0", "1"], "threshold": 0.3, "dates": dates}
    assert json.loads((lite / "labels.json").read_text()) == told
    assert json.loads((root / "assets.extra/labels.json").read_text()) == told
    manifest = read_manifest(root)
    assert manifest is not None
    # printf 'i9\nd9' | sha256sum
    content_id = "f8dd42360026e847c6e1503e68fffa3ac1905daae9b1e1fbbb7eb78f41a483b9"
    assert (manifest.run_id, manifest.content_id) == ("r9", content_id)
    assert [gate["metric"] for gate in manifest.gates] == ["anomalies", "auc"]
    pushed = json.loads((tmp_path / "pushed/pushed.json").read_text())
    assert pushed == {
        "version": 1,
        "serving": {"variant": serving, "path": str(root)},
        "lite": {"variant": "tflite_int8", "path": str(lite)},
        "created": True,
    }
    assert result.finding == f"flights version 1 (lite: tflite_int8, serving: {serving})"
    assert result.properties["pushed"]["pushed_version"] == "1"


def test_the_node_run_again_creates_nothing(tmp_path: Path) -> None:
    ctx = _artifacts(tmp_path)
    run(ctx)
    assert run(ctx).finding.startswith("flights version 1 already holds this content")
    assert json.loads((tmp_path / "pushed/pushed.json").read_text())["created"] is False


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"null_values": ["", "?"]}, {"null_values": ["", "?"]}),
        ({"delimiter": ";", "encoding": "latin-1"}, {"delimiter": ";", "encoding": "latin-1"}),
        ({"null_values": list(_NULLS)}, None),
    ],
)
def test_clients_are_told_how_the_text_of_the_data_was_read(tmp_path: Path, given: Any, told: Any) -> None:
    ctx = _artifacts(tmp_path)
    ctx.config["data.csv"].update(given)
    run(ctx)
    for path in ("serving/flights/1/assets.extra", "lite/flights/1"):
        label = json.loads((tmp_path / "push" / path / "labels.json").read_text())
        assert label.get("csv") == told
        assert set(label) - {"csv"} == {"name", "task", "classes", "threshold", "dates"}


def test_the_node_publishes_nothing_without_the_verdict(tmp_path: Path) -> None:
    with pytest.raises(GateRejected, match="only a model with the verdict push"):
        run(_artifacts(tmp_path, verdict="reject"))
    assert not (tmp_path / "push").exists()


def test_golden_outputs_of_other_rows_are_refused(tmp_path: Path) -> None:
    ctx = _artifacts(tmp_path)
    other = {"inputs": [{"month": 2}], "outputs": {"scores": [[0.5, 0.5]]}}
    (tmp_path / "infra/golden_raw.json").write_text(json.dumps(other))
    with pytest.raises(HeadraceError, match="must belong to the golden rows of the transform"):
        run(ctx)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    ctx = _artifacts(tmp_path)
    (tmp_path / "infra/warmup/tf_serving_warmup_requests").unlink()
    with pytest.raises(HeadraceError, match="Received: no tf_serving_warmup_requests"):
        run(ctx)
