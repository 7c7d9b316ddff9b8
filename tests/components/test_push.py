import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.components.gates.state import Gate, write_gates
from headrace.components.node import NodeContext
from headrace.components.push import publish as publish_module
from headrace.components.push import repository as repository_module
from headrace.components.push.manifest import file_entries, probe, read_manifest
from headrace.components.push.publish import Bundle, Published, publish, rollback
from headrace.components.push.repository import Repository
from headrace.components.push.run import run
from headrace.data.errors import ConfigError, EnvironmentProblem, GateRejected, HeadraceError

# A plain fork would copy whatever threads other tests left in this process.
CHILDREN = multiprocessing.get_context("forkserver")


def bundles(text: str = "one") -> dict[Any, Bundle]:
    """A small push to both sides."""
    saved_model = {"saved_model.pb": text.encode(), "variables/variables.index": b"index"}
    tflite = b"\x1c\x00\x00\x00TFL3" + text.encode()
    return {
        "serving": Bundle("float32", saved_model, [{"kind": "data"}]),
        "lite": Bundle("tflite_int8", {"model.tflite": tflite, "labels.json": b"{}"}),
    }


def push(root: Path, text: str = "one", **kwargs: Any) -> Published:
    sides = kwargs.pop("bundles", None) or bundles(text)
    return publish(root, "m", sides, run_id="r1", content_id="c1", **kwargs)


def visible(root: Path) -> dict[str, list[str]]:
    """What servers and devices see: version folders, without hidden names."""
    return {
        side: sorted(p.name for p in (root / side / "m").glob("*") if not p.name.startswith("."))
        for side in ("serving", "lite")
    }


def hidden(root: Path) -> list[str]:
    return [str(p) for p in root.rglob(".staging-*")]


def test_publish_writes_both_sides_under_one_number(tmp_path: Path) -> None:
    published = push(tmp_path)
    assert (published.version, published.created) == (1, True)
    assert visible(tmp_path) == {"serving": ["1"], "lite": ["1"]}
    assert (tmp_path / "serving/m/1/variables/variables.index").read_bytes() == b"index"
    manifest = json.loads((tmp_path / "serving/m/1/manifest.json").read_text())
    assert [f["path"] for f in manifest["files"]] == ["saved_model.pb", "variables/variables.index"]
    # printf one | sha256sum
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert manifest["files"][0] == {"path": "saved_model.pb", "size": 3, "sha256": digest}
    assert {key: manifest[key] for key in ("run_id", "content_id", "variant", "gates")} == {
        "run_id": "r1",
        "content_id": "c1",
        "variant": "float32",
        "gates": [{"kind": "data"}],
    }
    assert manifest["targets"] == {"serving": "float32", "lite": "tflite_int8"}
    assert not hidden(tmp_path)


def test_unchanged_content_creates_no_version(tmp_path: Path) -> None:
    push(tmp_path)
    before = file_entries(tmp_path)
    again = push(tmp_path)
    assert (again.version, again.created) == (1, False)
    assert again.paths["serving"] == tmp_path / "serving/m/1"
    assert file_entries(tmp_path) == before


def test_changed_content_or_variant_or_damage_creates_a_version(tmp_path: Path) -> None:
    push(tmp_path)
    assert push(tmp_path, "two").version == 2
    renamed = bundles("two")
    renamed["serving"] = Bundle("int8_weights", renamed["serving"].files)
    assert push(tmp_path, bundles=renamed).version == 3
    (tmp_path / "serving/m/3/saved_model.pb").write_bytes(b"bad")
    assert push(tmp_path, bundles=renamed).version == 4


def test_dropping_a_side_is_a_change(tmp_path: Path) -> None:
    push(tmp_path)
    only = {"serving": bundles()["serving"]}
    assert push(tmp_path, bundles=only).version == 2
    assert visible(tmp_path) == {"serving": ["1", "2"], "lite": ["1"]}
    assert push(tmp_path, bundles=only).created is False


def test_versions_count_both_sides_and_numbers_are_never_reused(tmp_path: Path) -> None:
    (tmp_path / "serving/m/41").mkdir(parents=True)
    (tmp_path / "lite/m/57").mkdir(parents=True)
    (tmp_path / "lite/m/not-a-version").mkdir()
    assert push(tmp_path).version == 58
    for side in ("serving", "lite"):
        for path in (tmp_path / side / "m" / "58").rglob("*"):
            if path.is_file():
                path.unlink()
        os.rename(tmp_path / side / "m" / "58", tmp_path / f"{side}-removed")
    assert push(tmp_path).version == 59


def test_no_target_publishes_nothing(tmp_path: Path) -> None:
    published = publish(tmp_path / "push", "m", {}, run_id="r", content_id=None)
    assert published.to_json() == {"version": 0, "serving": None, "lite": None, "created": False}
    assert not (tmp_path / "push").exists()


