"""Distributions of every split on common bins: chosen once, counted row by row.

Bins are train's own and open at both ends, so that no value of another split moves them and none is left
out. They are chosen from the first rows of each split, which ingest has shuffled; the counts are of all rows.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "DISTRIBUTION_FILE", "SAMPLE_ROWS", "Bins", "Distribution", "choose_bins", "count_values", "merge",
    "read_distributions", "write_distribution",
]  # fmt: skip

DISTRIBUTION_FILE = "distribution.json"

SAMPLE_ROWS = 16_384
"""Rows of a split that its bins are chosen from, at most."""

_DRAWN_BINS = 20
_NAMED_VALUES = 50
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Bins:
    """The bins of one column, the same for every split.

    Attributes:
        edges: Of numbers: n rising bounds of n + 1 bins that splits are compared on. A bin holds its lower
            bound and not its upper one; the first has no lower, the last no upper end.
        drawn: The same, of the bins that the report draws: about equally wide.
        values: Of texts: the values that are counted by name; all others are counted together.
        integer: Whether the numbers are whole.
    """

    edges: tuple[float, ...] = ()
    drawn: tuple[float, ...] = ()
    values: tuple[str, ...] | None = None
    integer: bool = False


@dataclass
class Distribution:
    """How often each bin of one column occurs in one split.

    Attributes:
        bins: Its bins.
        present: Rows with a value.
        counts: Values in each bin of `bins.edges`, or of each of `bins.values` and then of all others.
        drawn: Values in each bin of `bins.drawn`.
    """

    bins: Bins
    present: int = 0
    counts: list[int] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)

    def shares(self, rows: int) -> np.ndarray:
        """Return the share of each bin and, last, of rows without a value, float64, with the sum 1."""
        total, missing = sum(self.counts), 1 - self.present / rows
        held = np.array(self.counts, float) / total * (1 - missing) if total else np.zeros(len(self.counts))
        return np.append(held, missing)


def choose_bins(
    samples: Mapping[str, Sequence[pa.RecordBatch]], skipped: Sequence[str] = ()
) -> dict[str, Bins]:
    """Choose the bins of every column.

    Args:
        samples: Split -> its first rows.
        skipped: Columns without bins, such as pictures.

    Returns:
        Column -> its bins, by name. Numbers: between train's deciles. Texts: the most frequent values of each
        split. Columns that are numbers in one split and texts in another are left out.
    """
    columns: dict[str, dict[str, list[Any]]] = {}
    for split in sorted(samples, key=lambda name: (name != "train", name)):
        for batch in samples[split]:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if name not in skipped and not pa.types.is_null(column.type):
                    columns.setdefault(name, {}).setdefault(split, []).append(_values(column)[0])
    found = {}
    for name, held in sorted(columns.items()):
        values = {split: pa.chunked_array(parts) for split, parts in held.items()}
        if len({_is_text(part.type) for part in values.values()}) == 1:
            first = next(iter(values.values()))
            found[name] = _text_bins(values.values()) if _is_text(first.type) else _number_bins(first)
    return found


def count_values(batch: pa.RecordBatch, bins: Mapping[str, Bins]) -> dict[str, Distribution]:
    """Count the rows of one batch."""
    found = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in bins and not pa.types.is_null(column.type):
            values, present = _values(column)
            found[name] = _counted(values, present, bins[name])
    return found


def merge(parts: Iterable[Mapping[str, Distribution]], bins: Mapping[str, Bins]) -> dict[str, Distribution]:
    """Add up what batches hold; columns that none has are counted as absent."""
    found = {name: _counted(pa.array([], _type_of(b)), 0, b) for name, b in bins.items()}
    for part in parts:
        for name, more in part.items():
            held = found[name]
            held.present += more.present
            held.counts = [a + b for a, b in zip(held.counts, more.counts, strict=True)]
            held.drawn = [a + b for a, b in zip(held.drawn, more.drawn, strict=True)]
    return found


def write_distribution(path: Path, rows: int, columns: Mapping[str, Distribution]) -> None:
    """Write the distributions of one split as docs/artifacts.md describes them."""
    document = {"rows": rows, "columns": {name: _to_json(column) for name, column in columns.items()}}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_distributions(folder: Path) -> dict[str, tuple[int, dict[str, Distribution]]]:
    """Read a statistics artifact: split -> its rows and its columns' distributions, train first."""
    found = {}
    for path in sorted(folder.glob(f"Split-*/{DISTRIBUTION_FILE}")):
        document = json.loads(path.read_text(encoding="utf-8"))
        columns = {name: _from_json(column) for name, column in document["columns"].items()}
        found[path.parent.name.removeprefix("Split-")] = (int(document["rows"]), columns)
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "train", name))}


