import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.components.push import publish as publish_module
from headrace.components.push import repository as repository_module
from headrace.components.push.manifest import probe, read_manifest
from headrace.components.push.publish import Bundle, Published, publish, rollback
from headrace.components.push.repository import Repository
from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.data.sums import file_entries

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


def test_all_is_on_disk_before_the_first_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must find nothing visible that is not whole: files with their content, and folders."""
    events: list[tuple[str, int, int]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        events.append(("fsync", found.st_ino, found.st_size))
        real_fsync(descriptor)

    def rename(source: Any, target: Any) -> None:
        real_rename(source, target)
        events.append(("rename", os.stat(target).st_ino, 0))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    large = {"variables/deep/large": b"x" * 100_000, "saved_model.pb": b"graph"}
    sides = bundles() | {"serving": Bundle("float32", large)}
    paths = push(tmp_path, bundles=sides).paths
    renames = [index for index, (kind, _, _) in enumerate(events) if kind == "rename"]
    before = {(ino, size) for _, ino, size in events[: renames[0]]}
    for path in paths.values():
        for entry in (path, *path.rglob("*")):
            found = entry.stat()
            if entry.is_file():  # with all that it holds
                assert (found.st_ino, found.st_size) in before, entry
            assert found.st_ino in {ino for ino, _ in before}, entry
    # Each rename is on disk before the next: lite, then serving.
    assert [events[index][1] for index in renames] == [paths[s].stat().st_ino for s in ("lite", "serving")]
    for index, side in zip(renames, ("lite", "serving"), strict=True):
        after = {ino for _, ino, _ in events[index + 1 : renames[1] if side == "lite" else None]}
        parent = tmp_path / side / "m"
        assert {folder.stat().st_ino for folder in (parent, parent.parent, tmp_path)} <= after


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
    with pytest.raises(EnvironmentProblem, match=r"labels\.json is altered"):
        rollback(tmp_path, "m", 1)
    assert visible(tmp_path)["serving"] == ["1", "2"]


@pytest.mark.parametrize("name", ["", ".m", "a/b", ".."])
def test_a_model_name_is_one_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be one folder name"):
        Repository(tmp_path, name)
