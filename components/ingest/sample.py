"""What ingest would refuse, looked for in the first rows: as much as can be read in about a second."""

import time
from dataclasses import dataclass

from headrace.data.columns import ColumnPlan
from headrace.data.config import DataConfig
from headrace.data.derived import unwindowed
from headrace.data.errors import DataRejected
from headrace.data.readers.block import Corrupt
from headrace.data.readers.rows import read_blocks
from headrace.data.source import Source

from .run import conclude
from .split import assign_splits
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
    """

    rows: int
    whole: bool
    corrupt: tuple[Corrupt, ...] = ()
    corrupt_rows: int = 0


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
    names = [column.name for column in plan.columns]
    tally, rows, whole = Tally(data, names), 0, True
    # Windows are cut across all rows of a series; single rows can be read, and no more be said of them.
    single = data.windows is None
    started = time.process_time()
    for block in read_blocks(source.paths, data, unwindowed(data, plan.read)):
        if rows >= _ROWS or time.process_time() - started > _CPU_S:
            whole = False
            break
        rows += block.batch.num_rows + len(block.corrupt)
        if single:
            tally.check(block, plan)
            splits = assign_splits(block, data, plan)
            batch = block.batch.select(names)
            tally.count([batch.filter(splits == place) for place in range(len(tally.rows))])
    if single and whole:
        conclude(tally, data)
    elif single:
        tally.labels.check_seen()
        tally.dates.check()
    share = tally.corrupt_rows / max(rows, 1)
    if whole and share > data.max_corrupt_share:
        first = tally.corrupt[0]
        raise DataRejected(
            f"at most {data.max_corrupt_share:.2%} of the pictures may be corrupt (data.max_corrupt_share). "
            f"Received: {tally.corrupt_rows:,} of {rows:,}; {first.path}: {first.reason}",
            "remove or replace them, or allow more",
        )
    return Sample(rows, whole, tuple(tally.corrupt), tally.corrupt_rows)
