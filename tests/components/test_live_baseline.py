"""The baseline is what is live in the push folder, by its manifest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.components.node import NodeContext
from headrace.components.push.baseline import choose, run
from headrace.components.push.publish import Bundle, publish, rollback
from headrace.data.sums import file_entries

TFLITE = b"\x1c\x00\x00\x00TFL3"


def push(
    root: Path, text: str, sha: str | None = "", sides: str = "serving lite", note: bytes = b"{}"
) -> int:
    """Publish a model whose content, and digest, is `text`."""
    sha = text if sha == "" else sha
    serving = {"saved_model.pb": text.encode(), "assets.extra/labels.json": note}
    lite = {"model.tflite": TFLITE + text.encode(), "labels.json": note}
    made: dict[Any, Bundle] = {
        "serving": Bundle("int8_weights", serving, (), sha),
        "lite": Bundle("tflite_int8", lite, (), sha),
    }
    bundles = {side: made[side] for side in made if side in sides}
    return publish(root / "push", "m", bundles, run_id="r", content_id="c").version


def candidate(root: Path, text: str, sha: str | None = "", **changes: Any) -> NodeContext:
    """What the node is given for a candidate that would be pushed to both sides."""
    entries = []
    for name, file in (("int8_weights", "saved_model.pb"), ("tflite_int8", "model.tflite")):
        path = root / "variants" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((TFLITE if name == "tflite_int8" else b"") + text.encode())
        given = name if name == "int8_weights" else f"{name}/{file}"
        entries.append({"name": name, "path": given, "model_sha256": text if sha == "" else sha})
    (root / "variants/variants.json").write_text(json.dumps(entries))
    config = {
        "push.serving": "int8_weights",
        "push.lite": "tflite_int8",
        "push.model_name": None,
        "name": "m",
        "output.push": str(root / "push"),
        **changes,
    }
    inputs = {name: [str(root / name)] for name in ("model", "variants")}
    return NodeContext("baseline", "r", inputs, {"baseline": str(root / "out")}, config, str(root))


def found(ctx: NodeContext) -> tuple[int, str, str]:
    """Run the node as its driver and its executor do; return version, side and what was copied."""
    shutil.rmtree(ctx.outputs["baseline"], ignore_errors=True)
    ctx.config["baseline"] = choose(ctx.config, ctx.input("model"), ctx.input("variants")).to_json()
    result = run(ctx)
    told = json.loads(Path(ctx.outputs["baseline"], "baseline.json").read_text())
    folder = Path(ctx.outputs["baseline"], "model")
    assert folder.exists() == bool(told["version"])
    assert result.doubts == {}
    name = "saved_model.pb" if told["side"] == "serving" else "model.tflite"
    copied = (folder / name).read_bytes().removeprefix(TFLITE).decode() if folder.exists() else told["reason"]
    assert (
        (copied in result.finding) if not told["version"] else f"version {told['version']}" in result.finding
    )
    return told["version"], told["side"], copied


def test_the_newest_version_of_another_model(tmp_path: Path) -> None:
    assert found(candidate(tmp_path, "a")) == (0, "serving", "nothing else was pushed yet")
    push(tmp_path, "a")
    assert found(candidate(tmp_path, "a"))[0] == 0
    assert found(candidate(tmp_path, "b")) == (1, "serving", "a")
    push(tmp_path, "b")
    assert found(candidate(tmp_path, "b")) == (1, "serving", "a")
    assert found(candidate(tmp_path, "c")) == (2, "serving", "b")


def test_another_variant_of_the_same_model_is_another_model(tmp_path: Path) -> None:
    push(tmp_path, "a")
    ctx = candidate(tmp_path, "a", **{"push.serving": "float32"})
    entries = json.loads((tmp_path / "variants/variants.json").read_text())
    entries.append({"name": "float32", "path": None, "model_sha256": "a"})
    (tmp_path / "variants/variants.json").write_text(json.dumps(entries))
    assert found(ctx) == (1, "serving", "a")


def test_after_a_rollback_what_came_back(tmp_path: Path) -> None:
    push(tmp_path, "a")
    push(tmp_path, "b")
    rollback(tmp_path / "push", "m")
    assert found(candidate(tmp_path, "c")) == (3, "serving", "a")
    assert found(candidate(tmp_path, "b")) == (3, "serving", "a")
    assert found(candidate(tmp_path, "a")) == (2, "serving", "b")


def test_of_bundles_alone_the_bundle(tmp_path: Path) -> None:
    push(tmp_path, "a", sides="lite")
    only = {"push.serving": None}
    assert found(candidate(tmp_path, "b", **only)) == (1, "lite", "a")
    assert found(candidate(tmp_path, "a", **only))[0] == 0
    assert found(candidate(tmp_path, "a"))[0] == 1  # with a serving side it would be another version
    push(tmp_path, "old", sha=None, sides="lite")
    assert found(candidate(tmp_path, "b", sha=None, **only)) == (2, "lite", "old")
    assert found(candidate(tmp_path, "old", sha=None, **only))[0] == 1
    # What a killed push left is not live.
    push(tmp_path, "z")
    shutil.rmtree(tmp_path / "push/serving/m/3")
    assert found(candidate(tmp_path, "b", **only))[:2] == (2, "lite")


@pytest.mark.parametrize("sha", [None, ""])
def test_files_decide_where_a_manifest_of_0_1_has_no_digest(tmp_path: Path, sha: str | None) -> None:
    push(tmp_path, "a", sha=None)
    assert found(candidate(tmp_path, "a", sha))[0] == 0
    assert found(candidate(tmp_path, "b", sha)) == (1, "serving", "a")


@pytest.mark.parametrize("damage", ["altered", "missing", "added", "no manifest"])
def test_a_damaged_live_version_is_none_and_named(tmp_path: Path, damage: str) -> None:
    push(tmp_path, "a")
    push(tmp_path, "b")
    folder = tmp_path / "push/serving/m/2"
    if damage == "altered":
        (folder / "saved_model.pb").write_text("B")
    elif damage == "added":
        (folder / "extra.txt").write_text("x")
    else:
        (folder / ("manifest.json" if damage == "no manifest" else "saved_model.pb")).unlink()
    version, _, why = found(candidate(tmp_path, "c"))
    assert version == 0
    assert why.startswith("version 2, which is live, cannot be one: ")
    told = {
        "altered": "saved_model.pb is altered",
        "missing": "saved_model.pb is missing",
        "added": "extra.txt is added",
        "no manifest": "readable manifest.json",
    }
    assert told[damage] in why
    assert str(tmp_path) not in why
    # Of the candidate's own model it would have been none anyway.
    if damage != "no manifest":
        assert found(candidate(tmp_path, "b")) == (1, "serving", "a")


def test_another_model_has_another_baseline(tmp_path: Path) -> None:
    push(tmp_path, "a")
    assert found(candidate(tmp_path, "b", **{"push.model_name": "other"}))[0] == 0
    assert found(candidate(tmp_path, "b", **{"push.model_name": "m", "name": "x"}))[0] == 1


@pytest.mark.parametrize("change", ["altered", "replaced", "gone"])
def test_what_changes_before_it_is_copied_is_no_baseline_and_not_kept(tmp_path: Path, change: str) -> None:
    push(tmp_path, "a")
    ctx = candidate(tmp_path, "b")
    ctx.config["baseline"] = choose(ctx.config, ctx.input("model"), ctx.input("variants")).to_json()
    if change == "altered":
        (tmp_path / "push/serving/m/1/saved_model.pb").write_text("A")
    else:
        shutil.rmtree(tmp_path / "push")
        if change == "replaced":
            push(tmp_path, "z")
    result = run(ctx)
    told = json.loads((tmp_path / "out/baseline.json").read_text())
    assert told["version"] == 0
    assert "version 1, which is live, cannot be one" in told["reason"] == result.doubts["baseline"]


def test_nothing_is_written_into_the_push_folder(tmp_path: Path) -> None:
    found(candidate(tmp_path, "b"))
    assert not (tmp_path / "push").exists()
    push(tmp_path, "a")
    before = file_entries(tmp_path / "push")
    found(candidate(tmp_path, "b"))
    assert file_entries(tmp_path / "push") == before


def test_equal_models_are_one_version_whatever_their_files(tmp_path: Path) -> None:
    assert push(tmp_path, "a", sha="same") == 1
    assert push(tmp_path, "b", sha="same") == 1
    assert push(tmp_path, "b", sha="other") == 2
    assert push(tmp_path, "b", sha="other", note=b'{"threshold": 0.3}') == 3
    with_files_alone = push(tmp_path, "c", sha=None)
    assert with_files_alone == 4
    assert push(tmp_path, "c", sha="new") == 4
    assert push(tmp_path, "d", sha="new") == 5
    # The digest comes back with a rollback.
    assert rollback(tmp_path / "push", "m", 2).version == 6
    assert push(tmp_path, "x", sha="other") == 6
