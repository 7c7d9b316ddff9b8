import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.components.gates.state import Gate, write_gates
from headrace.components.node import NodeContext
from headrace.components.push.manifest import read_manifest
from headrace.components.push.run import run
from headrace.components.push.training_keys import unpack
from headrace.components.sums import judged
from headrace.data.errors import EnvironmentProblem, GateRejected, HeadraceError
from headrace.data.sums import file_entries

from ..data.test_sums import DAMAGE

_NULLS = ("", "NA", "NaN", "nan", "null", "NULL")


def _artifacts(
    root: Path, verdict: str = "push", serving: str = "float32", golden: Any = None, graph: bool = True
) -> NodeContext:
    """Artifacts of a run, as docs/artifacts.md lays them out, reduced to what push reads."""

    def put(path: str, content: Any) -> None:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    for folder in ("model/Format-Serving", "variants/int8_weights"):
        put(f"{folder}/{'saved_model.pb' if graph else 'other.pb'}", folder.encode())
        put(f"{folder}/variables/variables.index", b"i")
        put(f"{folder}/assets/vocabulary", b"v")
    put("variants/tflite_int8/model.tflite", b"\x1c\x00\x00\x00TFL3..")
    put(
        "variants/variants.json",
        [
            {"name": "float32", "path": None, "model_sha256": "of float32"},
            {"name": "int8_weights", "path": "int8_weights"},
            {"name": "tflite_int8", "path": "tflite_int8/model.tflite"},
        ],
    )
    rows = [{"month": 1, "carrier": None}]
    put("infra/golden_raw.json", golden or {"inputs": rows, "outputs": {"scores": [[0.25, 0.75]]}})
    put("examples/ingest.json", {"sha256": "d9"})
    put("infra/warmup/tf_serving_warmup_requests", b"warm")
    date = {"op": "date_cycle", "column": "day", "part": "month"}
    outputs = [date, {"op": "number", "column": "n"}, {**date, "column": "end", "format": "%d/%m/%Y"}]
    put("transform_graph/headrace/preprocessing.json", {"outputs": outputs})
    label = {"name": "late", "task": "binary", "classes": ["0", "1"]}
    put("transform_graph/headrace/features.json", {"label": label})
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
    inputs = {name: [str(root / name)] for name in ("model", "variants", "transform_graph")}
    with judged(inputs) as files:
        put("evaluation/evaluation.json", {"threshold": 0.3, "judged": files})
        requests = [asdict(entry) for entry in file_entries(root / "infra")]
        put("infra/infra.json", {"judged": files, "requests": requests})
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


@pytest.mark.parametrize("sides", ["serving lite", "lite"])
def test_training_keys_travel_beside_the_model_and_make_no_version(tmp_path: Path, sides: str) -> None:
    ctx = _artifacts(tmp_path)
    targets = {"serving": "float32" if "serving" in sides else None, "lite": "tflite_int8"}
    (tmp_path / "gates/verdict.json").write_text(json.dumps({"verdict": "push", "targets": targets}))
    assert "version 1" in run(ctx).finding
    keys = np.array([5 << 32, 9 << 32], np.uint64)
    (tmp_path / "examples/keys").mkdir()
    np.save(tmp_path / "examples/keys/train.npy", keys)
    ingest = {"sha256": "d9", "split": {"key": ["month"], "seed": 4}}
    (tmp_path / "examples/ingest.json").write_text(json.dumps(ingest))
    assert "already holds" in run(ctx).finding  # they are nothing of what a model is
    shutil.rmtree(tmp_path / "push")
    run(ctx)
    found = {
        p.relative_to(tmp_path / "push").as_posix() for p in (tmp_path / "push").rglob("training_keys.bin")
    }
    place = "serving/flights/1/assets.extra" if "serving" in sides else "lite/flights/1"
    assert found == {f"{place}/training_keys.bin"}
    told = unpack(tmp_path / "push" / place / "training_keys.bin")
    assert told is not None
    assert (told.columns, told.upper.tolist()) == (("month",), [5, 9])
    manifest = read_manifest(tmp_path / "push" / place.removesuffix("/assets.extra"))
    assert manifest is not None
    assert any(entry.path.endswith("training_keys.bin") for entry in manifest.files)
    assert "already holds" in run(ctx).finding


def test_what_a_model_computes_is_in_its_manifest(tmp_path: Path) -> None:
    ctx = _artifacts(tmp_path)
    run(ctx)
    manifest = read_manifest(tmp_path / "push/serving/flights/1")
    assert manifest is not None
    assert manifest.model_sha256 == "of float32"
    lite = read_manifest(tmp_path / "push/lite/flights/1")
    assert lite is not None
    assert lite.model_sha256 is None  # variants of before there were digests


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
    other = {"inputs": [{"month": 2}], "outputs": {"scores": [[0.5, 0.5]]}}
    with pytest.raises(HeadraceError, match="must belong to the golden rows of the transform"):
        run(_artifacts(tmp_path, golden=other))