def _to_json(column: Distribution) -> dict[str, Any]:
    bins = column.bins
    if bins.values is not None:
        return {"present": column.present, "values": list(bins.values), "counts": column.counts}
    return {
        "present": column.present,
        "edges": list(bins.edges),
        "counts": column.counts,
        "drawn_edges": list(bins.drawn),
        "drawn": column.drawn,
        "integer": bins.integer,
    }


def _from_json(fields: Mapping[str, Any]) -> Distribution:
    if "values" in fields:
        return Distribution(Bins(values=tuple(fields["values"])), fields["present"], fields["counts"])
    bins = Bins(tuple(fields["edges"]), tuple(fields["drawn_edges"]), None, fields["integer"])
    return Distribution(bins, fields["present"], fields["counts"], fields["drawn"])


def _values(column: Any) -> tuple[Any, int]:
    """Return the values of a column of lists, NaN left out, and the number of rows with any."""
    values, rows = column.flatten(), pc.list_parent_indices(column)
    if pa.types.is_floating(values.type):
        known = pc.invert(pc.is_nan(values))
        values, rows = values.filter(known), rows.filter(known)
    return values, pc.count_distinct(rows).as_py()


def _is_text(kind: Any) -> bool:
    return not (pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _type_of(bins: Bins) -> Any:
    return pa.large_binary() if bins.values is not None else pa.float64()


def _counted(values: Any, present: int, bins: Bins) -> Distribution:
    if bins.values is not None:
        names = pa.array([name.encode() for name in bins.values], values.type)
        places = pc.fill_null(pc.index_in(values, names), len(bins.values)).to_numpy(zero_copy_only=False)
        return Distribution(bins, present, np.bincount(places, minlength=len(bins.values) + 1).tolist())
    numbers = values.to_numpy(zero_copy_only=False)
    return Distribution(bins, present, _binned(numbers, bins.edges), _binned(numbers, bins.drawn))


def _binned(numbers: np.ndarray, edges: Sequence[float]) -> list[int]:
    places = np.searchsorted(np.array(edges, float), numbers, side="right")
    return list(np.bincount(places, minlength=len(edges) + 1).tolist())


def _text_bins(splits: Iterable[Any]) -> Bins:
    names: dict[str, None] = {}
    for values in splits:
        names.update(dict.fromkeys(_most_frequent(values)))
    return Bins(values=tuple(names))


def _most_frequent(values: Any) -> Iterator[str]:
    """Yield the most frequent texts, but bytes that are no text."""
    counts = Counter({item["values"]: item["counts"] for item in pc.value_counts(values).to_pylist()})
    for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_NAMED_VALUES]:
        try:
            name = value.decode()
        except UnicodeDecodeError:
            continue
        if len(name) <= _LONGEST_NAME:
            yield name


def _number_bins(values: Any) -> Bins:
    numbers = np.sort(values.to_numpy().astype(float))
    numbers = numbers[np.isfinite(numbers)]
    integer = pa.types.is_integer(values.type)
    if not numbers.size:
        return Bins(integer=integer)
    deciles = numbers[(np.arange(1, 10) * numbers.size + 9) // 10 - 1]
    edges = _compared_edges([numbers[0], *deciles, numbers[-1]], 1.0 if integer else 0.0)
    return Bins(edges, _drawn_edges(numbers, deciles, integer) or edges, None, integer)


def _compared_edges(quantiles: Sequence[float], step: float) -> tuple[float, ...]:
    """Return bounds at the deciles; a value of a tenth of the rows has a bin of its own."""
    edges = set(quantiles[1:-1])
    for value, next_one in pairwise(quantiles):
        if value == next_one:
            edges |= {value, value + step if step else float(np.nextafter(value, np.inf))}
    return tuple(sorted(map(float, edges)))


def _drawn_edges(numbers: np.ndarray, deciles: np.ndarray, integer: bool) -> tuple[float, ...]:
    """Return bounds of equally wide bins over all but far outliers; none where most rows have one value."""
    room = deciles[-1] - deciles[0]
    low, high = max(numbers[0], deciles[0] - room), min(numbers[-1], deciles[-1] + room)
    if not room > 0 or not np.isfinite(high - low):
        return ()
    if integer:
        step = max(1.0, np.ceil((high - low + 1) / _DRAWN_BINS))
        return tuple(np.arange(low + step, high + 1, step).tolist())
    return tuple(np.linspace(low, high, _DRAWN_BINS + 1)[1:-1].tolist())
