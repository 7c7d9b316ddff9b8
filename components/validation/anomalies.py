"""The `validation` node: anomalies against the schema, skew between splits, and the data gates."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tensorflow_data_validation as tfdv

from headrace.components.gates.splits import judge_splits
from headrace.components.gates.state import Bound, Gate, write_gates
from headrace.components.node import NodeContext, NodeResult
from headrace.data.config import DataConfig

from .distributions import read_distributions
from .explain import AnomalyRow, explain
from .schema import SCHEMA_FILE
from .schema_file import Origin, note_rejection, parse_schema, read_origin
from .skew import Distance, judge_skew, measure_skew, skew_rows
from .statistics import read_statistics

__all__ = ["ANOMALIES_FILE", "judge_data", "judge_pictures", "run"]

ANOMALIES_FILE = "SchemaDiff.pb"

_MOST_NAMED = 10


def run(ctx: NodeContext) -> NodeResult:
    """Write `Split-*/SchemaDiff.pb`, `anomalies.json`, `skew.json`, `schema_origin.json`, `gates.json`.

    Always finishes: the `data_verdict` node acts on the gates.
    """
    text = Path(ctx.input("schema"), SCHEMA_FILE).read_text(encoding="utf-8")
    schema, origin = parse_schema(text, ctx.input("schema")), read_origin(text)
    statistics = read_statistics(Path(ctx.input("statistics")))
    ingest = json.loads(Path(ctx.input("examples"), "ingest.json").read_text(encoding="utf-8"))
    unused = _unused_columns(schema, ingest)
    rows: list[AnomalyRow] = []
    for split, entry in statistics.items():
        anomalies = tfdv.validate_statistics(entry, schema)
        rows += explain(split, anomalies, schema, entry, unused)
        target = Path(ctx.outputs["anomalies"], f"Split-{split}")
        target.mkdir(parents=True, exist_ok=True)
        (target / ANOMALIES_FILE).write_bytes(anomalies.SerializeToString(deterministic=True))
    rows += [
        AnomalyRow(
            "train", name, "column in the schema file", "warning", "listed", "inferred from this data", None
        )
        for name in origin.added
    ]
    distances = measure_skew(read_distributions(Path(ctx.input("statistics"))))
    max_skew: float | None = ctx.config["validation.max_skew"]
    error = bool(ctx.config["validation.skew_is_error"])
    data = DataConfig.model_validate(ctx.config["data"])
    gates = [
        *judge_data(rows, list(statistics), origin),
        *judge_pictures(ingest, data.max_corrupt_share),
        *judge_splits(ingest, data.task),
    ]
    if max_skew is not None:
        gates += judge_skew(distances, list(statistics), max_skew, error=error)
        rows += skew_rows(distances, max_skew, error=error)
    _write(Path(ctx.outputs["gates"]), rows, distances, origin, gates)
    if origin.path is not None and any(g.state == "FAIL" and g.metric == "anomalies" for g in gates):
        note_rejection(ctx.config["validation.schema_path"])
    errors = sum(row.severity == "error" for row in rows)
    counted = f"{_counted(errors, 'error')}, {_counted(len(rows) - errors, 'warning')}"
    return NodeResult(
        finding=f"{counted} against the {origin.origin} schema",
        properties={"gates": {"errors": errors, "origin": origin.origin}},
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def judge_data(rows: Sequence[AnomalyRow], splits: Sequence[str], origin: Origin) -> list[Gate]:
    """Judge the anomalies of every split.

    Returns:
        A gate a split: NO_BASELINE where the schema was inferred from this very data.
    """
    gates = []
    for split in splits:
        errors = [row for row in rows if row.split == split and row.severity == "error"]
        keys, bound, value = {"split": split}, Bound("<=", 0.0), float(len(errors))
        if origin.origin == "inferred":
            reason = "the schema was inferred from this very data, so there is nothing to compare with."
            gates.append(Gate("data", "anomalies", "NO_BASELINE", reason, None, keys, bound, value))
        elif errors:
            names = ", ".join(dict.fromkeys(row.feature for row in errors))
            reason = f"{len(errors)} rules of the schema are broken, by {names}."
            gates.append(Gate("data", "anomalies", "FAIL", reason, None, keys, bound, value))
        else:
            reason = "the data keeps every rule of the schema."
            gates.append(Gate("data", "anomalies", "PASS", reason, None, keys, bound, value))
    return gates


def judge_pictures(ingest: Mapping[str, Any], most: float) -> list[Gate]:
    """Judge the share of pictures that ingest left out, since they cannot be decoded.

    Args:
        ingest: Content of ingest.json.
        most: Largest share, in [0, 1].

    Returns:
        A gate, or none where no column is of pictures.
    """
    if not any(column.get("type") == "image" for column in ingest["columns"]):
        return []
    corrupt = int(ingest["corrupt_rows"])
    rows = int(ingest["rows"]) + corrupt
    value, bound = corrupt / rows, Bound("<=", most)
    if not corrupt:
        reason = f"each of {rows:,} rows has pictures that can be decoded."
        return [Gate("data", "corrupt_share", "PASS", reason, None, None, bound, value)]
    named = [f"{entry['path']} ({entry['reason']})" for entry in ingest["corrupt"][:_MOST_NAMED]]
    more = f" and {corrupt - len(named):,} more" if corrupt > len(named) else ""
    reason = (
        f"{corrupt:,} of {rows:,} rows were left out, {value:.2%}, since their pictures cannot be decoded: "
        f"{', '.join(named)}{more}; at most {most:.2%} is allowed."
    )
    state: Literal["PASS", "FAIL"] = "PASS" if bound.holds(value) else "FAIL"
    return [Gate("data", "corrupt_share", state, reason, None, None, bound, value)]


def _unused_columns(schema: Any, ingest: Mapping[str, Any]) -> set[str]:
    """Return the schema's columns that the config does not use and ingest therefore did not write."""
    columns = {entry["name"] for entry in ingest["columns"]}
    return {feature.name for feature in schema.feature} - columns


def _write(
    folder: Path,
    rows: Sequence[AnomalyRow],
    distances: Sequence[Distance],
    origin: Origin,
    gates: Sequence[Gate],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "anomalies.json": [row.to_json() for row in rows],
        "skew.json": [entry.to_json() for entry in distances],
        "schema_origin.json": origin.to_json(),
    }
    for name, document in documents.items():
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    write_gates(folder / "gates.json", gates)
