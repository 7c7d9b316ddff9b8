"""The script that copies models out of a bucket, run by sh with a stand-in for rclone on local folders."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from headrace.serving.deploy.bucket import SCRIPT

RCLONE = """#!/bin/sh
# rclone lsf --dirs-only models:PATH | rclone sync models:PATH TARGET
case "$1" in
  lsf) cd "${3#models:}" && ls -d */ ;;
  sync) rm -rf "$3" && mkdir -p "$3" && cp -R "${2#models:}/." "$3" ;;
esac
"""


class Bucket:
    """A bucket that is a folder, and a server's disk."""

    def __init__(self, root: Path) -> None:
        self.source = root / "bucket" / "flights"
        self.folder = root / "models" / "flights"
        self.source.mkdir(parents=True)
        tool = root / "bin" / "rclone"
        tool.parent.mkdir()
        tool.write_text(RCLONE, encoding="utf-8")
        tool.chmod(0o755)
        self._script = root / "copy.sh"
        self._script.write_text(SCRIPT, encoding="utf-8")
        self._path = f"{tool.parent}:{os.environ['PATH']}"

    def push(self, version: int) -> Path:
        """Put a version there, with a manifest as `components.push` writes it."""
        folder = self.source / str(version)
        (folder / "assets dir").mkdir(parents=True)
        contents = {"saved_model.pb": f"graph {version}", "assets dir/a b": "words"}
        entries = []
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
            digest = hashlib.sha256(text.encode()).hexdigest()
            entries.append({"path": name, "sha256": digest, "size": len(text)})
        manifest = {"content_sha256": "0" * 64, "files": entries, "version": version}
        (folder / "manifest.json").write_text(
            json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8"
        )
        return folder

    def look(self, keep: int = 2) -> str:
        settings = {"SOURCE": f"models:{self.source}", "FOLDER": str(self.folder), "KEEP": str(keep)}
        done = subprocess.run(
            ["sh", str(self._script)],
            env={"PATH": self._path, "EVERY_S": "1", "ONCE": "1", **settings},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    def served(self) -> list[str]:
        """Return the names that TensorFlow Serving takes for versions."""
        return sorted(path.name for path in self.folder.iterdir() if path.name.isdecimal())


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def test_the_latest_versions_are_copied_and_older_ones_removed(bucket):
    for version in (1, 2, 9, 10):
        bucket.push(version)
    (bucket.source / "notes").mkdir()
    assert "version 10 is there" in bucket.look()
    assert bucket.served() == ["10", "9"]
    assert (bucket.folder / "10" / "assets dir" / "a b").read_text(encoding="utf-8") == "words"
    bucket.push(11)
    assert "version 9 is removed" in bucket.look()
    assert bucket.served() == ["10", "11"]
    assert bucket.look() == ""


@pytest.mark.parametrize("broken", ["absent", "cut", "no manifest"])
def test_a_version_that_is_not_whole_is_not_served_until_it_is(bucket, broken):
    bucket.push(1)
    folder = bucket.push(2)
    whole = folder.parent / "whole"
    shutil.copytree(folder, whole)
    if broken == "absent":
        (folder / "saved_model.pb").unlink()
    elif broken == "cut":
        (folder / "saved_model.pb").write_text("gra", encoding="utf-8")
    else:
        (folder / "manifest.json").unlink()
    assert "version 2 " in bucket.look()
    assert bucket.served() == ["1"]
    shutil.rmtree(folder)
    whole.rename(folder)
    assert "version 2 is there" in bucket.look()
    assert bucket.served() == ["1", "2"]


def test_an_old_version_stays_while_its_successors_are_broken(bucket):
    bucket.push(1)
    bucket.look(keep=1)
    for version in (2, 3):
        (bucket.push(version) / "saved_model.pb").unlink()
    bucket.look(keep=1)
    assert bucket.served() == ["1"]


def test_a_bucket_that_cannot_be_read_is_told_and_tried_again(bucket):
    shutil.rmtree(bucket.source)
    assert "could not be read" in bucket.look()
    assert bucket.served() == []


def test_it_ends_when_told_to(bucket):
    bucket.push(1)
    environment = {
        "PATH": bucket._path,
        "SOURCE": f"models:{bucket.source}",
        "FOLDER": str(bucket.folder),
        "KEEP": "2",
        "EVERY_S": "60",
    }
    with subprocess.Popen(
        ["sh", str(bucket._script)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert "version 1 is there" in process.stdout.readline()
        process.terminate()
        assert process.wait(20) == 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # the sleep that it waited for
