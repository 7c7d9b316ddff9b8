"""The ingest node: from files to shuffled TFRecord splits."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from headrace.components.node import NodeContext, NodeResult, emit
from headrace.data.columns import ColumnPlan, plan_columns
from headrace.data.config import SPLITS, DataConfig
from headrace.data.derived import unwindowed
from headrace.data.errors import DataRejected, EnvironmentProblem
from headrace.data.readers.block import Corrupt
from headrace.data.readers.rows import read_blocks, referenced_files
from headrace.data.readers.values import ARROW_TYPES
from headrace.data.source import Source, check_source

from .codes import check_codes
from .fingerprint import combine_digests, digest_files
from .labels import LabelTally
from .shuffle import Spill, bucket_count
from .split import assign_splits
from .tfrecord import write_shards
from .windows import CutWindows, WindowRows

__all__ = ["Ingested", "ingest", "run"]

_EVENT_INTERVAL_S = 1.0
_PARTIAL = ".partial"
_MOST_CORRUPT = 1000


@dataclass(frozen=True)
class Ingested:
    """What was counted while reading.

    Attributes:
        rows: Split -> rows.
        missing: Split -> column -> rows without a value.
        classes: Label values in output order; None for regression.
        counts: Split -> label value -> rows; None for regression.
        corrupt: Pictures that were left out, the first 1,000.
        corrupt_rows: All rows that were left out.
        windows: Rows that windows were cut of, and windows left out for want of a label; None: rows are rows.
    """

    rows: dict[str, int]
    missing: dict[str, dict[str, int]]
    classes: list[str] | None
    counts: dict[str, dict[str, int]] | None
    corrupt: tuple[Corrupt, ...] = ()
    corrupt_rows: int = 0
    windows: dict[str, int] | None = None


def run(ctx: NodeContext) -> NodeResult:
    """Read, check, split, shuffle and encode the rows of the config's data set."""
    data = DataConfig.model_validate(ctx.config["data"])
    usages = [(str(column), usage) for column, usage in ctx.config["usages"]]
    plan = plan_columns(data, usages, ctx.config["evaluation.slices"])
    source = check_source(data, plan)
    folder = ctx.outputs["examples"]
    with _all_or_nothing(folder) as partial:
        found = ingest(source, data, plan, int(ctx.config["seed"]), partial, ctx.temp_dir)
        summary = summarize(source, data, plan, found)
        with open(os.path.join(partial, "ingest.json"), "w", encoding="utf-8") as stream:
            json.dump(summary, stream, indent=1, ensure_ascii=False)
    parts = ", ".join(f"{rows:,} {split}" for split, rows in found.rows.items())
    return NodeResult(
        f"{summary['rows']:,} rows: {parts}",
        {"examples": {"rows": summary["rows"], "content_sha256": summary["sha256"]}},
    )


def ingest(
    source: Source, data: DataConfig, plan: ColumnPlan, seed: int, folder: str, temp_dir: str
) -> Ingested:
    """Write the TFRecord shards of every split.

    Args:
        source: The files.
        data: The `data` section.
        plan: The columns that the config uses.
        seed: Of the shuffle of the training split.
        folder: Where `Split-*` folders are made.
        temp_dir: For about as many bytes as the data has; left empty.

    Raises:
        DataRejected: If the content breaks a rule; nothing has been written then.
    """
    spill_dir = os.path.join(temp_dir, "spill")
    os.makedirs(spill_dir)
    try:
        spill, found = _scatter(source, data, plan, seed, spill_dir)
        done = 0
        level = 0 if any(column.type == "image" for column in plan.columns) else 1
        for split in SPLITS:
            target = os.path.join(folder, f"Split-{split}")
            os.makedirs(target)
            write_shards(target, spill.read(split), found.rows[split], data.shards, level)
            done += found.rows[split]
            emit("rows", done=done, total=sum(found.rows.values()), text=f"wrote {split}")
    finally:
        shutil.rmtree(spill_dir, ignore_errors=True)
    return found


