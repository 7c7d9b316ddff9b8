"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from headrace.components.whole_file import discard_unfinished, whole_file


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_text("old", encoding="utf-8")
    with whole_file(str(path)) as one, whole_file(str(path)) as other:  # two workers at once
        assert one != other
        Path(one).write_text("new", encoding="utf-8")
        Path(other).write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with whole_file(str(path)) as scratch:
        Path(scratch).write_text("half", encoding="utf-8")
        raise ValueError("no more")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no more"):
        write_half(tmp_path / "a.gz")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_worker_left_is_discarded(tmp_path: Path) -> None:
    kept = tmp_path / "Split-train/data.gz"
    kept.parent.mkdir()
    kept.write_text("whole", encoding="utf-8")
    context = whole_file(str(kept))
    Path(context.__enter__()).write_text("half", encoding="utf-8")  # never left, as after kill -9
    assert len(list(kept.parent.iterdir())) == 2
    discard_unfinished(str(tmp_path))
    assert list(kept.parent.iterdir()) == [kept]
