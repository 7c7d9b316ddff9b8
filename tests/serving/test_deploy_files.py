"""Writing rendered files: whole, and never over somebody's edits."""

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.serving.deploy import files
from headrace.serving.deploy.files import LEDGER, Origin
from headrace.serving.deploy.yaml_text import yaml_text

TEXTS = {"a.yaml": "a: 1\n", "inner/b.yaml": "b: 1\n"}


HERE = Origin(Path("flights.yaml"), "flights")


def write_files(folder, texts, origin=HERE, *, force=False):
    return files.write_files({folder: texts}, origin, force=force)[folder]


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LEDGER
    }


def test_files_are_written_once(tmp_path):
    folder = tmp_path / "new" / "deploy"
    first = write_files(folder, TEXTS)
    assert tree(folder) == TEXTS
    assert [path.name for path in first.written] == ["a.yaml", "b.yaml"]
    second = write_files(folder, TEXTS)
    assert second.written == second.removed == ()
    assert len(second.unchanged) == 2
    assert stat.S_IMODE((folder / "a.yaml").stat().st_mode) == 0o644


def test_kubectl_does_not_take_the_ledger_for_a_manifest(tmp_path):
    """`kubectl apply -f FOLDER` reads every file of these kinds, also hidden ones."""
    write_files(tmp_path, TEXTS)
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".json", ".yaml", ".yml")} == {
        "a.yaml"
    }


def test_a_later_rendering_replaces_and_removes_its_own_files(tmp_path):
    write_files(tmp_path, TEXTS)
    (tmp_path / "mine.yaml").write_text("mine: 1\n", encoding="utf-8")
    done = write_files(tmp_path, {"a.yaml": "a: 2\n"})
    assert tree(tmp_path) == {"a.yaml": "a: 2\n", "mine.yaml": "mine: 1\n"}
    assert [path.name for path in done.removed] == ["b.yaml"]


@pytest.mark.parametrize("texts", [{"a.yaml": "a: 2\n"}, {**TEXTS, "inner/b.yaml": "b: 2\n"}])
def test_edits_are_not_lost(tmp_path, texts):
    write_files(tmp_path, TEXTS)
    (tmp_path / "inner/b.yaml").write_text("b: mine\n", encoding="utf-8")
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"must not have been edited\. Received: changes in .*b\.yaml"):
        write_files(tmp_path, texts)
    assert tree(tmp_path) == before
    write_files(tmp_path, texts, force=True)
    assert tree(tmp_path) == texts


@pytest.mark.parametrize(
    ("other", "received"),
    [
        (
            Origin(Path("taxi.yaml"), "taxi"),
            r"taxi\.yaml \(model taxi\) for deploy/k, .* flights\.yaml \(mod",
        ),
        (
            Origin(Path("live/flights-live.yaml"), "flights"),
            r"live/flights-live\.yaml .* those of flights\.yaml \(",
        ),
        (Origin(Path("flights.yaml"), "late"), r"\(model late\) .* those of flights\.yaml \(model flights\)"),
    ],
)
def test_files_of_another_config_are_replaced_only_if_told_to(tmp_path, monkeypatch, other, received):
    monkeypatch.chdir(tmp_path)
    folder = Path("deploy/k")
    write_files(folder, TEXTS)
    with pytest.raises(ConfigError, match=received) as caught:
        write_files(folder, {"a.yaml": "a: 2\n"}, other)
    own = other.model if other.model != "flights" else "flights-live"
    assert f"-o deploy/{own} writes into another folder" in caught.value.hint
    assert tree(folder) == TEXTS
    assert [path.name for path in write_files(folder, {"a.yaml": "a: 2\n"}, other, force=True).removed] == [
        "b.yaml"
    ]
    with pytest.raises(ConfigError, match="one config"):
        write_files(folder, TEXTS)