def summarize(source: Source, data: DataConfig, plan: ColumnPlan, found: Ingested) -> dict[str, Any]:
    """Return the content of `ingest.json`."""
    digests = digest_files([*source.paths, *referenced_files(source.paths, data, plan.read)])
    return {
        "rows": sum(found.rows.values()),
        "splits": found.rows,
        "sha256": combine_digests(digests),
        "files": [asdict(digest) for digest in digests],
        "columns": [
            {
                "name": column.name,
                "type": column.type,
                "missing": {split: found.missing[split][column.name] for split in SPLITS},
            }
            for column in plan.columns
        ],
        "features": list(plan.features),
        "label": {"name": data.label, "task": data.task, "classes": found.classes, "counts": found.counts},
        "weight": data.weight,
        "corrupt": [asdict(entry) for entry in found.corrupt],
        "corrupt_rows": found.corrupt_rows,
        "windows": found.windows,
    }


def _scatter(
    source: Source, data: DataConfig, plan: ColumnPlan, seed: int, spill_dir: str
) -> tuple[Spill, Ingested]:
    """Read all rows once: check them, and spill them by split."""
    names = [column.name for column in plan.columns]
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in plan.columns])
    elsewhere = data.format != "images" and any(column.type == "image" for column in plan.columns)
    buckets = bucket_count([(path, os.path.getsize(path)) for path in source.paths], elsewhere)
    missing = {split: dict.fromkeys(names, 0) for split in SPLITS}
    windows = None if data.windows is None else CutWindows(data, plan, spill_dir, buckets)
    labels = LabelTally(data)
    corrupt: list[Corrupt] = []
    corrupt_rows = 0
    said = time.monotonic()
    with Spill(spill_dir, schema, buckets, seed) as spill:
        for rows in _read(source, data, plan, windows):
            block = rows.block
            corrupt_rows += len(block.corrupt)
            corrupt += block.corrupt[: _MOST_CORRUPT - len(corrupt)]
            labels.check(block)
            check_codes(block, plan)
            parts = spill.add(block.batch.select(names), assign_splits(rows.judged, data, plan))
            for split, part in zip(SPLITS, parts, strict=True):
                labels.count(split, part.column(data.label))
                for name, column in zip(names, part.columns, strict=True):
                    missing[split][name] += column.null_count
            if time.monotonic() - said > _EVENT_INTERVAL_S:
                said = time.monotonic()
                done = sum(spill.rows.values())
                emit("rows", done=done, text=f"read {done:,} rows")
    if corrupt_rows and not any(spill.rows.values()):
        raise DataRejected(
            f"pictures must be decodable. Received: none of {corrupt_rows:,}; {corrupt[0].path}: "
            f"{corrupt[0].reason}"
        )
    classes = labels.classes()
    _check_splits(spill.rows, data)
    cut = None if windows is None else {"rows": windows.rows, "unlabelled": windows.unlabelled}
    counts = None
    if classes is not None:
        counts = {split: {label: labels.counts[split][label] for label in classes} for split in SPLITS}
    return spill, Ingested(spill.rows, missing, classes, counts, tuple(corrupt), corrupt_rows, cut)


def _read(
    source: Source, data: DataConfig, plan: ColumnPlan, windows: CutWindows | None
) -> Iterator[WindowRows]:
    """Yield what is written and what tells the split: the same rows, unless windows are cut of them."""
    blocks = read_blocks(source.paths, data, unwindowed(data, plan.read))
    if windows is not None:
        yield from windows.cut(blocks)
    else:
        yield from (WindowRows(block, block) for block in blocks)


def _check_splits(rows: dict[str, int], data: DataConfig) -> None:
    for split in SPLITS:
        if not rows[split]:
            found = ", ".join(f"{count:,} {name}" for name, count in rows.items())
            raise DataRejected(
                f"every split must have rows. Received: {found} (data.split, method {data.split.method})",
                "change the bounds or shares of `data.split`",
            )


@contextmanager
def _all_or_nothing(folder: str) -> Iterator[str]:
    """Give a folder to write into; its content appears in `folder` only if no error was raised."""
    partial = os.path.join(folder, _PARTIAL)
    try:
        os.makedirs(partial)
        yield partial
        for name in sorted(os.listdir(partial)):
            os.replace(os.path.join(partial, name), os.path.join(folder, name))
    except OSError as error:
        reason = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in reason
        raise EnvironmentProblem(
            f"examples must be writable. Received: {reason} ({folder})",
            "free disk space, or move `output.runs` to a larger disk" if full else "",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
