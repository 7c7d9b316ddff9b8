"""manifest.json as readers check it: every damage of every file is named, in each mode and by each client."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.components.push.publish import Bundle, publish
from headrace.components.push.repository import Repository
from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.cli import main
from headrace.serving.client.connecting import connect
from headrace.serving.client.folders import version_folder
from headrace.serving.client.labels import read_labels
from headrace.serving.client.lite_client import LiteClient
from headrace.serving.client.rest_clients import RestClient
from headrace.serving.client.saved_model_client import SavedModelClient
from headrace.serving.manifest import check_content, check_folder

from ..data.test_sums import DAMAGE

LABELS = {"task": "binary", "classes": ["0", "1"], "name": "late"}
RULE = r"every file must have the size and sum of the manifest\. Received: "
FILES = {
    "lite": ["model.tflite", "preprocessing.json", "labels.json", "golden.json"],
    "serving": ["saved_model.pb", "variables/variables.index", "assets.extra/labels.json"],
}


@pytest.fixture
def push(tmp_path: Path) -> Path:
    """Two versions of both sides, as a push leaves them; no model that could answer."""
    for number in range(2):
        text = json.dumps({**LABELS, "name": str(number)}).encode()
        lite: dict[str, Any] = {name: name.encode() for name in FILES["lite"]}
        serving: dict[str, Any] = {name: name.encode() for name in FILES["serving"]}
        bundles: dict[Any, Bundle] = {
            "lite": Bundle(
                "tflite_int8", lite | {"model.tflite": b"\x1c\x00\x00\x00TFL3", "labels.json": text}
            ),
            "serving": Bundle("float32", serving | {"assets.extra/labels.json": text}),
        }
        publish(tmp_path, "m", bundles, run_id="r", content_id=None)
    return tmp_path


def _lose_listing(path: Path) -> None:
    path.write_text("{}")


def _point_outside(path: Path) -> None:
    fields = json.loads(path.read_text())
    fields["files"].append({"path": "../other", "size": 1, "sha256": "0" * 64})
    path.write_text(json.dumps(fields))


def _make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("mode", ["present", "require"])
def test_a_whole_version_is_found_whole(push: Path, mode: Any) -> None:
    for side in FILES:
        assert check_folder(push / side / "m" / "2", mode)


@pytest.mark.parametrize("mode", ["present", "require"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("side", "name"), [(side, name) for side in FILES for name in FILES[side]])
def test_every_damage_is_named(push: Path, side: str, name: str, damage: str, mode: Any) -> None:
    folder = push / side / "m" / "2"
    act, how = DAMAGE[damage]
    act(folder / name)
    with pytest.raises(EnvironmentProblem, match=f"{RULE}{name} is {how} \\({folder}\\)") as caught:
        check_folder(folder, mode)
    assert caught.value.hint == "copy the version again, or publish it again"
    assert not check_folder(folder, "off")


def test_a_file_that_is_not_listed_is_named(push: Path) -> None:
    folder = push / "serving" / "m" / "2"
    (folder / "variables" / "more").write_text("")
    (folder / "variables" / "manifest.json").write_text("")  # not the manifest of the version
    with pytest.raises(
        EnvironmentProblem, match=f"{RULE}variables/manifest.json is added, variables/more is"
    ):
        check_folder(folder)


def test_a_folder_without_a_manifest_is_refused_only_where_one_is_required(push: Path) -> None:
    folder = push / "lite" / "m" / "2"
    (folder / "manifest.json").unlink()
    assert not check_folder(folder)
    with pytest.raises(EnvironmentProblem, match=rf"must have a manifest\.json\. Received: none in {folder}"):
        check_folder(folder, "require")
    with pytest.raises(ConfigError, match=r"must be one of require, present, off\. Received: always"):
        check_folder(folder, "always")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: path.write_text("{"), "must list files with size and sha256"),
        (lambda path: path.write_text("[]"), "must list files with size and sha256"),
        (_lose_listing, "must list files with size and sha256"),
        (lambda path: path.write_bytes(b"\xff"), "must list files with size and sha256"),
        (_make_link, "must list files with size and sha256"),
        (_point_outside, r"must list files of its folder\. Received: \.\./other"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_no_manifest_that_holds(
    push: Path, spoil: Callable[[Path], object], text: str
) -> None:
    folder = push / "lite" / "m" / "2"
    spoil(folder / "manifest.json")
    for check in (
        lambda: check_folder(folder),
        lambda: check_content(folder, "labels.json", b""),
        lambda: LiteClient(folder),
    ):
        with pytest.raises(EnvironmentProblem, match=f"a manifest {text}"):
            check()
    assert not check_folder(folder, "off")


CLIENTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "LiteClient": ("lite", LiteClient),
    "SavedModelClient": ("serving", SavedModelClient),
    "connect lite": ("lite", connect),
    "connect serving": ("serving", connect),
}


@pytest.mark.parametrize("damage", ["flip", "delete"])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_checks_every_file(push: Path, client: str, damage: str) -> None:
    """The model's own file too: an older version must not answer in place of one that lost it."""
    side, make = CLIENTS[client]
    for number, name in enumerate(FILES[side]):
        versions = push / str(number)
        shutil.copytree(push / side / "m", versions)
        DAMAGE[damage][0](versions / "2" / name)
        for path in (versions, versions / "2"):
            with pytest.raises(EnvironmentProblem, match=f"{RULE}{name} is {DAMAGE[damage][1]}"):
                make(path)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_may_require_a_manifest(push: Path, client: str) -> None:
    side, make = CLIENTS[client]
    (push / side / "m" / "2" / "manifest.json").unlink()
    with pytest.raises(EnvironmentProblem, match=r"must have a manifest\.json"):
        make(push / side / "m", check_sums="require")


