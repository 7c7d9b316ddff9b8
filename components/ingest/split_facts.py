"""What is told of a split: how it was made, why one is empty, and which rows may move."""

from collections.abc import Mapping
from typing import Any

from headrace.data.config import SPLITS, ColumnSplit, DataConfig, HashSplit, TimeSplit
from headrace.data.errors import DataRejected
from headrace.data.row_hashes import HashedColumns

from .deal import FEW_ROWS, RARE_ROWS
from .survey import Survey
from .tally import Tally

__all__ = ["check_splits", "rare_classes", "split_facts", "split_words"]


def rare_classes(totals: Mapping[str, int]) -> list[str]:
    """Return the classes whose rows are dealt out by rank, the rarest first."""
    return sorted((name for name, rows in totals.items() if rows < RARE_ROWS), key=lambda n: (totals[n], n))


def split_facts(data: DataConfig, hashed: HashedColumns, tally: Tally, survey: Survey) -> dict[str, Any]:
    """Return `split` of ingest.json."""
    split = data.split
    by_hash = isinstance(split, HashSplit)
    few = by_hash and sum(tally.rows.values()) < FEW_ROWS
    return {
        "method": split.method,
        "key": list(hashed.key),
        "seed": split.seed if isinstance(split, HashSplit) else None,
        "equal_keys": split.equal_keys if isinstance(split, HashSplit) else None,
        "ranked": {"all": few, "classes": rare_classes(tally.labels.totals) if by_hash and not few else []},
        "distinct": {"keys": survey.keys, "rows": survey.inputs, "test_rows": survey.test_inputs},
        "test_rows_seen": survey.shared,
    }


def split_words(facts: Mapping[str, Any], test_rows: int) -> list[str]:
    """Say in short sentences what a reader of figures on the test split should know of it."""
    found = []
    if facts["ranked"]["all"]:
        found.append(f"with under {FEW_ROWS:,} rows, some may change their split when rows are appended")
    elif rare := facts["ranked"]["classes"]:
        found.append(
            f"{len(rare):,} {'class has' if len(rare) == 1 else 'classes have'} fewer than {RARE_ROWS} rows, "
            "which may change their split when rows are appended"
        )
    if seen := facts["test_rows_seen"]:
        found.append(f"{seen:,} of {test_rows:,} test rows equal a training row in all that the model reads")
    return found


def check_splits(data: DataConfig, tally: Tally, keys: int | None) -> None:
    """Check that every split has rows.

    Args:
        data: The `data` section.
        tally: Of all rows.
        keys: Distinct keys of a hash split, where they were counted.

    Raises:
        DataRejected: If one has none; the message says why.
    """
    empty = [split for split in SPLITS if not tally.rows[split]]
    if empty:
        found = ", ".join(f"{count:,} {name}" for name, count in tally.rows.items())
        cause, hint = _cause(data, tally, empty[0], keys)
        raise DataRejected(
            f"every split must have rows. Received: {found}: {cause} "
            f"(data.split, method {data.split.method})",
            hint,
        )


def _cause(data: DataConfig, tally: Tally, empty: str, keys: int | None) -> tuple[str, str]:
    """Say why a split is empty, and what to do."""
    split = data.split
    if isinstance(split, ColumnSplit):
        values = " or ".join(repr(value) for value in getattr(split, empty))
        return (
            f"no row has {values} in column {split.column!r}",
            f"name the value of {empty} rows in `data.split.{empty}`",
        )
    if isinstance(split, TimeSplit):
        return _time_cause(split, empty, tally), "change the bounds of `data.split`"
    rows = sum(tally.rows.values())
    if split.equal_keys == "together" and keys is not None:
        named = ", ".join(split.key) or "all columns"
        return (
            f"{keys:,} distinct keys ({named}) in {rows:,} rows, and rows with equal keys share a split",
            "where rows with equal keys are draws of their own, set `data.split.equal_keys: spread`",
        )
    return (
        f"{rows:,} rows, of which {empty} gets a share of {getattr(split, empty):g}",
        "change the shares of `data.split`",
    )


def _time_cause(split: TimeSplit, empty: str, tally: Tally) -> str:
    first, last = tally.times or (None, None)
    column = f"in column {split.column!r}"
    if empty == "train":
        return f"no rows before eval_from {split.eval_from}; the earliest {column} is {first}"
    if empty == "eval":
        return (
            f"no rows from eval_from {split.eval_from} to before test_from {split.test_from}; "
            f"times {column} run from {first} to {last}"
        )
    return f"no rows on or after test_from {split.test_from}; the latest {column} is {last}"
