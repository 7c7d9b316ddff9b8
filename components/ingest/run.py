"""The ingest node: from files to shuffled TFRecord splits."""

import contextlib
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
from headrace.data.config import SPLITS, DataConfig, HashSplit
from headrace.data.derived import unwindowed
from headrace.data.errors import EnvironmentProblem
from headrace.data.readers.block import Block, Corrupt
from headrace.data.readers.rows import read_blocks, referenced_files
from headrace.data.readers.values import ARROW_TYPES
from headrace.data.row_hashes import HashedColumns, RowHashes
from headrace.data.row_keys import hashed_columns
from headrace.data.source import Source, check_source

from .fingerprint import combine_digests, digest_files
from .pending import Pending
from .row_records import RowRecords
from .shuffle import Spill, bucket_count
from .split import assign_splits
from .split_facts import check_splits, split_facts, split_words
from .survey import KEYS_FOLDER, Survey, survey
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
        split: How the rows were divided, as ingest.json tells it.
        corrupt: Pictures that were left out, the first 1,000.
        corrupt_rows: All rows that were left out.
        windows: Rows that windows were cut of, and windows left out for want of a label; None: rows are rows.
    """

    rows: dict[str, int]
    missing: dict[str, dict[str, int]]
    classes: list[str] | None
    counts: dict[str, dict[str, int]] | None
    split: dict[str, Any]
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
    words = "".join(f"; {words}" for words in split_words(found.split, found.rows["test"]))
    return NodeResult(
        f"{summary['rows']:,} rows: {parts}{said}{words}",
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
    hashed = hashed_columns(data, plan, source.names, source.paths)
    engine = (ctx.beam_runner, ctx.beam_args)
    tally, counted = read_and_write(source.paths, data, plan, hashed, seed, folder, ctx.temp_dir, engine)
    return conclude(tally, data, hashed, counted)


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
        temp_dir: For about as many bytes as the data has, and 19 a row; left empty.

    Raises:
        DataRejected: If the content breaks a rule; nothing has been written then.
    """
    spill_dir = os.path.join(temp_dir, "spill")
    os.makedirs(spill_dir)
    try:
        keys_dir = os.path.join(folder, KEYS_FOLDER)
        spill, found = _scatter(source, data, plan, seed, spill_dir, keys_dir)
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
        "split": found.split,
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
    source: Source, data: DataConfig, plan: ColumnPlan, seed: int, spill_dir: str, keys_dir: str
) -> tuple[Spill, Ingested]:
    """Read all rows once, check them, tell where they go, and spill them by split."""
    names = [column.name for column in plan.columns]
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in plan.columns])
    buckets = shuffle_buckets(source.paths, data, plan)
    tally = Tally(data, names)
    hashed = hashed_columns(data, plan, source.names, source.paths)
    windows = None if data.windows is None else CutWindows(data, plan, spill_dir, buckets)
    records = RowRecords(spill_dir, data.task in ("binary", "multiclass"))
    ticker = _Ticker()
    with Pending(spill_dir, schema) as pending, contextlib.closing(records):
        for rows in _read(source, data, plan, windows, hashed):
            tally.check(rows.block, plan)
            tally.note_times(rows.judged)
            splits = None if isinstance(data.split, HashSplit) else assign_splits(rows.judged, data.split)
            records.add(_hashes(rows.block), rows.block.batch.column(data.label), splits)
            pending.add(rows.block.batch.select(names))
            ticker.tell(records.rows)
    tally.check_seen()
    if isinstance(data.split, HashSplit):
        records.deal(data.split, tally.labels.totals)
    splits, first = records.splits(), 0
    with Spill(spill_dir, schema, buckets, seed) as spill:
        for batch in pending.read():
            tally.count(spill.add(batch, splits[first : first + batch.num_rows]))
            first += batch.num_rows
    counted = survey(records, splits, keys_dir)
    cut = None if windows is None else {"rows": windows.rows, "unlabelled": windows.unlabelled}
    return spill, conclude(tally, data, hashed, counted, cut)


class _Ticker:
    """Tells how far reading has come, once a second."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def tell(self, done: int) -> None:
        if time.monotonic() - self._said > _EVENT_INTERVAL_S:
            self._said = time.monotonic()
            emit("rows", done=done, text=f"read {done:,} rows")


def conclude(
    tally: Tally,
    data: DataConfig,
    hashed: HashedColumns,
    counted: Survey,
    windows: dict[str, int] | None = None,
) -> Ingested:
    """Judge what was counted in all rows.

    Args:
        tally: Of all rows.
        data: The `data` section.
        hashed: The columns that were hashed.
        counted: What the hashes told.
        windows: What windows were cut of.

    Raises:
        DataRejected: If the labels, dates, or the sizes of the splits break a rule.
    """
    tally.check_seen()
    check_splits(data, tally, counted.keys)
    classes = tally.labels.classes()
    counts = None
    if classes is not None:
        counts = {split: {label: tally.labels.counts[split][label] for label in classes} for split in SPLITS}
    return Ingested(
        tally.rows, tally.missing, classes, counts, split_facts(data, hashed, tally, counted),
        tuple(tally.corrupt), tally.corrupt_rows, windows,
    )  # fmt: skip


def gzip_level(plan: ColumnPlan) -> int:
    """Return how hard examples are compressed: pictures, which are so already, not at all."""
    return 0 if any(column.type == "image" for column in plan.columns) else 1


def shuffle_buckets(paths: Sequence[str], data: DataConfig, plan: ColumnPlan) -> int:
    """Return the number of buckets of the shuffle."""
    elsewhere = data.format != "images" and any(column.type == "image" for column in plan.columns)
    return bucket_count([(path, os.path.getsize(path)) for path in paths], elsewhere)


def _read(
    source: Source, data: DataConfig, plan: ColumnPlan, windows: CutWindows | None, hashed: HashedColumns
) -> Iterator[WindowRows]:
    """Yield what is written and what tells the split: the same rows, unless windows are cut of them."""
    blocks = read_blocks(source.paths, data, unwindowed(data, plan.read), hashed)
    if windows is not None:
        yield from windows.cut(blocks)
    else:
        yield from (WindowRows(block, block) for block in blocks)


def _hashes(block: Block) -> RowHashes:
    assert block.hashes is not None
    return block.hashes


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
