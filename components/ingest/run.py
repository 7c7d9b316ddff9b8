"""The ingest node: from files to shuffled TFRecord splits."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
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

from .fingerprint import combine_digests, digest_files
from .shuffle import Spill, bucket_count
from .split import assign_splits
from .tally import Tally
from .tfrecord import write_shards
from .windows import CutWindows, WindowRows

__all__ = [
    "Ingested", "conclude", "gzip_level", "ingest", "kept_here", "run", "shuffle_buckets",
]  # fmt: skip

_EVENT_INTERVAL_S = 1.0
_PARTIAL = ".partial"


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
        found = _ingest(ctx, source, data, plan, partial)
        summary = summarize(source, data, plan, found)
        with open(os.path.join(partial, "ingest.json"), "w", encoding="utf-8") as stream:
            json.dump(summary, stream, indent=1, ensure_ascii=False)
    parts = ", ".join(f"{rows:,} {split}" for split, rows in found.rows.items())
    local = kept_here(data)
    said = f", not by Beam on {ctx.beam_runner}: {local}" if local and ctx.distributed else ctx.by_engine
    return NodeResult(
        f"{summary['rows']:,} rows: {parts}{said}",
        {
            "examples": {
                "rows": summary["rows"],
                "content_sha256": summary["sha256"],
                "beam_runner": "direct" if local else ctx.beam_runner,
            }
        },
    )


def _ingest(ctx: NodeContext, source: Source, data: DataConfig, plan: ColumnPlan, folder: str) -> Ingested:
    seed = int(ctx.config["seed"])
    if not ctx.distributed or kept_here(data):
        return ingest(source, data, plan, seed, folder, ctx.temp_dir)
    from .run_beam import read_and_write

    emit("phase", text=f"a Beam job on {ctx.beam_runner}")
    tally = read_and_write(
        source.paths, data, plan, seed, folder, ctx.temp_dir, (ctx.beam_runner, ctx.beam_args)
    )
    return conclude(tally, data)


def kept_here(data: DataConfig) -> str:
    """Say why ingest reads data in its own process even where Beam has an engine; "": it need not."""
    if data.windows is not None:
        return "windows are cut across rows"
    return "a folder of images is one listing" if data.format == "images" else ""


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
        level = gzip_level(plan)
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
    buckets = shuffle_buckets(source.paths, data, plan)
    tally = Tally(data, names)
    windows = None if data.windows is None else CutWindows(data, plan, spill_dir, buckets)
    said = time.monotonic()
    with Spill(spill_dir, schema, buckets, seed) as spill:
        for rows in _read(source, data, plan, windows):
            block = rows.block
            tally.check(block, plan)
            parts = spill.add(block.batch.select(names), assign_splits(rows.judged, data, plan))
            tally.count(parts)
            if time.monotonic() - said > _EVENT_INTERVAL_S:
                said = time.monotonic()
                done = sum(spill.rows.values())
                emit("rows", done=done, text=f"read {done:,} rows")
    cut = None if windows is None else {"rows": windows.rows, "unlabelled": windows.unlabelled}
    return spill, conclude(tally, data, cut)


def conclude(tally: Tally, data: DataConfig, windows: dict[str, int] | None = None) -> Ingested:
    """Judge what was counted in all rows.

    Args:
        tally: Of all rows.
        data: The `data` section.
        windows: What windows were cut of.

    Raises:
        DataRejected: If the labels, dates, or the sizes of the splits break a rule.
    """
    if tally.corrupt_rows and not any(tally.rows.values()):
        raise DataRejected(
            f"pictures must be decodable. Received: none of {tally.corrupt_rows:,}; "
            f"{tally.corrupt[0].path}: {tally.corrupt[0].reason}"
        )
    tally.dates.check()
    classes = tally.labels.classes()
    _check_splits(tally.rows, data)
    counts = None
    if classes is not None:
        counts = {split: {label: tally.labels.counts[split][label] for label in classes} for split in SPLITS}
    return Ingested(
        tally.rows, tally.missing, classes, counts, tuple(tally.corrupt), tally.corrupt_rows, windows
    )


def gzip_level(plan: ColumnPlan) -> int:
    """Return how hard examples are compressed: pictures, which are so already, not at all."""
    return 0 if any(column.type == "image" for column in plan.columns) else 1


def shuffle_buckets(paths: Sequence[str], data: DataConfig, plan: ColumnPlan) -> int:
    """Return the number of buckets of the shuffle."""
    elsewhere = data.format != "images" and any(column.type == "image" for column in plan.columns)
    return bucket_count([(path, os.path.getsize(path)) for path in paths], elsewhere)


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
