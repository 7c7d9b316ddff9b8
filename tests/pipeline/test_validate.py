"""`headrace validate` reads the first rows: it names what ingest would refuse, and says how far it read."""

import socket
from pathlib import Path

import pytest
import yaml
from PIL import Image

from headrace.components.ingest import sample
from headrace.components.ingest.run import run as ingest_run
from headrace.components.node import NodeContext
from headrace.data.errors import DataRejected, EnvironmentProblem
from headrace.data.inference import infer
from headrace.pipeline.config import load_config
from headrace.pipeline.graph import node
from headrace.pipeline.identity import node_config
from headrace.pipeline.validate import validate
from tests.e2e.project import CONFIG, make_rows


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write rows and a config; return the config's path."""
    make_rows(tmp_path, rows=3000)
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return path


def spoil(project: Path, line: int, text: str) -> None:
    rows = project.parent / "rows.csv"
    lines = rows.read_text(encoding="utf-8").splitlines()
    lines[line - 1] = text
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")


def refused_by_ingest(project: Path) -> str:
    folder = project.parent / "ingest"
    folder.mkdir()
    config = load_config(project)
    section = node_config(config, node("ingest"))
    section["data"]["path"] = config.data.path
    context = NodeContext("ingest", "run", {}, {"examples": str(folder)}, section, str(folder / "temp"))
    (folder / "temp").mkdir()
    with pytest.raises(DataRejected) as caught:
        ingest_run(context)
    return caught.value.message


def test_what_is_sound_is_read_whole(project: Path) -> None:
    (line,) = validate(str(project))
    assert line.endswith("label late (binary); all 3,000 rows can be ingested")


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (900, "far,3,AA,JFK,1", r"'distance' is read as a number. Received: 'far' \(row 899, line 900 of "),
        (2500, "1,2.5,AA,JFK,1", r"must hold whole numbers .* Received: 2.5 in column 'hour' \(row 2499"),
        (2500, "1,2,AA,JFK,", r"must have a label. Received: 1 rows without 'late', the first at row 2499, "),
        (2500, "1,2,AA,JFK,maybe", r"a binary label must have two classes. Received: 3, "),
        (2500, "1,2,AA,JFK,1,7", r"must have the 5 fields of the header. Received: 6 \(row 2499"),
    ],
)
def test_the_error_is_that_of_ingest(project: Path, line: int, text: str, message: str) -> None:
    spoil(project, line, text)
    with pytest.raises(DataRejected, match=message) as caught:
        validate(str(project))
    assert caught.value.message == refused_by_ingest(project)


def test_pictures_that_are_left_out_are_no_rows_that_can_be_ingested(tmp_path: Path) -> None:
    for index in range(120):
        path = tmp_path / "shapes" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index:
            Image.new("L", (6, 6), index).save(path)
        else:
            path.write_bytes(b"junk")
    found = infer(str(tmp_path / "shapes"), "kind", config_folder=str(tmp_path))
    config = tmp_path / "shapes.yaml"
    config.write_text(found.text, encoding="utf-8")
    told, note, few = validate(str(config))
    assert " 1 feature column, label kind (binary); 119 of 120 rows can be ingested" in told
    assert note.startswith("note: 1 picture cannot be decoded and will be left out; at most ")
    assert few == "note: the test split has 24 rows, under 100, so that figures on it are rough"


DEFAULTS = {  # the last default lies before the test split
    "schema_version": 1,
    "name": "defaults",
    "data": {
        "path": "loans.csv",
        "label": "defaulted",
        "columns": {"month": "int"},
        "split": {"method": "time", "column": "month", "eval_from": 50, "test_from": 54},
    },
    "features": {"amount": {"kind": "numeric"}},
}


def write_loans(folder: Path, rows: int) -> Path:
    lines = ["amount,month,defaulted"]
    lines += [f"{1000 + n},{n * 60 // rows},{int(n % 9 == 0 and n * 60 // rows < 53)}" for n in range(rows)]
    (folder / "loans.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "loans.yaml"
    path.write_text(yaml.safe_dump(DEFAULTS), encoding="utf-8")
    return path


def test_a_test_split_of_one_class_is_told_with_the_rows_of_each_class(tmp_path: Path) -> None:
    _, few, note = validate(str(write_loans(tmp_path, 600)))
    assert few == "note: the test split has 60 rows, under 100, so that figures on it are rough"
    assert note == (
        "note: the test split has rows of one class alone, '0': '0' with 444 train, 37 eval, 60 test rows; "
        "'1' with 56 train, 3 eval, 0 test rows"
    )


def test_of_rows_that_were_not_read_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "_ROWS", 0)
    (line,) = validate(str(write_loans(tmp_path, 600)))
    assert line.endswith("the first 0 rows can be ingested")


def test_a_database_that_does_not_answer_is_found(project: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and nothing listens
        url = f"mysql://someone@127.0.0.1:{unused.getsockname()[1]}/metadata"
        with pytest.raises(EnvironmentProblem, match=r"`metadata.url` must name a database that answers"):
            validate(str(project), [f"metadata.url={url}"])


def test_only_the_first_rows_of_much_data_are_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.data.readers.csv.BLOCK_BYTES", 20_000)
    monkeypatch.setattr(sample, "_ROWS", 1000)
    spoil(project, 2990, "1,2,AA,JFK,maybe")
    (line,) = validate(str(project))
    assert "; the first 1," in line
    spoil(project, 500, "1,2,AA,JFK,maybe")
    with pytest.raises(DataRejected, match=r"a binary label must have two classes. Received: 3, "):
        validate(str(project))
