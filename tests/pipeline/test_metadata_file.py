"""A file of ML Metadata that is missing, cut short, full, of something else: one line with its name and the way out."""
# ruff: noqa: E501 - one case a line reads best

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from headrace.data.errors import EnvironmentProblem
from headrace.pipeline.cluster import MetadataConfig
from headrace.pipeline.config import load_config
from headrace.pipeline.launch import launch_measured
from headrace.pipeline.metadata_failure import check_reachable, database_named
from headrace.pipeline.metadata_file import check_database
from headrace.pipeline.metadata_url import connection_config
from headrace.pipeline.runs import run
from headrace.pipeline.store import Store
from headrace.pipeline.validate import validate
from tests.e2e.project import Project

RULE = "the file of ML Metadata must be whole and writable"


def fill(path: Path, artifacts: int = 100) -> None:
    store = MetadataStore(connection_config(MetadataConfig(), str(path)))
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="T"))
    store.put_artifacts([metadata_store_pb2.Artifact(type_id=kind, uri="x" * 2000) for _ in range(artifacts)])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "store" / "metadata.sqlite"
    fill(path)
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = os.urandom(4096 * 2)
    path.write_bytes(bytes(content))


def of_something_else(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as made:
        made.execute("create table birds (name text)")
    made.close()


def missing(path: Path) -> None:
    path.unlink()
    (path.parent / "artifacts" / "ingest").mkdir(parents=True)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as made:
        made.execute("update MLMDEnv set schema_version = 99")
    made.close()


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (cut, "it is damaged or cut short"),
    (lambda path: path.write_bytes(path.read_bytes()[:50]), "it is (damaged or cut short|no database)"),
    (overwrite, "it is damaged or cut short"),
    (lambda path: path.write_text("hello world\n" * 400), "it is no database"),
    (of_something_else, "it is a database of something else"),
    (missing, "it is missing, though artifacts are there that it should know of"),
    (folder, "it cannot be opened"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES, ids=range(len(DAMAGES)))
def test_a_file_that_is_none(damage: Callable[[Path], object], reason: str, database: Path) -> None:
    damage(database)
    with pytest.raises(
        EnvironmentProblem, match=rf"{RULE}. Received: {reason} \(.*metadata.sqlite\)"
    ) as caught:
        check_reachable(MetadataConfig(), str(database))
    assert "\n" not in caught.value.message
    store = os.path.relpath(database.parent)
    store = store if len(store) < len(str(database.parent)) else str(database.parent)
    assert caught.value.hint.endswith(f"begin anew without what earlier runs made: mv {store} {store}.old")


def test_what_is_right(database: Path, tmp_path: Path) -> None:
    check_database(str(database))
    check_database(str(tmp_path / "nowhere" / "metadata.sqlite"))
    (tmp_path / "empty.sqlite").touch()
    check_database(str(tmp_path / "empty.sqlite"))
    (database.parent / "artifacts").mkdir()
    database.unlink()
    check_database(str(database))
    check_reachable(MetadataConfig(), str(database))


def test_a_file_that_somebody_is_writing_to_is_right(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.pipeline.metadata_file._BUSY_S", 0.1)
    with sqlite3.connect(database) as writer:
        writer.execute("begin exclusive")
        check_database(str(database))
    writer.close()


def test_a_file_that_may_not_be_written(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write whatever the mode says.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != database)
    with pytest.raises(EnvironmentProblem, match=rf"{RULE}. Received: it may not be written") as caught:
        check_database(str(database))
    assert caught.value.hint == "give yourself the right to write it, and its folder"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], check=False)
    if made.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(small: Path) -> None:
    path = small / "metadata.sqlite"
    message = rf"{RULE}. Received: the disk is full \(.*metadata.sqlite\)"
    with (
        pytest.raises(EnvironmentProblem, match=message) as caught,
        database_named(MetadataConfig(), "r1", str(path)),
    ):
        fill(path, 2000)
    assert caught.value.hint == "free some space, then: headrace resume r1"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "it is damaged or cut short"),
        (folder, "it cannot be opened"),
        (newer, "a newer version of ML Metadata wrote it"),
    ],
)
def test_what_ml_metadata_itself_says_is_explained(
    damage: Callable[[Path], object], reason: str, database: Path
) -> None:
    damage(database)
    config = MetadataConfig()
    with (
        pytest.raises(EnvironmentProblem, match=rf"{RULE}. Received: {reason} \(.*metadata.sqlite\)"),
        database_named(config, "r1", str(database)),
    ):
        fill(database)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(KeyError), database_named(MetadataConfig(), "r1", "x"):
        raise KeyError("a")


def test_validate_run_and_a_node_say_so_before_anything_else(tmp_path: Path) -> None:
    project = Project.make(tmp_path, rows=60)
    path, runs = str(project.folder / "demo.yaml"), tmp_path / "runs"
    overrides = [f"output.runs={runs}", f"output.push={tmp_path / 'push'}"]
    config = load_config(path, overrides)
    database = Path(Store.of(config).database)
    database.parent.mkdir(parents=True)
    database.write_text("hello world\n" * 400)
    for command in (validate, run):
        with pytest.raises(EnvironmentProblem, match="it is no database"):
            command(path, overrides)
    assert [entry.name for entry in runs.iterdir()] == [".store"]
    database.unlink()
    (database.parent / "artifacts" / "ingest").mkdir(parents=True)
    result = launch_measured(config, "statistics", "r1", cache=True)
    assert (result.state, result.exit_code) == ("failed", 1)
    assert "it is missing, though artifacts are there" in result.error
