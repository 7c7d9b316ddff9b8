"""ML Metadata in an SQLite file: what is wrong with the file, in one line that names it and the way out."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from headrace.data.errors import EnvironmentProblem

from .outcome import shown_path

__all__ = ["check_database", "explain_database"]

_RULE = "the file of ML Metadata must be whole and writable."
_BUSY_S = 10.0

_REASONS = {
    "database or disk is full": "the disk is full",
    "disk image is malformed": "it is damaged or cut short",
    "file is not a database": "it is no database",
    "readonly database": "it may not be written",
    "unable to open database file": "it cannot be opened",
    "database is locked": "another process holds it",
    "disk I/O error": "the disk does not answer",
    "is greater than library version": "a newer version of ML Metadata wrote it",
}
"""What SQLite and ML Metadata say -> what that means."""

_WAYS = {
    "the disk is full": "free some space, then: headrace resume {run}",
    "it may not be written": "give yourself the right to write it, and its folder",
    "another process holds it": "wait for that process, then: headrace resume {run}",
    "the disk does not answer": "look at the disk, then: headrace resume {run}",
    "a newer version of ML Metadata wrote it": "use the headrace that wrote it, or another `output.runs`",
}


def check_database(database: str, run_id: str = "") -> None:
    """Make sure that a file of ML Metadata can be read and written, before anything heavy starts.

    A file that is not there yet is right as long as there are no artifacts that it should know of.

    Args:
        database: The file.
        run_id: Id of the run that goes on once it is mended; "" before one has begun.

    Raises:
        EnvironmentProblem: If not.
    """
    file = Path(database)
    if not file.exists():
        artifacts = file.parent / "artifacts"
        if artifacts.is_dir() and any(artifacts.iterdir()):
            raise _problem(
                database, "it is missing, though artifacts are there that it should know of", run_id
            )
        return
    try:
        _read(database)
    except sqlite3.Error as error:
        if "database is locked" not in str(error):
            raise explain_database(database, str(error), run_id) from error
    if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        raise _problem(database, "it may not be written", run_id)


def explain_database(database: str, text: str, run_id: str = "") -> EnvironmentProblem:
    """Return the error that names the file.

    Args:
        database: The file.
        text: What SQLite or ML Metadata said.
        run_id: Id of the run that goes on once it is mended; "" before one has begun.
    """
    said = " ".join(text.split())
    return _problem(
        database, next((why for sign, why in _REASONS.items() if sign in said), said[:200]), run_id
    )


def _problem(database: str, reason: str, run_id: str) -> EnvironmentProblem:
    path = shown_path(database)
    store = shown_path(Path(database).parent)
    way = (
        _WAYS.get(reason, "").format(run=run_id) if run_id else _WAYS.get(reason, "").partition(", then:")[0]
    )
    # Artifacts that no database knows of would stand where those of the next run belong.
    way = (
        way or f"put back a copy of it, or begin anew without what earlier runs made: mv {store} {store}.old"
    )
    return EnvironmentProblem(f"{_RULE} Received: {reason} ({path})", way)


def _read(database: str) -> None:
    """Read all pages, and the table that tells ML Metadata's files from others."""
    uri = f"{Path(database).absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as found:
        (verdict,) = found.execute("pragma quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        tables = {name for (name,) in found.execute("select name from sqlite_master where type = 'table'")}
        if tables and "MLMDEnv" not in tables:
            raise sqlite3.DatabaseError("it is a database of something else")
