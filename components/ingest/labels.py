"""What the label and weight columns must be, and what was counted of them."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from headrace.data.config import SPLITS, DataConfig
from headrace.data.errors import DataRejected
from headrace.data.readers.block import Block
from headrace.data.readers.values import first_true

__all__ = ["LabelTally", "sort_classes"]

_MAX_CLASSES = 10_000
_MOST_NAMED = 20


class LabelTally:
    """Checks labels and weights block by block, then all that was seen.

    Args:
        data: The `data` section.

    Attributes:
        totals: Class -> rows that were checked, where a row has one class.
        counts: Split -> class -> rows that were counted.
    """

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._missing = 0
        self._first_missing = ""
        self._low: float | None = None
        self._high: float | None = None
        self.totals: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}

    def check(self, block: Block) -> None:
        """Check the rows of a block.

        Raises:
            DataRejected: If a label is not a declared class, or a weight is missing or negative.
        """
        labels = block.batch.column(self._data.label)
        if labels.null_count and self._data.task != "multilabel":
            self._first_missing = self._first_missing or block.place(first_true(labels.is_null()) or 0)
            self._missing += labels.null_count
        if self._data.task == "regression":
            limits = pc.min_max(labels)
            low, high = limits["min"].as_py(), limits["max"].as_py()
            if low is not None:
                self._low = low if self._low is None else min(low, self._low)
                self._high = high if self._high is None else max(high, self._high)
        elif self._data.classes:
            self._check_classes(block, labels)
        if self._data.task in ("binary", "multiclass"):
            for item in pc.value_counts(labels.drop_null()):
                self.totals[item["values"].as_py()] += item["counts"].as_py()
            self._bound(self.totals)
        if self._data.weight is not None:
            self._check_weights(block, block.batch.column(self._data.weight))

    def count(self, split: str, labels: pa.Array) -> None:
        """Count the labels of rows that went to `split`; of several in one text each one."""
        if self._data.task == "regression":
            return
        for item in pc.value_counts(labels.drop_null()):
            value, rows = item["values"].as_py(), item["counts"].as_py()
            for label in self._split(value):
                self.counts[split][label] += rows
        self._bound(self.counts[split])

    def merge(self, other: "LabelTally") -> None:
        """Take in what another tally found in later rows."""
        self._missing += other._missing
        self._first_missing = self._first_missing or other._first_missing
        for value in (other._low, other._high):
            if value is not None:
                self._low = value if self._low is None else min(value, self._low)
                self._high = value if self._high is None else max(value, self._high)
        for split, counts in other.counts.items():
            self.counts[split] += counts
            self._bound(self.counts[split])
        self.totals += other.totals
        self._bound(self.totals)

    def check_seen(self) -> None:
        """Judge what was seen so far.

        Raises:
            DataRejected: If labels are missing or too many.
        """
        name = self._data.label
        if self._missing:
            raise DataRejected(
                f"every row must have a label. Received: {self._missing:,} rows without {name!r}, "
                f"the first at {self._first_missing}",
                "drop those rows, or correct `data.csv.null_values`",
            )
        if self._data.task == "binary" and len(self.totals) > 2:
            raise DataRejected(
                f"a binary label must have two classes. Received: {len(self.totals)}, {_listed(self.totals)} "
                f"(column {name!r})",
                "set `data.task` to multiclass, or to regression for a number",
            )

    def classes(self) -> list[str] | None:
        """Return the classes in output order (None for regression) once all rows were seen.

        Raises:
            DataRejected: If labels are missing, too few or too many, or absent from training.
        """
        self.check_seen()
        name = self._data.label
        if self._data.task == "regression":
            if self._low == self._high:
                raise DataRejected(
                    f"the label must vary. Received: {self._low} in every row (column {name!r})"
                )
            return None
        seen = sum(self.counts.values(), Counter())
        if len(seen) < 2:
            raise DataRejected(
                f"the label must have at least two classes. Received: {_listed(seen)} in every row "
                f"(column {name!r})"
            )
        classes = list(self._data.classes) or sort_classes(seen)
        unseen = [label for label in classes if not self.counts[SPLITS[0]][label]]
        if unseen:
            told = [f"class {label!r} with {self._rows_of(label)} rows" for label in unseen[:_MOST_NAMED]]
            more = f"; and {len(unseen) - _MOST_NAMED:,} more" if len(unseen) > _MOST_NAMED else ""
            raise DataRejected(
                "every class must occur in the training split. Received: "
                f"{'; '.join(told)}{more} (column {name!r})"
            )
        return classes

    def _rows_of(self, label: str) -> str:
        return ", ".join(f"{self.counts[split][label]:,} {split}" for split in SPLITS)

    def _bound(self, counts: Counter[str]) -> None:
        if len(counts) > _MAX_CLASSES:
            raise DataRejected(
                f"a classification label must have at most {_MAX_CLASSES} values. Received: more "
                f"(data.label: {self._data.label})",
                "for a number to predict set `data.task: regression`",
            )

    def _check_classes(self, block: Block, labels: pa.Array) -> None:
        known = {*self._data.classes}
        odd = [
            text
            for text in pc.unique(labels.drop_null()).to_pylist()
            if not known.issuperset(self._split(text))
        ]
        if odd:
            at = first_true(pc.is_in(labels, value_set=pa.array(odd, pa.string()))) or 0
            what = "hold only" if self._data.task == "multilabel" else "be one of"
            raise DataRejected(
                f"label {self._data.label!r} must {what} {_listed(self._data.classes)} "
                f"(data.classes). Received: {labels[at].as_py()!r} ({block.place(at)})"
            )

    def _split(self, text: str) -> list[str]:
        """Return the classes in the text of a label, each once."""
        if self._data.task != "multilabel":
            return [text]
        return [part for part in dict.fromkeys(text.split(self._data.label_separator)) if part]

    def _check_weights(self, block: Block, weights: pa.Array) -> None:
        bad = first_true(pc.fill_null(pc.less(weights, 0), True))
        if bad is not None:
            value = weights[bad].as_py()
            raise DataRejected(
                f"example weights must be >= 0. Received: {'no value' if value is None else value} in column "
                f"{self._data.weight!r} ({block.place(bad)})"
            )


def sort_classes(labels: Iterable[str]) -> list[str]:
    """Sort label values: as numbers where all are numbers, else as text."""
    values = sorted(labels)
    try:
        return sorted(values, key=float)
    except ValueError:
        return values


def _listed(values: Iterable[str]) -> str:
    names = sort_classes(values)
    return ", ".join(repr(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")