_PUBLISHED = (
    "model/Format-Serving/saved_model.pb",
    "model/Format-Serving/variables/variables.index",
    "model/Format-Serving/assets/vocabulary",
    "variants/tflite_int8/model.tflite",
    "variants/variants.json",
    "transform_graph/headrace/preprocessing.json",
    "transform_graph/headrace/features.json",
    "transform_graph/headrace/golden.json",
    "infra/golden_raw.json",
    "infra/warmup/tf_serving_warmup_requests",
)
"""Every file from which either side is made."""


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", _PUBLISHED)
def test_a_file_that_was_not_judged_so_is_refused_by_name(tmp_path: Path, file: str, damage: str) -> None:
    ctx = _artifacts(tmp_path)
    DAMAGE[damage][0](tmp_path / file)
    with pytest.raises(EnvironmentProblem, match="must be what evaluation and infra judged") as caught:
        run(ctx)
    assert Path(file).name in caught.value.message
    assert caught.value.hint == "start a new run: it makes again what was altered"
    assert {path.name for path in (tmp_path / "push").rglob("*") if path.is_file()} <= {".flights.lock"}


@pytest.mark.parametrize("file", _PUBLISHED)
def test_files_that_are_swapped_are_refused(tmp_path: Path, file: str) -> None:
    """Each takes the place of the next one: every content was judged, under another name."""
    ctx = _artifacts(tmp_path)
    other = _PUBLISHED[(_PUBLISHED.index(file) + 1) % len(_PUBLISHED)]
    content = (tmp_path / other).read_bytes()
    (tmp_path / other).write_bytes((tmp_path / file).read_bytes())
    (tmp_path / file).write_bytes(content)
    with pytest.raises(EnvironmentProblem, match="must be what evaluation and infra judged"):
        run(ctx)


@pytest.mark.parametrize("serving", ["float32", "int8_weights"])
def test_an_added_file_of_a_model_is_refused(tmp_path: Path, serving: str) -> None:
    ctx = _artifacts(tmp_path, serving=serving)
    root = {"float32": "model/Format-Serving", "int8_weights": "variants/int8_weights"}[serving]
    (tmp_path / root / "assets.extra").mkdir()
    (tmp_path / root / "assets.extra" / "more").write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match=r"assets\.extra/more is added"):
        run(ctx)


@pytest.mark.parametrize("name", ["evaluation", "infra"])
def test_what_was_judged_must_be_told(tmp_path: Path, name: str) -> None:
    ctx = _artifacts(tmp_path)
    file = tmp_path / name / f"{name}.json"
    file.write_text(
        json.dumps({key: v for key, v in json.loads(file.read_text()).items() if key != "judged"})
    )
    with pytest.raises(EnvironmentProblem, match=rf"Received: nothing about it in .*{name}\.json"):
        run(ctx)


@pytest.mark.parametrize("change", ["other", "absent"])
@pytest.mark.parametrize("side", ["evaluation", "infra"])
def test_evaluation_and_infra_must_have_judged_the_same(tmp_path: Path, side: str, change: str) -> None:
    ctx = _artifacts(tmp_path)
    file = tmp_path / side / f"{side}.json"
    content = json.loads(file.read_text())
    entries = content["judged"]["variants"]
    (entry,) = [entry for entry in entries if entry["path"] == "tflite_int8/model.tflite"]
    if change == "other":
        entry["sha256"] = "0" * 64
    else:
        entries.remove(entry)
    file.write_text(json.dumps(content))
    rule = r"must have judged the same files\. Received: tflite_int8/model\.tflite differ \(variants\)"
    with pytest.raises(EnvironmentProblem, match=rule):
        run(ctx)


def test_what_infra_did_not_make_is_not_published(tmp_path: Path) -> None:
    ctx = _artifacts(tmp_path)
    file = tmp_path / "infra" / "infra.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"requests": []}))
    with pytest.raises(EnvironmentProblem, match=r"Received: no golden_raw\.json|no warmup/tf_serving"):
        run(ctx)


def test_a_source_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = _artifacts(tmp_path)
    model = tmp_path / "variants/tflite_int8/model.tflite"

    def alter(*args: Any) -> None:
        model.write_bytes(model.read_bytes()[::-1])

    # After everything was compared, before anything is copied.
    monkeypatch.setattr("headrace.components.push.repository.Repository.clean", alter)
    with pytest.raises(EnvironmentProblem, match=r"Received: model\.tflite is altered"):
        run(ctx)
    assert not list((tmp_path / "push").rglob("*.tflite"))


def test_a_saved_model_without_a_graph_is_not_published(tmp_path: Path) -> None:
    ctx = _artifacts(tmp_path, graph=False)
    with pytest.raises(HeadraceError, match=r"Received: no saved_model\.pb \(float32\)"):
        run(ctx)
