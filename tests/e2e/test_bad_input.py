"""Bad input: one clear error, the documented exit code, no traceback, nothing half-written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .project import CONFIG, Project, snapshot

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HEADER = "distance,hour,carrier,origin,late"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path, rows=600)


def rewrite(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Return an edit of the lines of rows.csv."""

    def edit(folder: Path) -> None:
        file = folder / "rows.csv"
        file.write_text(
            "\n".join(change(file.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8"
        )

    return edit


def replace_line(number: int, text: str) -> Callable[[Path], None]:
    """Return an edit that replaces one line (the header is line 1)."""
    return rewrite(lambda lines: [*lines[: number - 1], text, *lines[number:]])


def put(content: bytes) -> Callable[[Path], None]:
    """Return an edit that replaces rows.csv."""
    return lambda folder: (folder / "rows.csv").write_bytes(content) and None  # type: ignore[func-returns-value]


def bad_byte(folder: Path) -> None:
    file = folder / "rows.csv"
    content = file.read_bytes()
    at = content.index(b"AA", 2000)
    file.write_bytes(content[:at] + b"\xff" + content[at + 1 :])


BEFORE_START: list[tuple[str, Callable[[Path], None], list[str], list[str]]] = [
    ("missing file", lambda f: (f / "rows.csv").unlink(), [], ["must exist", "rows.csv"]),
    ("empty file", put(b""), [], ["must not be empty", "rows.csv"]),
    ("header only", put(HEADER.encode() + b"\n"), [], ["rows", "rows.csv"]),
    ("binary junk", put(bytes(range(256)) * 64), [], ["rows.csv"]),
    ("duplicate column names", replace_line(1, "distance,hour,carrier,carrier,late"), [], ["carrier"]),
    ("label column absent", replace_line(1, "distance,hour,carrier,origin,lat"), [], ["late", "label"]),
    ("feature column absent", replace_line(1, "distance,hours,carrier,origin,late"), [], ["hour"]),
    ("unknown config key", lambda f: None, ["trainin.epochs=2"], ["unknown key `trainin`", "training"]),
    ("wrong type", lambda f: None, ["training.epochs=soon"], ["training.epochs", "soon"]),
    ("threshold out of range", lambda f: None, ["evaluation.threshold=1.2"], ["evaluation.threshold", "1.2"]),
]


@pytest.mark.parametrize(
    ("name", "edit", "overrides", "words"), BEFORE_START, ids=[c[0] for c in BEFORE_START]
)
def test_stops_before_anything_starts(
    project: Project, name: str, edit: Callable[[Path], None], overrides: list[str], words: list[str]
) -> None:
    edit(project.folder)
    before = snapshot(project.folder)
    ran = project.run(*overrides)
    assert ran.exit_code == 2, ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert all(word in ran.stderr for word in words), ran.stderr
    assert snapshot(project.folder) == before
    assert not (project.folder / "runs").exists()


def test_two_features_of_one_name(project: Project) -> None:
    file = project.folder / "demo.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("features:\n", "features:\n  hour: {kind: numeric}\n"),
        encoding="utf-8",
    )
    ran = project.run()
    assert ran.exit_code == 2
    assert "a key must be given once. Received: `hour`" in ran.stderr


def one_class(lines: list[str]) -> list[str]:
    return [lines[0], *(line[:-1] + "0" for line in lines[1:])]


def rare_class(lines: list[str]) -> list[str]:
    split = ["train"] * 500 + ["eval"] * 50 + ["test"] * 50
    late = [line[-1] for line in lines[1:]]
    late[-1] = "2"
    return [
        lines[0] + ",split",
        *(f"{line[:-1]}{y},{s}" for line, y, s in zip(lines[1:], late, split, strict=True)),
    ]


SPLIT = "data.split={method: column, column: split}"
DURING_INGEST: list[tuple[str, Callable[[Path], None], list[str], list[str]]] = [
    ("not UTF-8", bad_byte, [], ["UTF-8", "byte"]),
    ("ragged row", replace_line(302, "1,2,AA"), [], ["302"]),
    ("text in a numeric feature", replace_line(402, "far,2,AA,EWR,1"), [], ["distance", "far", "402"]),
    ("infinity", replace_line(303, "inf,2,AA,EWR,1"), [], ["distance", "inf", "303"]),
    ("label with one class", rewrite(one_class), [], ["late", "0"]),
    ("label with missing values", replace_line(304, "5,2,AA,EWR,"), [], ["late", "304"]),
    ("class only in test", rewrite(rare_class), [SPLIT, "data.task=multiclass"], ["2", "test"]),
    (
        "a split with no rows",
        rewrite(lambda rows: [rows[0] + ",split", *(r + ",train" for r in rows[1:])]),
        [SPLIT],
        ["eval"],
    ),
]


@pytest.mark.parametrize(
    ("name", "edit", "overrides", "words"), DURING_INGEST, ids=[c[0] for c in DURING_INGEST]
)
def test_stops_during_ingest(
    project: Project, name: str, edit: Callable[[Path], None], overrides: list[str], words: list[str]
) -> None:
    edit(project.folder)
    ran = project.run(*overrides)
    assert ran.exit_code == 4, ran.stderr
    assert "Traceback" not in ran.stderr
    assert all(word in ran.stderr for word in words), ran.stderr
    summary = project.summary(ran)
    assert summary["verdict"] == "data_rejected"
    assert not list((project.folder / "push").iterdir())
    assert not list((project.folder / "runs" / ".store" / "artifacts").rglob("*.gz*"))
    assert not list((project.folder / "runs" / ".store" / "scratch").iterdir())


@pytest.mark.parametrize("key", ["output.runs", "output.push"])
def test_an_output_folder_that_cannot_be_written(project: Project, key: str) -> None:
    (project.folder / "taken").write_text("a file, not a folder", encoding="utf-8")
    before = snapshot(project.folder)
    ran = project.run(f"{key}=taken/inside")
    assert ran.exit_code == 1, ran.stderr
    assert key in ran.stderr
    assert "Traceback" not in ran.stderr
    assert {p: h for p, h in snapshot(project.folder).items() if not p.startswith("runs")} == before


def test_a_schema_that_the_data_breaks(project: Project) -> None:
    first = project.run("gates.quality.0.min=0.999")
    assert first.exit_code in (0, 3), first.stderr
    schema = project.folder / "demo.schema.pbtxt"
    text = schema.read_text(encoding="utf-8")
    assert 'value: "AA"' in text
    schema.write_text(
        text.replace('value: "AA"', 'value: "ZZ"').replace("min_domain_mass", "# min_domain_mass"),
        encoding="utf-8",
    )
    ran = project.run()
    assert ran.exit_code == 4, ran.stderr
    assert "carrier" in ran.stderr
    assert "AA" in ran.stderr


@pytest.mark.slow
def test_a_full_disk(project: Project, tmp_path: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], check=True)
    try:
        ran = project.run(f"output.runs={small}/runs")
        assert ran.exit_code == 1, ran.stderr
        assert "disk is full" in ran.stderr or "No space left" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert not os.path.exists(project.folder / "push" / "serving")
    finally:
        # Lazily: the process that nodes are forked from may still be on its way out.
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_an_absent_config(project: Project) -> None:
    ran = project.call("run", "nothing.yaml")
    assert ran.exit_code == 2
    assert "must be an existing file. Received: nothing.yaml" in ran.stderr


def test_config_is_the_shared_one() -> None:
    # The cases above name lines and columns of this config's data.
    assert list(CONFIG["features"]) == ["distance", "hour", "carrier", "route"]
