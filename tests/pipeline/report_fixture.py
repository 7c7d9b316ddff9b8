"""A whole run's facts, made from seeded random rows, with numbers like those of the flights example."""

import copy
import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn import metrics as reference
from tensorflow_metadata.proto.v0 import statistics_pb2

from headrace.components.validation.distributions import (
    DISTRIBUTION_FILE,
    choose_bins,
    count_values,
    merge,
    read_distributions,
    write_distribution,
)
from headrace.components.validation.skew import measure_skew
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.report.statistics import compact

from . import report_tasks

Array = Any

CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
ORIGINS = ("EWR", "JFK", "LGA")
NOISE = {
    "float32": 0.0,
    "int8_weights": 0.004,
    "tflite_float32": 1e-6,
    "tflite_float16": 0.0006,
    "tflite_dynamic_int8": 0.012,
    "tflite_int8": 0.03,
}
"""Variant -> standard deviation of its error in the logit."""
SIZES = {
    "float32": (7_912_400, 7_471_104, 812, 1_540, 2_310, 3_870, 0.91),
    "int8_weights": (2_311_872, 1_942_016, 826, 1_602, 2_350, 3_902, 1.02),
    "tflite_float32": (7_489_312, 7_471_104, 41, 63, 1_230, 1_544, 0.012),
    "tflite_float16": (3_752_016, 3_735_552, 44, 71, 1_301, 1_630, 0.013),
    "tflite_dynamic_int8": (1_926_544, 1_880_112, 29, 48, 705, 911, 0.008),
    "tflite_int8": (1_931_200, 1_880_112, 27, 45, 688, 902, 0.008),
}
"""Variant -> size, weight bytes, p50 and p99 at 1 row, p50 and p99 at 100 rows (µs), load (s)."""


