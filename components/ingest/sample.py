"""What ingest would refuse, looked for in the first rows: as much as can be read in about a second."""

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass

import pyarrow as pa

from headrace.data.columns import ColumnPlan
from headrace.data.config import DataConfig, HashSplit
from headrace.data.derived import unwindowed
from headrace.data.errors import DataRejected
from headrace.data.readers.block import Block, Corrupt
from headrace.data.readers.rows import read_blocks
from headrace.data.readers.values import ARROW_TYPES
from headrace.data.row_keys import hashed_columns
from headrace.data.source import Source

from .pending import Pending
from .row_records import RowRecords
from .run import Ingested, conclude
from .split import assign_splits
from .survey import survey
from .tally import Tally

__all__ = ["Sample", "check_sample"]

_CPU_S = 0.8
_ROWS = 200_000


@dataclass(frozen=True)
class Sample:
    """What was read of a data set.

    Attributes:
        rows: Rows that were looked at.
        whole: Whether these are all.
        corrupt: Pictures among them that cannot be decoded, the first 1,000.
        corrupt_rows: How many there are.
        ingested: What ingest will count; None unless all rows were looked at, one by one.
    """

    rows: int
    whole: bool
    corrupt: tuple[Corrupt, ...] = ()
    corrupt_rows: int = 0
    ingested: Ingested | None = None


def check_sample(source: Source, data: DataConfig, plan: ColumnPlan) -> Sample:
    """Read the first rows as ingest does, without writing any.

    Args:
        source: The files, from `check_source`.
        data: The `data` section.
        plan: The columns that the config uses.

    Raises:
        DataRejected: If a row breaks a rule; the error is ingest's own. Rules on all rows, such as that every
            split has some, are held only to data that was read whole.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-sample-") as folder:
        reader = _Reader(source, data, plan, folder)
        whole = reader.read()
        tally, rows = reader.tally, reader.rows
        # Windows are cut across all rows of a series; single rows can be read, and no more be said of them.
        ingested = reader.conclude() if whole and data.windows is None else None
        if ingested is None and data.windows is None:
            tally.check_seen()
    share = tally.corrupt_rows / max(rows, 1)
    if whole and share > data.max_corrupt_share:
        first = tally.corrupt[0]
        raise DataRejected(
            f"at most {data.max_corrupt_share:.2%} of the pictures may be corrupt (data.max_corrupt_share). "
            f"Received: {tally.corrupt_rows:,} of {rows:,}; {first.path}: {first.reason}",
            "remove or replace them, or allow more",
        )
    return Sample(rows, whole, tuple(tally.corrupt), tally.corrupt_rows, ingested)


class _Reader:
    """Reads rows until time is up, and keeps of each what tells its split and class.

    Args:
        source, data, plan: As `check_sample` takes them.
        folder: For what is kept.
    """

    def __init__(self, source: Source, data: DataConfig, plan: ColumnPlan, folder: str) -> None:
        self._source, self._data, self._plan, self._folder = source, data, plan, folder
        self._hashed = hashed_columns(data, plan, source.names, source.paths)
        self._records = RowRecords(folder, data.task in ("binary", "multiclass"))
        self._pending = Pending(folder, pa.schema([(data.label, ARROW_TYPES[plan.type_of(data.label)])]))
        self.tally = Tally(data, [data.label])
        self.rows = 0

    def read(self) -> bool:
        """Read, and tell whether all rows were."""
        started = time.process_time()
        columns = unwindowed(self._data, self._plan.read)
        with contextlib.closing(self._records), self._pending:
            for block in read_blocks(self._source.paths, self._data, columns, self._hashed):
                if self.rows >= _ROWS or time.process_time() - started > _CPU_S:
                    return False
                self.rows += block.batch.num_rows + len(block.corrupt)
                if self._data.windows is None:
                    self._keep(block)
        return True

    def _keep(self, block: Block) -> None:
        self.tally.check(block, self._plan)
        self.tally.note_times(block)
        split = self._data.split
        splits = None if isinstance(split, HashSplit) else assign_splits(block, split)
        assert block.hashes is not None
        self._records.add(block.hashes, block.batch.column(self._data.label), splits)
        self._pending.add(block.batch.select([self._data.label]))

    def conclude(self) -> Ingested:
        """Judge all rows as ingest does."""
        self.tally.check_seen()
        if isinstance(self._data.split, HashSplit):
            self._records.deal(self._data.split, self.tally.labels.totals)
        splits, first = self._records.splits(), 0
        for batch in self._pending.read():
            part = splits[first : first + batch.num_rows]
            self.tally.count([batch.filter(pa.array(part == place)) for place in range(len(self.tally.rows))])
            first += batch.num_rows
        counted = survey(self._records, splits, os.path.join(self._folder, "keys"))
        return conclude(self.tally, self._data, self._hashed, counted)