def test_a_config_is_the_same_from_wherever_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(Path("deploy"), TEXTS)
    held = Path("deploy", LEDGER).read_text(encoding="utf-8")
    assert str(tmp_path) not in held
    assert write_files(tmp_path / "deploy", TEXTS, Origin(tmp_path / "flights.yaml", "flights")).written == ()
    Path("inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert write_files(Path("../deploy"), TEXTS, Origin(Path("../flights.yaml"), "flights")).written == ()
    assert (tmp_path / "deploy" / LEDGER).read_text(encoding="utf-8") == held


def test_a_ledger_without_an_origin_is_anybodys(tmp_path):
    write_files(tmp_path, TEXTS)
    held = json.loads((tmp_path / LEDGER).read_text(encoding="utf-8"))
    (tmp_path / LEDGER).write_text(json.dumps(held["files"]), encoding="utf-8")
    assert write_files(tmp_path, {"a.yaml": "a: 2\n"}, Origin(Path("taxi.yaml"), "taxi")).written


def test_files_of_others_are_not_overwritten(tmp_path):
    (tmp_path / "a.yaml").write_text("somebody's\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        write_files(tmp_path, TEXTS)
    assert tree(tmp_path) == {"a.yaml": "somebody's\n"}


def test_an_edit_to_what_is_rendered_now_is_no_edit(tmp_path):
    write_files(tmp_path, TEXTS)
    (tmp_path / "a.yaml").write_text("a: 2\n", encoding="utf-8")
    assert write_files(tmp_path, {**TEXTS, "a.yaml": "a: 2\n"}).written == ()


@pytest.mark.parametrize("failing", ["replace", "unlink"])
def test_a_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, failing):
    write_files(tmp_path, TEXTS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    replaced = []

    def replace(source, target, _original=os.replace):
        if failing == "replace" and len(replaced) == 1:
            raise OSError(28, "No space left on device")
        replaced.append(target)
        _original(source, target)

    def unlink(path, missing_ok=False, _original=files.Path.unlink):
        if failing == "unlink" and path.name == "b.yaml":
            raise OSError(13, "Permission denied")
        _original(path, missing_ok=missing_ok)

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.Path, "unlink", unlink)
    with pytest.raises(EnvironmentProblem, match=r"nothing was changed\. Received: .*(No space|denied)"):
        write_files(tmp_path, {"a.yaml": "a: 2\n", "c/d.yaml": "d: 1\n"})
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "c").exists()


def test_several_folders_are_written_together_or_not_at_all(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    files.write_files({one: TEXTS, other: TEXTS}, HERE)
    (other / "a.yaml").write_text("mine\n", encoding="utf-8")
    before = (tree(one), tree(other))
    changed = {"a.yaml": "a: 2\n"}
    with pytest.raises(ConfigError, match=r"changes in .*other/a\.yaml"):
        files.write_files({one: changed, other: changed}, HERE)
    assert (tree(one), tree(other)) == before
    done = files.write_files({one: changed}, HERE)
    assert done[one].written == (one / "a.yaml",)
    assert tree(other) == before[1]


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path):
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"must be a file\. Received: .*a\.yaml"):
        write_files(tmp_path, TEXTS)


@pytest.mark.parametrize(
    "ledger",
    [
        "not json",
        "[1]",
        '{"files": 1}',
        '{"files": {"../outside": "x"}}',
        '{"../outside": "x", "/etc/passwd": "y"}',
    ],
)
def test_a_broken_ledger_removes_nothing(tmp_path, ledger):
    folder, outside = tmp_path / "in", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("keep\n", encoding="utf-8")
    (folder / LEDGER).write_text(ledger, encoding="utf-8")
    assert write_files(folder, TEXTS).removed == ()
    assert outside.exists()


@pytest.mark.parametrize(
    "value",
    ["1e3", "0x10", "0o17", "2026-01-01", "on", "null", "~", "12:30:00", ".5", "8501", "a: b", "x\ny\n", ""],
)
def test_text_stays_text_in_yaml(value):
    text = yaml_text([({"key": {value: [value, {"a": value}]}}, {})])
    assert yaml.safe_load(text) == {"key": {value: [value, {"a": value}]}}
    for number in ("1e3", "0o17", "8501"):
        if value == number:
            assert f'"{number}"' in text


def test_comments_stand_above_their_values_and_change_nothing():
    data = {"a": {"b": [{"c": 1, "d": 2}, {"e": 3}]}, "f": "x"}
    comments = {(): "Head.", ("a", "b", 1): "Second.", ("a", "b", 0, "d"): "About d.", ("f",): "word " * 40}
    text = yaml_text([(data, comments), (data, {})])
    assert list(yaml.safe_load_all(text)) == [data, data]
    lines = text.splitlines()
    assert lines[0] == "# Head."
    assert lines[lines.index("    # Second.") + 1] == "    - e: 3"
    assert lines[lines.index("      # About d.") + 1] == "      d: 2"
    assert max(len(line) for line in lines) <= 100
    with pytest.raises(KeyError, match="nowhere"):
        yaml_text([(data, {("nowhere",): "x"})])
