"""The data: splits, label balance, anomalies, statistics by feature, skew."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..charts.histogram import histogram
from ..charts.shares import shares
from ..facts import Facts, dig
from ..numbers import DASH, count, finite, percent, short, significant, size
from ..table import Cell, Column, Row, Table, number
from .split import told_split

__all__ = ["data"]

_MOST_CLASSES = 7
_MOST_CORRUPT = 100
_RARE = 0.01  # of the rows; where no text is more frequent, its values are not told apart
_SPLIT_MARKS = {"train": "s0", "eval": "s1", "test": "s2"}


def data(facts: Facts) -> dict[str, Any] | None:
    """Return what is known of the rows."""
    ingest = facts.evidence.get("ingest") or {}
    known = facts.summary.get("data") or {}
    splits = {
        name: n
        for name, n in (known.get("splits") or ingest.get("splits") or {}).items()
        if finite(n) is not None
    }
    found = {
        "splits": _splits(splits),
        "split": told_split(ingest, dig(facts.summary, "config", "data", "split") or {}),
        "label": _label(ingest.get("label") or {}),
        "corrupt": _corrupt(ingest, finite(dig(facts.summary, "config", "data", "max_corrupt_share"))),
        "files": _files(ingest.get("files") or ()),
        "anomalies": _anomalies(facts.evidence.get("anomalies")),
        "checked": facts.evidence.get("anomalies") is not None,
        "features": _features(facts),
        "sha256": known.get("sha256") or ingest.get("sha256"),
    }
    return found if any(value for value in found.values()) or facts.evidence.get("anomalies") == [] else None


def _splits(splits: Mapping[str, float]) -> dict[str, Any] | None:
    if not splits:
        return None
    marks = {name: _SPLIT_MARKS.get(name, f"s{index % 8}") for index, name in enumerate(splits)}
    return {
        "svg": shares([("rows", splits)], marks, "Rows of each split"),
        "legend": [(name, marks[name], count(n)) for name, n in splits.items()],
        "total": count(sum(splits.values())),
    }


def _label(label: Mapping[str, Any]) -> dict[str, Any] | None:
    counts = label.get("counts")
    if not isinstance(counts, Mapping) or not counts:
        return None
    totals: dict[str, float] = {}
    for held in counts.values():
        for name, n in held.items():
            totals[str(name)] = totals.get(str(name), 0) + n
    order = [str(name) for name in label.get("classes") or sorted(totals)]
    kept = (
        order
        if len(order) <= _MOST_CLASSES + 1
        else sorted(order, key=lambda name: -totals.get(name, 0))[:_MOST_CLASSES]
    )
    parts = kept + (["all others"] if len(kept) < len(order) else [])
    marks = {name: f"s{index % 8}" for index, name in enumerate(parts)}
    rows = []
    for split, held in counts.items():
        own: dict[str, float] = {name: held.get(name, 0) for name in kept}
        if len(kept) < len(order):
            own["all others"] = sum(held.values()) - sum(own.values())
        rows.append((str(split), own))
    return {
        "name": label.get("name") or "label",
        "svg": shares(rows, marks, f"Share of each class of {label.get('name')} by split"),
        "legend": [(name, marks[name], "") for name in parts],
    }


def _files(files: Sequence[Mapping[str, Any]]) -> Table | None:
    if not files:
        return None
    rows = [
        Row(
            [
                Cell(str(f.get("path"))),
                number(size(f.get("size_bytes")), finite(f.get("size_bytes"))),
                Cell(str(f.get("sha256") or DASH), css="mono hash"),
            ]
        )
        for f in files[:50]
    ]
    return Table(
        [Column("File"), Column("Size", True), Column("SHA-256")], rows, "Files read", tall=len(rows) > 10
    )


def _corrupt(ingest: Mapping[str, Any], most: float | None) -> dict[str, Any] | None:
    """Return the pictures that were left out since they cannot be decoded."""
    listed = ingest.get("corrupt") or ()
    total = finite(ingest.get("corrupt_rows")) or float(len(listed))
    if not total:
        return None
    rows = [
        Row([Cell(str(entry.get("path")), css="mono"), Cell(str(entry.get("reason")))])
        for entry in listed[:_MOST_CORRUPT]
    ]
    known = finite(ingest.get("rows"))
    return {
        "table": Table([Column("File"), Column("Why")], rows, "Images left out", tall=len(rows) > 10),
        "total": count(total),
        "named": count(len(rows)) if len(rows) < total else "",
        "share": percent(total / (known + total), 2) if known is not None else "",
        "most": percent(most, 2) if most is not None else "",
    }


def _anomalies(listed: Any) -> Table | None:
    if not listed:
        return None
    columns = [
        Column("Severity"),
        Column("Feature"),
        Column("Split"),
        Column("Rule"),
        Column("Expected"),
        Column("Found"),
        Column("Rows", True),
    ]
    rows = [
        Row(
            [
                Cell(
                    "✕ Error" if item.get("severity") == "error" else "! Warning",
                    css="chip bad" if item.get("severity") == "error" else "chip warn",
                ),
                Cell(str(item.get("feature")), css="mono"),
                Cell(str(item.get("split") or DASH)),
                Cell(str(item.get("rule") or DASH)),
                Cell(str(item.get("expected") or DASH)),
                Cell(str(item.get("found") or DASH)),
                number(count(item.get("count")), finite(item.get("count"))),
            ],
            css="failing" if item.get("severity") == "error" else "",
        )
        for item in sorted(listed, key=lambda item: item.get("severity") != "error")
    ]
    return Table(columns, rows, "Anomalies", sortable=True, tall=len(rows) > 14)


def _features(facts: Facts) -> dict[str, Any] | None:
    statistics = facts.evidence.get("statistics") or {}
    splits = [name for name in statistics if (statistics[name] or {}).get("features")]
    if not splits:
        return None
    names = list(dict.fromkeys(name for split in splits for name in statistics[split]["features"]))
    wanted = [*(facts.shown("ingest", "features") or ()), facts.shown("ingest", "label", "name")]
    rank = {name: index for index, name in enumerate(wanted)}
    names.sort(key=lambda name: rank.get(name, len(rank)))
    limit = finite(dig(facts.summary, "config", "validation", "max_skew"))
    columns = [
        Column("Feature"),
        Column(f"Missing in {splits[0]}", True, "Share of rows without a value"),
        Column(f"Values in {splits[0]}"),
        *[Column(split.capitalize()) for split in splits],
    ]
    others = [split for split in splits if split != "train"] if "train" in splits else []
    columns += [
        Column(
            f"Skew of {split}",
            True,
            "Distance from train, 0 to 1: Jensen-Shannon divergence on train's deciles; of text, largest "
            "difference of a share; rows without a value are one bin more",
        )
        for split in others
    ]
    label = facts.shown("ingest", "label", "name")
    skew = {
        (entry["split"], entry["feature"]): entry for entry in facts.shown("skew") or () if "split" in entry
    }
    rows = [_feature(name, statistics, splits, others, (limit, skew), name == label) for name in names]
    return {
        "table": Table(columns, rows, "Statistics of every column", sortable=True),
        "limit": significant(limit, 2) if limit else None,
    }


def _feature(
    name: str,
    statistics: Mapping[str, Any],
    splits: Sequence[str],
    others: Sequence[str],
    judged: tuple[float | None, Mapping[tuple[str, str], Any]],
    label: bool,
) -> Row:
    held = {split: statistics[split]["features"].get(name) for split in splits}
    first = held[splits[0]]
    known = next(item for item in held.values() if item)
    missing = None if first is None else first.get("missing")
    words = DASH if missing is None else percent(missing, 2) if missing else "none"
    spread = ", ".join(
        f"{split} {percent(item['missing'], 2)}"
        for split, item in held.items()
        if split != splits[0] and item and item.get("missing") != missing
    )
    kind = "label" if label else "list of numbers" if _is_list(known) else known["type"]
    cells = [
        Cell(name, note=kind, css="variant"),
        number(words, missing, note=spread, css="" if missing else "muted"),
        Cell(DASH) if first is None else _values(first),
        *[Cell(_spark(name, split, held[split]), sort=None) for split in splits],
    ]
    for split in others:
        cells.append(_skew(judged[0], judged[1].get((split, name)) or {}))
    return Row(cells)


def _skew(limit: float | None, entry: Mapping[str, Any]) -> Cell:
    """Return a split's distance from train, as the data gate judged it."""
    apart = finite(entry.get("value"))
    if apart is None:
        return number(DASH, None)
    chance = float(entry["chance"])
    hint = f"equal distributions are up to {significant(chance, 2)} apart by chance, in so few rows"
    if limit is None or apart <= limit:
        return number(significant(apart, 2), apart, hint=hint)
    far = apart > chance
    note = "over the limit" if far else "within chance"
    return number(significant(apart, 2), apart, hint=hint, note=note, css="far" if far else "")