def _die_at(root: Path, name: str, nth: int) -> None:
    """In a child process: push, and die the hard way at the nth call of os.`name`."""
    real: Callable[..., Any] = getattr(os, name)
    calls = 0

    def fatal(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os._exit(9)
        return real(*args, **kwargs)

    setattr(os, name, fatal)
    push(root, "two")
    os._exit(0)


def _child(target: Callable[..., None], *args: Any) -> int | None:
    process = CHILDREN.Process(target=target, args=args)
    process.start()
    process.join(30)
    return process.exitcode


@pytest.mark.parametrize("name", ["rename", "fsync"])
def test_a_kill_at_any_step_leaves_only_whole_versions(tmp_path: Path, name: str) -> None:
    # Steps are counted until a push survives, so that none is left out.
    for nth in range(1, 60):
        root = tmp_path / f"{name}-{nth}"
        push(root, "one")
        first = [e for e in file_entries(root) if "/m/1/" in e.path]
        exitcode = _child(_die_at, root, name, nth)
        assert [e for e in file_entries(root) if "/m/1/" in e.path] == first
        seen = visible(root)
        for side, versions in seen.items():
            for version in versions:
                probe(root / side / "m" / version)
        assert set(seen["serving"]) <= set(seen["lite"])
        if exitcode == 0:
            break
        assert exitcode == 9
        orphan = set(seen["lite"]) - set(seen["serving"])
        after = push(root, "three")
        assert visible(root)["serving"] == [*seen["serving"], str(after.version)]
        assert visible(root)["lite"] == visible(root)["serving"]
        assert not orphan or after.version > int(max(orphan))
        assert not hidden(root)
    assert exitcode == 0
    assert nth >= {"rename": 3, "fsync": 12}[name]


@pytest.mark.parametrize("name", ["rename", "fsync"])
@pytest.mark.parametrize("nth", range(1, 16))
def test_an_error_at_any_step_is_taken_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nth: int
) -> None:
    push(tmp_path)
    before = file_entries(tmp_path)
    real: Callable[..., Any] = getattr(os, name)
    calls = 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    caught: EnvironmentProblem | None = None
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        try:
            push(tmp_path, "two")
        except EnvironmentProblem as error:
            caught = error
    if caught is None:
        assert calls < nth
        return
    assert "needs free disk space. Received: No space left on device" in caught.message
    assert caught.exit_code == 1
    assert [e for e in file_entries(tmp_path) if "lock" not in e.path] == [
        e for e in before if "lock" not in e.path
    ]
    assert not hidden(tmp_path)
    assert push(tmp_path, "two").created


def _push_many(root: Path, name: str) -> None:
    for number in range(5):
        push(root, f"{name}{number}")


