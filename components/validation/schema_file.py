"""The schema file beside the config: who wrote its text, and how it enters the cache key. No TensorFlow here.

The first run writes the inferred schema with a header that holds the sum of the text below it, so that a
file nobody touched is told from a curated one. Both are used for new data; only a curated one is content
of its own in the cache key, since an untouched one follows from the data that it was inferred from.

There is one trap. Data that a kept schema rejects tempts the user to delete the file and have a new one
inferred; an absent file must then not have the cache key under which the rejecting schema was kept.
So a rejection is noted in a hidden file (`.NAME.rejected`), whose sum is the key of an absent file from
then on, and an inferred file remembers the key under which it was written.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headrace.data.errors import ConfigError, EnvironmentProblem

__all__ = [
    "Origin",
    "curation_hash",
    "note_rejection",
    "parse_schema",
    "read_origin",
    "read_schema_text",
    "with_origin",
    "write_inferred",
]

_MARK = "# headrace: "
_HEADER = """\
# What the data must look like (a TFMD schema, text form), inferred by headrace from the first data it saw.
# Edit it: from then on it is yours and is never overwritten. Data that breaks it stops the run.
# Delete it to have a new one inferred from the next run's data.
"""


@dataclass(frozen=True)
class Origin:
    """Where a schema artifact came from.

    Attributes:
        origin: `inferred` from the data of its own run, or `kept` from the file.
        path: Name of the schema file; None where there is none. Where it lies is the config's to say: an
            artifact may be copied with its project.
        added: Columns that the file does not have, whose part was inferred.
    """

    origin: Literal["inferred", "kept"]
    path: str | None
    added: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the origin as JSON values."""
        return {"origin": self.origin, "path": self.path, "added": list(self.added)}


def curation_hash(path: str | Path) -> str | None:
    """Return what the schema file adds to the cache key.

    Args:
        path: The schema file, there or not.

    Returns:
        The sum of a curated text; None (or the key it was written under) for a text exactly as headrace
        wrote it; None for an absent file (or the sum of the rejections noted, if any).

    Raises:
        EnvironmentProblem: If the file is there and cannot be read.
    """
    text = read_schema_text(path)
    if text is None:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return "after-" + hashlib.sha256(_rejections(path).read_bytes()).hexdigest()
        return None
    mark, body = _split(text)
    if mark is not None and mark.get("sha256") == _sum(body):
        key: str | None = mark.get("key")
        return key
    return _sum(text)


def read_schema_text(path: str | Path) -> str | None:
    """Return the text of the schema file, or None where there is none.

    Raises:
        EnvironmentProblem: If the file is there and cannot be read.
        ConfigError: If it is not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the schema must be a UTF-8 text file. Received: byte {error.start} is not ({path})"
        ) from error
    except OSError as error:
        raise EnvironmentProblem(
            f"the schema file must be readable. Received: {error.strerror} ({path})"
        ) from error


def parse_schema(text: str, path: str | Path) -> Any:
    """Parse a schema in text form.

    Args:
        text: TFMD Schema in protobuf text format.
        path: For the error message.

    Returns:
        A `tensorflow_metadata.proto.v0.schema_pb2.Schema`.

    Raises:
        ConfigError: If the text is no schema; names line and file.
    """
    # Here and not above: `headrace --help` imports this module's room and must not wait for protobuf.
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        line = error.GetLine()
        reason = str(error).split(" : ", 1)[-1].strip("'")
        where = str(path) if line is None else f"{path}, line {line}"
        raise ConfigError(
            f"the schema must be a TFMD Schema in text form. Received: {reason} ({where})",
            "Correct the line, or delete the file to have a new schema inferred.",
        ) from error
    if not schema.feature:
        raise ConfigError(
            f"the schema must describe at least one feature. Received: none ({path})",
            "Delete the file to have a new schema inferred.",
        )
    return schema


def write_inferred(path: str | Path, body: str, key: str | None) -> bool:
    """Write an inferred schema atomically, with the header that marks it as untouched.

    Args:
        path: The schema file.
        body: Schema in text form.
        key: `curation_hash(path)` as it was when the run began.

    Returns:
        Whether it was written; False where the folder does not take files.
    """
    mark = json.dumps({"key": key, "sha256": _sum(body)})
    return _replace(Path(path), f"{_HEADER}{_MARK}{mark}\n{body}")


def note_rejection(path: str | Path) -> None:
    """Note that the schema file, as it is now, rejected data."""
    text = read_schema_text(path)
    if text is None:
        return
    notes = _rejections(path)
    known = ""
    with contextlib.suppress(OSError):
        known = notes.read_text(encoding="utf-8")
    if _sum(text) not in known:
        _replace(notes, f"{known}{_sum(text)}\n")


def with_origin(body: str, origin: Origin) -> str:
    """Return the text of the artifact's schema.pbtxt: the origin in a comment, then the schema.

    A second file is not an option: TFX's readers take the only file of a schema's folder.
    """
    return f"{_MARK}{json.dumps(origin.to_json(), ensure_ascii=False)}\n{body}"


def read_origin(text: str) -> Origin:
    """Return the origin from the text of an artifact's schema.pbtxt.

    Raises:
        ValueError: If the text has none.
    """
    mark, _ = _split(text)
    if mark is None or "origin" not in mark:
        raise ValueError("a schema artifact must say its origin in its first line. Received: no such line")
    return Origin(mark["origin"], mark["path"], tuple(mark["added"]))


def _split(text: str) -> tuple[dict[str, Any] | None, str]:
    """Return the mark in the header, if any, and the text below it."""
    start = 0
    for line in text.splitlines(keepends=True):
        start += len(line)
        if line.startswith(_MARK):
            with contextlib.suppress(ValueError):
                return dict(json.loads(line[len(_MARK) :])), text[start:]
        if not line.startswith("#"):
            break
    return None, text


def _rejections(path: str | Path) -> Path:
    path = Path(path)
    return path.with_name(f".{path.name}.rejected")


def _replace(path: Path, text: str) -> bool:
    """Write `text` beside `path` and rename it into place; False where that is not possible."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        return False
    return True


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
