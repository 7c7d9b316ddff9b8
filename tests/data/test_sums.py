"""What a folder holds, and how it differs: every kind of damage is found and named."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.data.sums import Difference, FileEntry, differences, file_entries, stamps, told

# printf one | sha256sum
_ONE = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


def _folder(root: Path) -> Path:
    (root / "variables").mkdir(parents=True)
    (root / "saved_model.pb").write_bytes(b"one")
    (root / "variables" / "variables.index").write_bytes(b"index")
    (root / "empty").mkdir()
    return root


def _flip(file: Path) -> None:
    """Change a byte and keep size, times and inode, as far as a user can."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    with file.open("r+b") as stream:
        stream.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"x" * file.stat().st_size)
    os.replace(other, file)


def _as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flip": (_flip, "altered"),
    "truncate": (lambda file: os.truncate(file, file.stat().st_size - 1), "altered"),
    "append": (lambda file: os.truncate(file, file.stat().st_size + 1), "altered"),
    "swap": (_swap, "altered"),
    "delete": (lambda file: file.unlink(), "missing"),
    "folder": (_as_folder, "missing"),
    "dangling": (_dangling, "missing"),
}


def test_entries_hold_path_size_and_sum_in_order(tmp_path: Path) -> None:
    entries = file_entries(_folder(tmp_path))
    assert entries[0] == FileEntry("saved_model.pb", 3, _ONE)
    assert [entry.path for entry in entries] == ["saved_model.pb", "variables/variables.index"]
    assert file_entries(tmp_path, {"saved_model.pb"}) == entries[1:]
    assert file_entries(tmp_path / "nowhere") == []
    assert differences(tmp_path, entries) == []


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_of_every_file_is_named(tmp_path: Path, damage: str, name: str, trusted: bool) -> None:
    entries = file_entries(_folder(tmp_path))
    time.sleep(0.06)  # till a stamp is worth something
    known = stamps(tmp_path) if trusted else None
    assert not trusted or set(known or ()) == {entry.path for entry in entries}
    act, how = DAMAGE[damage]
    act(tmp_path / name)
    assert [(found.path, found.how) for found in differences(tmp_path, entries, known)] == [(name, how)]


def test_what_is_not_listed_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    entries = file_entries(_folder(tmp_path))
    (tmp_path / "variables" / "more").write_bytes(b"")
    (tmp_path / "assets").symlink_to(tmp_path / "variables")
    assert differences(tmp_path, entries) == [
        Difference("assets", "added"),
        Difference("variables/more", "added"),
    ]
    assert differences(tmp_path, entries, leave_out={"assets", "variables/more"}) == []


def test_a_folder_that_is_gone_misses_every_file(tmp_path: Path) -> None:
    entries = file_entries(_folder(tmp_path / "made"))
    found = differences(tmp_path / "nowhere", entries)
    assert [str(item) for item in found] == [
        "saved_model.pb is missing",
        "variables/variables.index is missing",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = file_entries(_folder(tmp_path))

    def refuse(*args: object) -> str:
        raise PermissionError

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr("headrace.data.sums.file_sha256", refuse)
    assert [item.how for item in differences(tmp_path, entries)] == ["unreadable", "unreadable"]


def test_a_file_with_a_known_stamp_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = file_entries(_folder(tmp_path))
    time.sleep(0.06)
    known = stamps(tmp_path)
    read: list[str] = []
    monkeypatch.setattr("headrace.data.sums.file_sha256", lambda path: read.append(path) or "")
    assert differences(tmp_path, entries, known) == []
    assert read == []
    (tmp_path / "saved_model.pb").chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR)  # moves the change time
    assert differences(tmp_path, entries, known) == [Difference("saved_model.pb", "altered")]
    assert read == [str(tmp_path / "saved_model.pb")]


def test_a_file_written_this_moment_has_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(tmp_path)
    written = (tmp_path / "saved_model.pb").stat().st_mtime_ns
    monkeypatch.setattr("headrace.data.sums.time.time_ns", lambda: written + 50_000_000)
    assert "saved_model.pb" not in stamps(tmp_path)


def test_many_differences_are_counted() -> None:
    found = [Difference(f"f{number}", "missing") for number in range(7)]
    assert told(found[:1]) == "f0 is missing"
    assert told(found[:5]).endswith("f4 is missing")
    assert told(found).endswith("f4 is missing and 2 more")