def _is_list(item: Mapping[str, Any]) -> bool:
    return item["type"] == "number" and "lengths" in item


def _values(item: Mapping[str, Any]) -> Cell:
    if item["type"] == "image":
        return Cell(
            f"{size(item['mean_bytes'])} a file",
            note=f"{size(item['min_bytes'])} to {size(item['max_bytes'])}",
        )
    if item["type"] == "number":
        low, middle, high = (short(item.get(key)) for key in ("min", "median", "max"))
        return Cell(
            f"{low} · {middle} · {high}",
            note=_steps(item["lengths"])
            if "lengths" in item
            else f"mean {short(item.get('mean'))}, std {short(item.get('std'))}",
            hint="min · about the median · max",
        )
    common = item["top"][0][0] if item["top"] else DASH
    share = item["top"][0][1] / item["present"] if item["top"] and item["present"] else None
    if share is not None and share < _RARE and item.get("mean_length"):
        return Cell(
            f"{count(item['distinct'])} distinct", note=f"{short(item['mean_length'])} bytes on average"
        )
    return Cell(
        f"{count(item['distinct'])} distinct", note=f"most often {str(common)[:24]}, {percent(share)}"
    )


def _steps(lengths: Mapping[str, Any]) -> str:
    if lengths["min"] == lengths["max"]:
        return f"{count(lengths['max'])} numbers a row"
    between = f"{count(lengths['min'])} to {count(lengths['max'])} numbers a row"
    return f"{between}, {short(lengths['mean'])} on average"


def _spark(name: str, split: str, item: Mapping[str, Any] | None) -> Markup | str:
    if not item or item["type"] == "image":
        return DASH
    bins = [(str(value), n) for value, n in item.get("bins") or ()]
    if item["type"] == "text" and max((n for _, n in bins), default=0) < max(1, _RARE * item["present"]):
        return DASH  # free text: its most frequent values say nothing
    several = "lengths" in item
    of = sum(n for _, n in bins) if several or item["type"] == "number" else item["present"]
    label = f"Distribution of {name} in {split}"
    return histogram(bins, of, "s0", label, "values" if several else "rows") or DASH