def test_the_highest_version_is_one_by_its_manifest_alone(push: Path) -> None:
    folder = push / "lite" / "m"
    (folder / "2" / "model.tflite").unlink()
    assert version_folder(folder, "model.tflite") == folder / "2"
    assert version_folder(folder / "2", "model.tflite") == folder / "2"
    (folder / "2" / "manifest.json").unlink()
    assert version_folder(folder, "model.tflite") == folder / "1"


def _places(push: Path) -> list[Path]:
    """All that may be given as labels of version 2."""
    return [
        push / "lite/m",
        push / "lite/m/2",
        push / "lite/m/2/labels.json",
        push / "serving/m",
        push / "serving/m/2/assets.extra",
        push / "serving/m/2/assets.extra/labels.json",
    ]


@pytest.mark.parametrize("mode", ["present", "require"])
def test_labels_are_checked_wherever_they_are_given(push: Path, mode: Any) -> None:
    for place in _places(push):
        assert read_labels(place, mode)[0]["name"] == "1"
    # Only what is read must hold: devices may have fetched no more than that.
    (push / "lite/m/2/model.tflite").unlink()
    assert read_labels(push / "lite/m/2", mode)[0]["name"] == "1"
    for name in ("lite/m/2/labels.json", "serving/m/2/assets.extra/labels.json"):
        (push / name).write_text(json.dumps({**LABELS, "name": "other"}))
    for place in _places(push):
        with pytest.raises(EnvironmentProblem, match=rf"{RULE}(assets\.extra/)?labels\.json is altered"):
            read_labels(place, mode)
        with pytest.raises(EnvironmentProblem, match=r"labels\.json is altered"):
            RestClient("http://localhost:1/v1/models/m", labels=place, check_sums=mode)
        assert read_labels(place, "off")[0]["name"] == "other"
        RestClient("http://localhost:1/v1/models/m", labels=place, check_sums="off").close()


def test_labels_that_are_not_listed_or_have_no_manifest(push: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = push / "lite/m/2"
    shutil.copy(folder / "labels.json", folder / "more.json")
    with pytest.raises(EnvironmentProblem, match=r"more\.json is not listed"):
        read_labels(folder / "more.json")
    monkeypatch.chdir(push / "serving/m/2/assets.extra")
    (push / "serving/m/2/manifest.json").unlink()
    assert read_labels("labels.json")[0]["name"] == "1"
    with pytest.raises(EnvironmentProblem, match=r"must have a manifest\.json\. Received: none in .*/2$"):
        read_labels("labels.json", "require")
    assert read_labels(LABELS, "require")[0] == LABELS


@pytest.mark.parametrize("how", ["bundle", "labels"])
def test_the_command_checks(
    push: Path, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = push / "rows.jsonl"
    rows.write_text("{}\n")
    served = ["--model", "http://localhost:1/v1/models/m", "--timeout", "0.2", "--input", str(rows)]
    given = {
        "bundle": [str(push / "lite/m"), str(rows)],
        "labels": [*served, "--labels", str(push / "lite/m")],
    }[how]

    def told(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["headrace", "predict", *given, *options])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code
        return capsys.readouterr().err

    (push / "lite/m/2/labels.json").write_text(json.dumps(LABELS))
    assert "labels.json is altered" in told()
    assert "labels.json is altered" in told("--check-sums", "require")
    assert "labels.json is altered" not in told("--check-sums", "off")
    (push / "lite/m/2/manifest.json").unlink()
    assert "a version must have a manifest.json" in told("--check-sums", "require")
    assert "manifest" not in told()
    assert "is not one of 'require', 'present', 'off'" in told("--check-sums", "always")


def test_what_push_writes_last_is_the_manifest_of_all_it_wrote(push: Path) -> None:
    repository = Repository(push, "m")
    for side in ("lite", "serving"):
        folder = repository.path(side, 2)  # type: ignore[arg-type]
        fields = json.loads((folder / "manifest.json").read_text())
        found = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
        del found["manifest.json"]
        assert {one["path"]: one["size"] for one in fields["files"]} == found