def run(
    task: str = "binary", verdict: str = "pushed", rows: int = 6000, seed: int = 7
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (summary, evidence) of a run; `verdict` and `task` as in summary.json and the config."""
    return copy.deepcopy(_made(task, verdict, rows, seed))


@functools.cache
def _made(task: str, verdict: str, rows: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    columns = _columns(rng, rows)
    evaluation = _EVALUATIONS[task](rng, columns)
    ingest = _ingest(rng, columns, task)
    sizes = {"train": 4000, "eval": 900, "test": 900}
    with tempfile.TemporaryDirectory() as folder:
        write_statistics(Path(folder), {split: _columns(rng, n) for split, n in sizes.items()})
        stats = compact(folder)
        skew = [entry.to_json() for entry in measure_skew(read_distributions(Path(folder)))]
    gates = _gates(evaluation, task)
    if verdict == "pushed":
        gates = [gate for gate in gates if gate["state"] in ("PASS", "NO_BASELINE")]
    evidence: dict[str, Any] = {
        "ingest": ingest,
        "anomalies": [],
        "evaluation": evaluation,
        "infra": _infra(),
        "history": _history(rng),
        "mistakes": report_tasks.mistakes(task, _KINDS[task]),
        "monitoring": report_tasks.monitoring(),
        "lr_finder": report_tasks.lr_finder(),
        "trials": (trials := _trials(rng)),
        "best": {"values": trials[3]["values"], "score": trials[3]["score"], "objective": "val_auc"},
        "statistics": stats,
        "skew": skew,
        "graph": graph(),
        "lineage": _lineage(),
        "command": "headrace run examples/flights.yaml --set seed=7 --set output.runs=./runs",
        "versions": {
            "headrace": "0.1.0",
            "Python": "3.11.7",
            "tfx": "1.21.0",
            "tensorflow": "2.21.0",
            "keras": "3.15.1",
            "ai-edge-litert": "2.3.0",
        },
        "config_yaml": _CONFIG_YAML,
    }
    summary = _summary(evaluation, ingest, gates, verdict, rng)
    if verdict == "data_rejected":
        evidence["anomalies"] = _anomalies()
        for key in ("evaluation", "mistakes", "infra", *_TRAINING, "trials", "best"):
            del evidence[key]
    if verdict == "failed":
        for key in ("evaluation", "mistakes", "infra", *_TRAINING):
            del evidence[key]
    return summary, evidence


def graph() -> list[dict[str, Any]]:
    """Return the DAG as the report is given it."""
    return [
        {"id": n.id, "title": n.title, "inputs": list(dict.fromkeys([*(i.node for i in n.inputs), *n.after]))}
        for n in GRAPH
    ]


def write_statistics(folder: Path, splits: Mapping[str, Mapping[str, Array]]) -> None:
    """Write a statistics artifact of float arrays (NaN is missing) and text arrays ("" is missing)."""
    batches = {split: record_batch(columns) for split, columns in splits.items()}
    bins = choose_bins({split: [batch] for split, batch in batches.items()})
    for split, columns in splits.items():
        listed = statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics_proto(columns)])
        target = folder / f"Split-{split}"
        target.mkdir()
        (target / "FeatureStats.pb").write_bytes(listed.SerializeToString())
        counted = merge([count_values(batches[split], bins)], bins)
        write_distribution(target / DISTRIBUTION_FILE, batches[split].num_rows, counted)


def record_batch(columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Return columns as the decoder of examples gives them: lists, None where a row has no value."""
    held = {}
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind == "U":
            rows = [[v.encode()] if v else None for v in array.tolist()]
            held[name] = pa.array(rows, pa.large_list(pa.large_binary()))
        else:
            rows = [None if v != v else [v] for v in array.tolist()]
            kind = pa.float32() if array.dtype.kind == "f" else pa.int64()
            held[name] = pa.array(rows, pa.large_list(kind))
    return pa.RecordBatch.from_pydict(held)


def statistics_proto(columns: Mapping[str, Array]) -> Any:
    """Return DatasetFeatureStatistics of float arrays (NaN is missing) and text arrays ("" is missing)."""
    dataset = statistics_pb2.DatasetFeatureStatistics()
    dataset.num_examples = len(next(iter(columns.values())))
    for name, values in columns.items():
        feature = dataset.features.add()
        feature.path.step.append(name)
        if values.dtype.kind != "U":
            _number_proto(feature.num_stats, values)
        else:
            _text_proto(feature.string_stats, values)
    return dataset


def _number_proto(stats: Any, values: Array) -> None:
    known = values[~np.isnan(values)]
    stats.common_stats.num_non_missing, stats.common_stats.num_missing = len(known), len(values) - len(known)
    stats.mean, stats.std_dev, stats.median = float(known.mean()), float(known.std()), float(np.median(known))
    stats.min, stats.max, stats.num_zeros = float(known.min()), float(known.max()), int((known == 0).sum())


def _text_proto(stats: Any, values: Array) -> None:
    known = values[values != ""]
    stats.common_stats.num_non_missing, stats.common_stats.num_missing = len(known), len(values) - len(known)
    stats.common_stats.tot_num_values = len(known)
    names, counts = np.unique(known, return_counts=True)
    stats.unique, stats.avg_length = len(names), float(np.char.str_len(known).mean())
    for rank in np.argsort(-counts, kind="stable"):
        stats.rank_histogram.buckets.add(
            low_rank=int(rank), high_rank=int(rank), label=str(names[rank]), sample_count=float(counts[rank])
        )


def _columns(rng: np.random.Generator, rows: int) -> dict[str, Array]:
    weights = 1 / np.arange(1, len(CARRIERS) + 1) ** 1.15
    carrier = rng.choice(CARRIERS, rows, p=weights / weights.sum())
    tail = np.array([f"N{n:03d}{c}" for n, c in zip(rng.integers(100, 400, rows), carrier, strict=True)])
    return {
        "carrier": carrier,
        "origin": rng.choice(ORIGINS, rows, p=(0.36, 0.33, 0.31)),
        "dest": rng.choice(
            [f"D{i:02d}" for i in range(60)], rows, p=np.sort(rng.dirichlet(np.ones(60)))[::-1]
        ),
        "tailnum": np.where(rng.random(rows) < 0.0075, "", tail),
        "month": rng.integers(1, 13, rows).astype(float),
        "hour": np.clip(rng.normal(13.2, 4.6, rows).round(), 5, 23),
        "distance": np.where(
            rng.random(rows) < 0.002, np.nan, np.exp(rng.normal(6.7, 0.6, rows)).clip(80, 4983)
        ),
        "wind_speed": np.where(rng.random(rows) < 0.031, np.nan, rng.gamma(4, 2.8, rows)),
    }


def _logits(rng: np.random.Generator, columns: Mapping[str, Array]) -> Array:
    lift = {name: 0.5 * np.sin(3 * i) for i, name in enumerate(CARRIERS)} | {
        "EWR": 0.3,
        "JFK": 0.0,
        "LGA": -0.2,
    }
    base = np.array([lift[c] + lift[o] for c, o in zip(columns["carrier"], columns["origin"], strict=True)])
    return -1.55 + base + 0.11 * (columns["hour"] - 13) + rng.normal(0, 1.35, len(base))


def _binary(rng: np.random.Generator, columns: Mapping[str, Array]) -> dict[str, Any]:
    logits = _logits(rng, columns)
    labels = (rng.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(int)
    whole = 1 / (1 + np.exp(-logits))
    scores = {
        n: 1 / (1 + np.exp(-(logits + rng.normal(0, noise, len(logits))))) for n, noise in NOISE.items()
    }
    variants = [_binary_variant(n, labels, s, whole, columns) for n, s in scores.items()]
    worse = 1 / (1 + np.exp(-(0.8 * logits + rng.normal(0, 0.55, len(logits)))))
    return {
        "task": "binary",
        "labels": ["0", "1"],
        "positive": "1",
        "threshold": 0.35,
        "rows": len(labels),
        "slice_specs": [["carrier"], ["origin"], ["carrier", "origin"]],
        "variants": variants,
        "baseline": _binary_variant("baseline", labels, worse, whole, columns),
        "importance": [
            {"feature": name, "metric": "auc", "drop": float(drop), "std": 0.0012 + 0.01 * float(drop)}
            for name, drop in zip(
                columns, (0.021, 0.013, 0.0093, 0.0041, 0.0312, 0.0874, 0.0007, -0.0002), strict=True
            )
        ],
        "tfma": {"state": "PASS", "reason": "agrees with TFMA"},
    }


def _binary_metrics(labels: Array, scores: Array) -> tuple[dict[str, float], dict[str, list[float]]]:
    positive, guess = labels == 1, scores >= 0.35
    hits, called, wanted = (guess & positive).sum(), guess.sum(), positive.sum()
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    pairs = wanted * (len(labels) - wanted)
    order = positive[np.argsort(-scores)]
    precision_at = np.cumsum(order) / np.arange(1, len(order) + 1)
    values = {
        "accuracy": (guess == positive).mean(),
        "auc": (ranks[positive].sum() - wanted * (wanted + 1) / 2) / pairs if pairs else None,
        "pr_auc": precision_at[order].mean() if wanted else None,
        "precision": hits / called if called else 0.0,
        "recall": hits / wanted if wanted else 0.0,
        "f1": 2 * hits / (called + wanted) if called + wanted else 0.0,
        "log_loss": -np.log(np.where(positive, scores, 1 - scores)).mean(),
    }
    known = {name: float(value) for name, value in values.items() if value is not None}
    half = 1.96 * 0.45 / np.sqrt(len(labels))
    return known, {
        name: [max(0.0, known[name] - half), min(1.0, known[name] + half)]
        for name in ("accuracy", "auc", "pr_auc")
        if name in known
    }


def _binary_variant(
    name: str, labels: Array, scores: Array, whole: Array, columns: Mapping[str, Array]
) -> dict[str, Any]:
    fpr, tpr, _ = reference.roc_curve(labels, scores)
    precision, recall, _ = reference.precision_recall_curve(labels, scores)
    keep = np.linspace(0, len(fpr) - 1, 150).round().astype(int)
    keep_pr = np.linspace(0, len(recall) - 1, 150).round().astype(int)
    bins = np.digitize(scores, np.linspace(0, 1, 11)[1:-1])
    filled = [b for b in range(10) if (bins == b).any()]
    values, bounds = _binary_metrics(labels, scores)
    thresholds = np.linspace(0, 1, 101)
    return {
        **_shared(name, scores, whole, scores >= 0.35, whole >= 0.35),
        "metrics": values,
        "intervals": bounds,
        "slices": [_binary_slice(k, m, labels, scores, whole) for k, m in _masks(columns)],
        "confusion_matrix": _matrix(labels, scores >= 0.35, ["0", "1"]),
        "thresholds": [
            {
                "threshold": float(t),
                "tp": int(((scores >= t) & (labels == 1)).sum()),
                "fp": int(((scores >= t) & (labels == 0)).sum()),
                "tn": int(((scores < t) & (labels == 0)).sum()),
                "fn": int(((scores < t) & (labels == 1)).sum()),
            }
            for t in thresholds
        ],
        "curves": {
            "roc": {"fpr": fpr[keep].tolist(), "tpr": tpr[keep].tolist()},
            "pr": {"recall": recall[keep_pr].tolist(), "precision": precision[keep_pr].tolist()},
            "calibration": {
                "predicted": [float(scores[bins == b].mean()) for b in filled],
                "observed": [float(labels[bins == b].mean()) for b in filled],
                "rows": [int((bins == b).sum()) for b in filled],
            },
        },
    }


def _binary_slice(
    keys: dict[str, str], mask: Array, labels: Array, scores: Array, whole: Array
) -> dict[str, Any]:
    values, bounds = _binary_metrics(labels[mask], scores[mask])
    flips = float(((scores[mask] >= 0.35) != (whole[mask] >= 0.35)).mean())
    return {
        "keys": keys,
        "rows": int(mask.sum()),
        "metrics": values,
        "intervals": bounds,
        "confusion_matrix": _matrix(labels[mask], scores[mask] >= 0.35, ["0", "1"]),
        "agreement": {"max_abs_diff": float(np.abs(scores - whole)[mask].max()), "flip_rate": flips},
    }


def _masks(columns: Mapping[str, Array]) -> list[tuple[dict[str, str], Array]]:
    found: list[tuple[dict[str, str], Array]] = [({}, np.ones(len(columns["carrier"]), bool))]
    found += [({"carrier": c}, columns["carrier"] == c) for c in CARRIERS]
    found += [({"origin": o}, columns["origin"] == o) for o in ORIGINS]
    found += [
        ({"carrier": c, "origin": o}, (columns["carrier"] == c) & (columns["origin"] == o))
        for c in CARRIERS
        for o in ORIGINS
    ]
    return [(keys, mask) for keys, mask in found if mask.sum() >= 5]


_EVALUATIONS: Mapping[str, Any] = {
    "binary": _binary,
    "multiclass": lambda rng, columns: report_tasks.multiclass(rng, columns["carrier"], NOISE),
    "multilabel": lambda rng, columns: report_tasks.multilabel(rng, columns["carrier"], NOISE),
    "regression": lambda rng, columns: report_tasks.regression(rng, columns["carrier"], NOISE),
}
_TRAINING = ("history", "monitoring", "lr_finder")
_KINDS = {"binary": "tabular", "multiclass": "image", "multilabel": "text", "regression": "tabular"}


def _shared(name: str, scores: Array, whole: Array, guess: Array, whole_guess: Array) -> dict[str, Any]:
    agreement = {
        "max_abs_diff": float(np.abs(scores - whole).max()),
        "flip_rate": float((guess != whole_guess).mean()),
    }
    return {
        "name": name,
        "runtime": "litert" if name.startswith("tflite") else "tf",
        "agreement": None if name == "float32" else agreement,
    }


def _matrix(labels: Array, guess: Array, names: Sequence[str]) -> dict[str, Any]:
    matrix = reference.confusion_matrix(labels, guess.astype(int), labels=range(len(names)))
    return {"labels": list(names), "matrix": matrix.tolist(), "axis": "rows are true labels"}


def _ingest(rng: np.random.Generator, columns: Mapping[str, Array], task: str) -> dict[str, Any]:
    splits = {"train": 269_421, "eval": 33_677, "test": 33_678}
    counts = {split: {"0": round(n * 0.741), "1": n - round(n * 0.741)} for split, n in splits.items()}
    classes = ["0", "1"]
    if task == "multiclass":
        classes = [str(i) for i in range(10)]
    if task == "multilabel":
        classes = list(report_tasks.LABELS)
    if len(classes) > 2:
        counts = {
            split: {c: int(rng.normal(n / 10, n / 200)) for c in classes} for split, n in splits.items()
        }
    missing = {"tailnum": 0.0075, "distance": 0.002, "wind_speed": 0.031}
    return {
        "rows": sum(splits.values()),
        "splits": splits,
        "split": {
            "method": "hash",
            "key": sorted(columns),
            "seed": 0,
            "equal_keys": "spread",
            "ranked": {"all": False, "classes": []},
            "distinct": {"keys": sum(splits.values()), "rows": sum(splits.values()), "test_rows": 33_678},
            "test_rows_seen": 0,
        },
        "sha256": "9f2c" * 16,
        "files": [{"path": "flights.csv", "size_bytes": 31_204_118, "sha256": "41ab" * 16}],
        "columns": [
            {
                "name": name,
                "type": "float" if values.dtype.kind == "f" else "string",
                "missing": {split: round(n * missing.get(name, 0)) for split, n in splits.items()},
            }
            for name, values in columns.items()
        ],
        "features": list(columns),
        "label": {
            "name": "late",
            "task": task,
            "classes": None if task == "regression" else classes,
            "counts": None if task == "regression" else counts,
        },
        "weight": None,
    }


def _infra() -> dict[str, Any]:
    return {
        "variants": [
            {
                "name": name,
                "state": "PASS",
                "reason": "",
                "load_s": load,
                "rss_bytes": 712_000_000,
                "max_golden_diff": 3e-7,
                "golden_rows": 256,
                "latency_us": {"b1": {"p50": b1, "p99": b1_99}, "b100": {"p50": b100, "p99": b100_99}},
            }
            for name, (_, _, b1, b1_99, b100, b100_99, load) in SIZES.items()
        ]
    }


def _history(rng: np.random.Generator) -> dict[str, Any]:
    epochs = []
    for epoch in range(1, 7):
        train, held = 0.42 + 0.13 * 0.6**epoch, 0.437 + 0.09 * 0.5**epoch + 0.0018 * max(0, epoch - 4)
        logs = {
            "loss": train,
            "auc": 0.84 - 0.13 * 0.62**epoch,
            "accuracy": 0.81 - 0.05 * 0.6**epoch,
            "learning_rate": 0.002 * 0.5 ** max(0, epoch - 4),
            "val_loss": held,
            "val_auc": 0.812 - 0.05 * 0.5**epoch - 0.0013 * max(0, epoch - 4),
            "val_accuracy": 0.797 - 0.02 * 0.5**epoch,
        }
        epochs.append({"epoch": epoch, "seconds": float(2.1 + rng.random()), "logs": logs})
    return {
        "epochs": epochs,
        "best_epoch": 4,
        "monitor": "val_auc",
        "steps_per_epoch": 527,
        "device": "cpu",
        "strategy": "none",
        "precision": "float32",
        "hint": "Overfitting after epoch 4: the loss on eval rose by 3% while that on train went on falling.",
    }


def _trials(rng: np.random.Generator) -> list[dict[str, Any]]:
    rates, drops = 10 ** rng.uniform(-3.5, -2, 5), rng.uniform(0, 0.4, 5)
    hidden = [[64, 32], [128, 64], [64], [128, 64], [256]]
    return [
        {
            "trial": f"{i:02d}",
            "score": 0.802 + (0.0091 if i == 3 else 0.001 * i),
            "epochs": 1,
            "seconds": 9.1 + i,
            "status": "COMPLETED",
            "values": {
                "training.learning_rate": float(rates[i]),
                "model.dropout": float(drops[i]),
                "model.hidden": hidden[i],
            },
        }
        for i in range(5)
    ]


def _anomalies() -> list[dict[str, Any]]:
    return [
        {
            "split": "eval",
            "feature": "origin",
            "rule": "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
            "severity": "error",
            "expected": "EWR, JFK, LGA",
            "found": "XXX",
            "count": 132,
        },
        {
            "split": "train",
            "feature": "wind_speed",
            "rule": "FLOAT_TYPE_BIG_FLOAT",
            "severity": "warning",
            "expected": "<= 60",
            "found": "1048",
            "count": 3,
        },
    ]


def _gate(
    kind: str,
    variant: str | None,
    metric: str,
    bound: tuple[str, float] | None,
    value: float | None,
    state: str,
    reason: str,
    where: dict[str, str] | None = None,
) -> dict[str, Any]:
    limit = {"op": bound[0], "value": bound[1]} if bound else None
    return {
        "kind": kind,
        "variant": variant,
        "slice": where,
        "metric": metric,
        "bound": limit,
        "value": value,
        "state": state,
        "reason": reason,
    }


def _gates(evaluation: dict[str, Any], task: str) -> list[dict[str, Any]]:
    main, op, bound = {
        "binary": ("auc", ">=", 0.7),
        "multiclass": ("accuracy", ">=", 0.7),
        "multilabel": ("macro_f1", ">=", 0.4),
        "regression": ("rmse", "<=", 2000.0),
    }[task]
    found = [
        _gate(
            "data",
            None,
            "anomalies",
            ("<=", 0.0),
            0.0,
            "NO_BASELINE",
            "The schema was inferred from this run's own data",
        )
    ]
    for item in evaluation["variants"]:
        found.append(
            _gate(
                "quality", item["name"], main, (op, bound), item["metrics"][main], "PASS", "Within the bound"
            )
        )
        flips = (item["agreement"] or {"flip_rate": 0.0})["flip_rate"] or 0.0
        found.append(
            _gate("variant", item["name"], "flip_rate", ("<=", 0.02), flips, "PASS", "Agrees with float32")
        )
        for held in item["slices"][1:20]:
            found.append(
                _gate(
                    "variant",
                    item["name"],
                    f"{main}_drop",
                    ("<=", 0.02),
                    0.001,
                    "PASS",
                    "No worse than float32",
                    held["keys"],
                )
            )
    found += [
        _gate(
            "variant",
            "tflite_int8",
            "accuracy_drop",
            ("<=", 0.02),
            0.0341,
            "FAIL",
            "Accuracy on carrier=9E falls 3.41 points behind float32; at most 2.00 are allowed",
            {"carrier": "9E"},
        ),
        _gate(
            "cost",
            "tflite_int8",
            "p99_us_b1",
            ("<=", 40.0),
            45.0,
            "FAIL",
            "One row takes 45 µs at the 99th percentile; at most 40 µs are allowed",
        ),
        _gate(
            "quality",
            "int8_weights",
            "log_loss",
            None,
            0.431,
            "NO_THRESHOLD",
            "The config sets no bound on log_loss",
        ),
        _gate("cost", "int8_weights", "size_ratio", ("<=", 0.28), 0.2599, "PASS", "Within the bound"),
        _gate("cost", "int8_weights", "rss_bytes", ("<=", 4e9), 7.12e8, "PASS", "Within the bound"),
        _gate("serving", "float32", "max_golden_diff", ("<=", 1e-5), 3e-7, "PASS", "256 golden rows agree"),
        _gate(
            "serving",
            "tflite_float16",
            "load_s",
            ("<=", 1.0),
            None,
            "SKIPPED",
            "No sidecar: preprocessing_fn is the user's own",
        ),
    ]
    return found


def _lineage() -> list[dict[str, Any]]:
    return [
        {
            "node": n.id,
            "artifact": output,
            "type": kind,
            "uri": f"runs/20261121-101502-k3f9/artifacts/{n.id}/{output}/{i + 1}",
            "id": i + 1,
        }
        for i, (n, output, kind) in enumerate((n, o, k) for n in GRAPH for o, k in n.outputs.items())
    ]


_WALL = {
    "ingest": 4.1,
    "statistics": 3.2,
    "schema": 0.3,
    "validation": 0.6,
    "data_verdict": 0.1,
    "transform": 24.8,
    "tuner": 61.3,
    "crossval": 40.2,
    "trainer": 21.7,
    "variants": 19.4,
    "baseline": 0.2,
    "evaluation": 17.9,
    "infra": 12.6,
    "gates": 0.2,
    "verdict": 0.1,
    "push": 0.9,
}


def _nodes(verdict: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    last = {"pushed": "push", "rejected": "verdict", "data_rejected": "data_verdict", "failed": "trainer"}[
        verdict
    ]
    names = [n.id for n in GRAPH]
    found, start = [], 0.0
    for index, name in enumerate(names):
        ran = index <= names.index(last)
        broken = name == last and verdict != "pushed"
        state = "failed" if broken else "complete" if ran else "skipped"
        if verdict == "pushed" and name in ("ingest", "statistics", "schema"):
            state = "cached"
        wall = _WALL[name] * (0.02 if state == "cached" else 1)
        found.append(
            {
                "id": name,
                "state": state,
                "wall_s": wall if ran else None,
                "cpu_s": wall * float(rng.uniform(0.9, 1.7)) if ran else None,
                "peak_rss_bytes": int(4e8 + 3e7 * wall) if ran else None,
            }
        )
        start += wall
    return found


def _summary(
    evaluation: dict[str, Any],
    ingest: dict[str, Any],
    gates: list[dict[str, Any]],
    verdict: str,
    rng: np.random.Generator,
) -> dict[str, Any]:
    places = (
        {"int8_weights": "push/serving/flights/3", "tflite_int8": "push/lite/flights/3"}
        if verdict == "pushed"
        else {}
    )
    variants = []
    for item in evaluation["variants"]:
        size, weight, b1, b1_99, b100, b100_99, load = SIZES[item["name"]]
        variants.append(
            {
                "name": item["name"],
                "runtime": item["runtime"],
                "size_bytes": size,
                "weight_bytes": weight,
                "metrics": item["metrics"],
                "slices": [
                    {"keys": s["keys"], "rows": s["rows"], "metrics": s["metrics"]} for s in item["slices"]
                ],
                "confusion_matrix": item["confusion_matrix"],
                "label_matrices": item.get("label_matrices"),
                "per_class": item.get("per_class"),
                "latency_us": {"b1": {"p50": b1, "p99": b1_99}, "b100": {"p50": b100, "p99": b100_99}},
                "load_s": load,
                "agreement": item["agreement"],
                "pushed_to": places.get(item["name"]),
            }
        )
    if verdict == "data_rejected":
        gates = [
            _gate(
                "data",
                None,
                "anomalies",
                ("<=", 0.0),
                132.0,
                "FAIL",
                "132 rows of origin hold values that the schema does not list",
            )
        ]
    modelled = verdict in ("pushed", "rejected")
    return {
        "schema_version": 1,
        "run_id": "20261121-101502-k3f9",
        "content_id": "c0ffee" * 8,
        "config": {
            "name": "flights",
            "data": {"path": "data/flights.csv", "task": evaluation["task"]},
            "evaluation": {"min_slice_rows": 40},
            "validation": {"max_skew": 0.2},
        },
        "verdict": verdict,
        "data": {"rows": ingest["rows"], "splits": ingest["splits"], "sha256": ingest["sha256"]},
        "nodes": _nodes(verdict, rng),
        "variants": variants if modelled else [],
        "gates": [] if verdict == "failed" else gates,
    }


_CONFIG_YAML = """\
schema_version: 1
name: flights
data:
  path: data/flights.csv
  label: late
  task: binary
  split: {method: hash, train: 0.8, eval: 0.1, test: 0.1}
features:
  carrier: {kind: categorical, vocabulary: {min_count: 5}}
  day_x_origin: {kind: cross, of: [day_of_year, origin], hash_buckets: 4096}
model: {family: mlp, hidden: [128, 64], dropout: 0.2}
training: {epochs: 6, batch_size: 512, learning_rate: 0.002}
gates:
  quality:
  - {metric: auc, min: 0.8}
"""
