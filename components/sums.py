"""Sums of artifacts: recorded when a node ends, compared wherever an artifact is handed over.

The record of an artifact is a text, kept in ML Metadata as the custom property `SUMS` of the artifact: a
JSON list of [path, size, sha256], by path, paths relative to the artifact's folder. It does not depend on
where the folder lies, so it holds for a store that was moved or copied.

Beside it the store keeps stamps (size, times, inode) of the files when they were last found to hold their
sums, in `<store>/stamps/<node>/<output>/<execution>.json`: within a run nothing is then read twice. They are
only a cache: where they are lost, or the store was copied, the files are read again.

    text = record(folder, store)                      # when the node ends
    wrong = compare(folder, text, store)              # [] or the files that differ, each with what is wrong
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headrace.data.errors import EnvironmentProblem
from headrace.data.sums import Difference, FileEntry, Stamp, differences, file_entries, stamps, told

__all__ = ["JUDGED", "MADE_AGAIN", "SUMS", "compare", "entries_of", "judged", "record"]

SUMS = "sums"
"""Custom property of an artifact that holds its record."""

JUDGED = {"model": "Format-Serving", "variants": "", "transform_graph": "headrace"}
"""Input -> the folder in it that evaluation and infra judge, and a push publishes from; "": all."""

MADE_AGAIN = "start a new run: it makes again what was altered"
"""Hint where something is not as it was left."""


def record(folder: str, store: str | None = None) -> str:
    """Return the record of an artifact.

    Args:
        folder: The artifact's folder.
        store: Root of the store, which keeps the stamps of artifacts that lie in it; None keeps none.
    """
    before = stamps(folder)
    entries = file_entries(folder)
    _keep_stamps(folder, before, store)
    return json.dumps([[entry.path, entry.size, entry.sha256] for entry in entries], ensure_ascii=False)


def entries_of(text: str) -> list[FileEntry]:
    """Return the files that a record lists."""
    return [FileEntry(str(path), int(size), str(sha256)) for path, size, sha256 in json.loads(text)]


def compare(folder: str, text: str, store: str | None = None) -> list[Difference]:
    """Return how an artifact differs from its record; nothing where it does not.

    Args:
        folder: The artifact's folder.
        text: Its record.
        store: Root of the store.
    """
    known, before = _known_stamps(folder, store), stamps(folder)
    found = differences(folder, entries_of(text), known)
    if not found and known != before:
        _keep_stamps(folder, before, store)
    return found


@contextlib.contextmanager
def judged(inputs: Mapping[str, Sequence[str]]) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Give the sums of the files that are judged in the block, which must stay the same till its end.

    Args:
        inputs: Input name -> URIs of its artifacts; those of `JUDGED` are summed.

    Returns:
        Name of the input -> `{path, size, sha256}` of its files, paths relative to the artifact.

    Raises:
        EnvironmentProblem: If a file has changed meanwhile.
    """
    places = {name: os.path.join(*inputs[name], part) for name, part in JUDGED.items()}
    known = {name: stamps(place) for name, place in places.items()}
    found = {name: file_entries(place) for name, place in places.items()}
    yield {
        name: [asdict(entry) | {"path": os.path.join(JUDGED[name], entry.path)} for entry in entries]
        for name, entries in found.items()
    }
    for name, place in places.items():
        if changed := differences(place, found[name], known[name]):
            raise EnvironmentProblem(
                f"what is judged must stay the same meanwhile. Received: {told(changed)} ({place})",
                MADE_AGAIN,
            )


def _stamps_path(folder: str, store: str | None) -> Path | None:
    if store is None:
        return None
    relative = os.path.relpath(os.path.abspath(folder), os.path.join(os.path.abspath(store), "artifacts"))
    return None if relative.startswith(os.pardir) else Path(store, "stamps", f"{relative}.json")


def _known_stamps(folder: str, store: str | None) -> dict[str, Stamp]:
    path = _stamps_path(folder, store)
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): tuple(stamp) for name, stamp in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # only a cache: without it the files are read


def _keep_stamps(folder: str, before: Mapping[str, Stamp], store: str | None) -> None:
    """Keep the stamps that files had before they were read and have still."""
    path = _stamps_path(folder, store)
    if path is None:
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with contextlib.suppress(OSError):  # only a cache
        kept = {name: stamp for name, stamp in stamps(folder).items() if before.get(name) == stamp}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(kept), encoding="utf-8")
        os.replace(partial, path)
