"""Records of artifacts: they hold wherever the store lies, and nothing is read twice if it did not change."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from headrace.components.sums import compare, entries_of, judged, record
from headrace.data.errors import EnvironmentProblem


def _artifact(store: Path) -> Path:
    folder = store / "artifacts" / "variants" / "variants" / "5"
    (folder / "tflite_int8").mkdir(parents=True)
    (folder / "tflite_int8" / "model.tflite").write_bytes(b"model")
    (folder / "variants.json").write_text("[]")
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read for their sums."""
    from headrace.data import sums

    real, found = sums.file_sha256, []

    def counted(path: str) -> str:
        found.append(os.path.basename(path))
        return real(path)

    monkeypatch.setattr(sums, "file_sha256", counted)
    return found


def test_a_record_lists_files_with_size_and_sum(tmp_path: Path) -> None:
    text = record(str(_artifact(tmp_path)))
    # printf '[]' | sha256sum
    digest = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert json.loads(text)[1] == ["variants.json", 2, digest]
    assert [entry.path for entry in entries_of(text)] == ["tflite_int8/model.tflite", "variants.json"]
    assert not (tmp_path / "stamps").exists()


def test_what_did_not_change_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    folder, store = _artifact(tmp_path), str(tmp_path)
    time.sleep(0.06)
    text = record(str(folder), store)
    assert sorted(reads) == ["model.tflite", "variants.json"]
    assert (tmp_path / "stamps" / "variants" / "variants" / "5.json").is_file()
    assert compare(str(folder), text, store) == []
    assert len(reads) == 2
    (folder / "variants.json").write_text("{}")
    time.sleep(0.06)
    assert [str(item) for item in compare(str(folder), text, store)] == ["variants.json is altered"]
    assert reads[2:] == ["variants.json"]
    # What was found altered must not be trusted from then on.
    assert [str(item) for item in compare(str(folder), text, store)] == ["variants.json is altered"]


def test_a_record_holds_for_a_copy_which_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    text = record(str(_artifact(tmp_path / "one")), str(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy = str(tmp_path / "two" / "artifacts" / "variants" / "variants" / "5")
    time.sleep(0.06)
    reads.clear()
    assert compare(copy, text, str(tmp_path / "two")) == []
    assert len(reads) == 2
    assert compare(copy, text, str(tmp_path / "two")) == []
    assert len(reads) == 2


def test_an_artifact_of_another_place_is_compared_without_stamps(tmp_path: Path, reads: list[str]) -> None:
    folder = _artifact(tmp_path / "elsewhere")
    text = record(str(folder), str(tmp_path / "store"))
    assert compare(str(folder), text, str(tmp_path / "store")) == []
    assert len(reads) == 4
    assert not (tmp_path / "store").exists()


def test_stamps_that_cannot_be_read_or_kept_are_done_without(tmp_path: Path) -> None:
    folder, store = _artifact(tmp_path), str(tmp_path)
    text = record(str(folder), store)
    (tmp_path / "stamps" / "variants" / "variants" / "5.json").write_text("[")
    assert compare(str(folder), text, store) == []
    shutil.rmtree(tmp_path / "stamps")
    (tmp_path / "stamps").write_text("a file")
    assert compare(str(folder), text, store) == []


def test_what_changes_while_it_is_hashed_gets_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.data import sums

    folder, store, real = _artifact(tmp_path), str(tmp_path), sums.file_sha256
    time.sleep(0.06)

    def altered_meanwhile(path: str) -> str:
        digest = real(path)
        Path(path).write_bytes(b"z" * os.path.getsize(path))
        return digest

    monkeypatch.setattr(sums, "file_sha256", altered_meanwhile)
    text = record(str(folder), store)
    monkeypatch.setattr(sums, "file_sha256", real)
    assert len(compare(str(folder), text, store)) == 2


def _inputs(root: Path) -> dict[str, list[str]]:
    """Artifacts that are judged, and one that is not."""
    folders = {"model": "7", "variants": "8", "transform_graph": "9", "examples": "10"}
    for name, part in (("model", "Format-Serving"), ("transform_graph", "headrace"), ("variants", "int8")):
        (root / folders[name] / part).mkdir(parents=True)
        (root / folders[name] / part / "file").write_text("model")
    (root / "7" / "model.json").write_text("not served")
    return {name: [str(root / folder)] for name, folder in folders.items()}


def test_judged_gives_sums_relative_to_the_artifact(tmp_path: Path) -> None:
    # printf model | sha256sum
    digest = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    with judged(_inputs(tmp_path)) as found:
        assert found == {
            name: [{"path": f"{part}/file", "size": 5, "sha256": digest}]
            for name, part in (
                ("model", "Format-Serving"), ("variants", "int8"), ("transform_graph", "headrace")
            )
        }  # fmt: skip


@pytest.mark.parametrize("place", ["7/Format-Serving", "8/int8", "9/headrace"])
def test_what_changes_while_it_is_judged_is_refused_by_name(tmp_path: Path, place: str) -> None:
    inputs = _inputs(tmp_path)
    rule = rf"must stay the same meanwhile\. Received: .*file is altered \(.*/{place[0]}"
    with pytest.raises(EnvironmentProblem, match=rule), judged(inputs):
        (tmp_path / place / "file").write_text("other")