def test_concurrent_pushes_get_distinct_versions(tmp_path: Path) -> None:
    processes = [CHILDREN.Process(target=_push_many, args=(tmp_path, name)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(map(int, visible(tmp_path)["serving"])) == list(range(1, 11))
    texts = {(tmp_path / f"serving/m/{v}/saved_model.pb").read_text() for v in range(1, 11)}
    assert texts == {f"{name}{number}" for name in "ab" for number in range(5)}


def test_a_held_lock_is_an_error_that_names_it(tmp_path: Path) -> None:
    with (
        Repository(tmp_path, "m").lock(0),
        pytest.raises(
            EnvironmentProblem, match=r"one push at a time.*\.m\.lock was still held .* after 0\.1 s"
        ),
    ):
        push(tmp_path, lock_timeout_s=0.1)
    assert push(tmp_path).created


def test_a_folder_that_cannot_be_made_is_an_environment_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"must take files\. Received: Not a directory"):
        push(tmp_path / "file" / "push")


def test_an_unwritable_folder_is_an_environment_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(repository_module.os, "open", refuse)
    with pytest.raises(EnvironmentProblem, match=r"must be writable\. Received: Permission denied"):
        push(tmp_path)


def test_a_lite_only_version_is_no_orphan(tmp_path: Path) -> None:
    push(tmp_path, bundles={"lite": bundles()["lite"]})
    assert push(tmp_path, "two").version == 2
    assert visible(tmp_path) == {"serving": ["2"], "lite": ["1", "2"]}


def test_old_lite_versions_survive_the_retention_of_serving(tmp_path: Path) -> None:
    for text in ("one", "two"):
        push(tmp_path, text)
    os.rename(tmp_path / "serving/m/1", tmp_path / "archived")
    push(tmp_path, "three")
    assert visible(tmp_path) == {"serving": ["2", "3"], "lite": ["1", "2", "3"]}


def test_content_that_no_server_could_read_is_not_revealed(tmp_path: Path) -> None:
    bad = bundles()
    bad["lite"] = Bundle("tflite_int8", {"model.tflite": b"no flatbuffer"})
    with pytest.raises(EnvironmentProblem, match="must carry the file identifier TFL3"):
        push(tmp_path, bundles=bad)
    bad = {"serving": Bundle("float32", {"weights.h5": b"x"})}
    with pytest.raises(EnvironmentProblem, match=r"a SavedModel must have saved_model\.pb"):
        push(tmp_path, bundles=bad)
    assert visible(tmp_path) == {"serving": [], "lite": []}
    assert not hidden(tmp_path)


def test_a_failing_probe_after_the_rename_withdraws_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = probe

    def damaged(folder: Path) -> Any:
        if not folder.name.startswith(".") and folder.parent.parent.name == "serving":
            (folder / "saved_model.pb").write_bytes(b"torn")
        return real(folder)

    monkeypatch.setattr(publish_module, "probe", damaged)
    with pytest.raises(EnvironmentProblem, match=r"size and sum of the manifest\. Received: saved_model\.pb"):
        push(tmp_path)
    assert visible(tmp_path) == {"serving": [], "lite": []}


@pytest.mark.parametrize("change", ["edit", "add", "remove", "no manifest"])
def test_probe_finds_every_kind_of_damage(tmp_path: Path, change: str) -> None:
    folder = push(tmp_path).paths["serving"]
    probe(folder)
    if change == "edit":
        (folder / "saved_model.pb").write_bytes(b"eno")
    elif change == "add":
        (folder / "extra").write_bytes(b"")
    else:
        (folder / ("variables/variables.index" if change == "remove" else "manifest.json")).unlink()
    with pytest.raises(EnvironmentProblem):
        probe(folder)


def test_rollback_republishes_old_content_as_a_new_version(tmp_path: Path) -> None:
    for text in ("one", "two"):
        push(tmp_path, text)
    back = rollback(tmp_path, "m")
    assert (back.version, back.created) == (3, True)
    for side, name in (("serving", "saved_model.pb"), ("lite", "model.tflite")):
        new, old = tmp_path / side / "m/3" / name, tmp_path / side / "m/1" / name
        assert new.read_bytes() == old.read_bytes()
    manifest = read_manifest(tmp_path / "serving/m/3")
    assert manifest is not None
    assert (manifest.rolled_back_from, manifest.restores, manifest.version) == (2, 1, 3)
    assert manifest.gates == [{"kind": "data"}]
    # Once more goes on from what is served now: the newest other content is version 2's.
    again = rollback(tmp_path, "m")
    assert again.version == 4
    assert (tmp_path / "serving/m/4/saved_model.pb").read_text() == "two"
    assert rollback(tmp_path, "m", 1).version == 5
    assert (tmp_path / "serving/m/5/saved_model.pb").read_text() == "one"


def test_rollback_errors_name_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a rollback needs a published model"):
        rollback(tmp_path / "nowhere", "m")
    assert not (tmp_path / "nowhere").exists()
    push(tmp_path)
    with pytest.raises(ConfigError, match="needs an older version with other content"):
        rollback(tmp_path, "m")
    with pytest.raises(ConfigError, match=r"must name a published version: 1\. Received: 7"):
        rollback(tmp_path, "m", 7)


def test_rollback_refuses_a_damaged_version(tmp_path: Path) -> None:
    push(tmp_path, "one")
    push(tmp_path, "two")
    (tmp_path / "lite/m/1/labels.json").write_text("[]")
    with pytest.raises(EnvironmentProblem, match=r"labels\.json differ"):
        rollback(tmp_path, "m", 1)
    assert visible(tmp_path)["serving"] == ["1", "2"]


@pytest.mark.parametrize("name", ["", ".m", "a/b", ".."])
def test_a_model_name_is_one_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be one folder name"):
        Repository(tmp_path, name)


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
    put("transform_graph/headrace/preprocessing.json", {"features": []})
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
    names = ("examples", "gates", "model", "variants", "infra", "transform_graph")
    config = {
        "push": {"serving": serving},
        "name": "flights",
        "output.push": str(root / "push"),
        "identity": "i9",
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
    assert sorted(e.path for e in file_entries(root)) == [
        "assets.extra/headrace_golden.json",
        "assets.extra/tf_serving_warmup_requests",
        "assets/vocabulary",
        "saved_model.pb",
        "variables/variables.index",
    ]
    assert (root / "saved_model.pb").read_text() == folder
    lite = tmp_path / "push/lite/flights/1"
    assert sorted(e.path for e in file_entries(lite)) == [
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
    assert json.loads((lite / "labels.json").read_text())["classes"] == ["0", "1"]
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
