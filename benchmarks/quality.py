"""Compare a finished run with the models that a practitioner would try first, on the identical rows.

    python benchmarks/quality.py runs/RUN_ID
    python benchmarks/quality.py --run runs/RUN_ID/summary.json --json

`rivals.py` says which ones: a linear model; gradient boosting for tables (with its defaults, and with larger
trees whose number is chosen on eval); a support vector machine for pictures, the nearest neighbour by dynamic
time warping for series. Every variant that the run predicted is held to the
same test rows; the interval is that of a paired bootstrap over test rows.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from rivals import rivals
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score, root_mean_squared_error

from headrace.components.evaluation.rows import read_rows
from headrace.data.config import DataConfig

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Comparison:
    """One variant against one rival on the same test rows.

    Attributes:
        metric: What is compared.
        variant: Variant of the run.
        rival: The rival's name.
        value, rival_value: The metric of each on the test split.
        difference: value - rival_value.
        low, high: 95 % interval of the difference.
    """

    metric: str
    variant: str
    rival: str
    value: float
    rival_value: float
    difference: float
    low: float
    high: float


METRICS = {
    "binary": {"auc": True},
    "multiclass": {"accuracy": True, "macro_f1": True},
    "multilabel": {"auc": True},
    "regression": {"rmse": False},
}
"""Task -> metric -> whether more is better."""


def measure(metric: str, labels: Array, answers: Array, weights: Array | None) -> float:
    """Return one metric; NaN where these rows cannot tell it. Of labels it is the mean over those that can.

    Args:
        metric: A name of `METRICS`.
        labels: `[rows]`, or `[rows, labels]`.
        answers: Scores `[rows, classes]`, or predictions `[rows]`.
        weights: Example weights `[rows]`, or None.
    """
    if metric == "auc":
        pairs = [(labels, answers[:, 1])] if labels.ndim == 1 else list(zip(labels.T, answers.T, strict=True))
        both = [(truth, scores) for truth, scores in pairs if len(np.unique(truth)) == 2]
        each = [roc_auc_score(truth, scores, sample_weight=weights) for truth, scores in both]
        return float(np.mean(each)) if each else float("nan")
    if metric == "accuracy":
        return float(accuracy_score(labels, answers.argmax(axis=1), sample_weight=weights))
    if metric == "macro_f1":
        return float(
            f1_score(
                labels, answers.argmax(axis=1), average="macro", sample_weight=weights, zero_division=0.0
            )
        )
    return float(root_mean_squared_error(labels, answers, sample_weight=weights))


def resampled(
    metric: str, labels: Array, answers: Array, weights: Array | None, samples: int, seed: int
) -> Array:
    """Return the metric on each resample of the rows, `[samples]`; equal seeds draw equal rows, so that
    differences between two models are paired.

    Args:
        metric: A name of `METRICS`.
        labels: `[rows]`.
        answers: As for `measure`.
        weights: Example weights `[rows]`, or None.
        samples: Resamples.
        seed: Of the draws.
    """
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(samples):
        chosen = draws.integers(0, len(labels), len(labels))
        weight = None if weights is None else weights[chosen]
        found.append(measure(metric, labels[chosen], answers[chosen], weight))
    return np.array(found)


def compare(run_dir: Path, samples: int = 500) -> list[Comparison]:
    """Return every variant of a finished run against every rival, by each metric of its task.

    Args:
        run_dir: `RUNS/<run_id>`.
        samples: Bootstrap resamples.
    """
    config = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["config"]
    folders = _artifacts(run_dir)
    examples = _holding(folders, "ingest.json")
    predictions = _holding(folders, "predictions") / "predictions"
    ingest = json.loads((examples / "ingest.json").read_text(encoding="utf-8"))
    task = ingest["label"]["task"]
    if task not in METRICS:
        raise SystemExit(f"the task must be one of {', '.join(METRICS)}. Received: {task}")
    data = DataConfig.model_validate(config["data"])
    config["data"]["task"] = task  # `auto` is settled at ingest
    splits = {name: read_rows(str(examples), name, ingest, data) for name in ("train", "eval", "test")}
    labels, weights = splits["test"].labels, splits["test"].weights
    if not np.array_equal(labels, np.load(predictions / "labels.npy").astype(labels.dtype)):
        raise SystemExit("predictions and examples must hold the same test rows in the same order")
    variants = {p.stem: np.load(p) for p in sorted(predictions.glob("*.npy")) if p.stem != "labels"}
    others = rivals(splits, config, ingest["features"], len(ingest["label"]["classes"] or ()))
    every = {**variants, **others}
    found = []
    for metric in METRICS[task]:
        values = {name: measure(metric, labels, answers, weights) for name, answers in every.items()}
        draws = {
            name: resampled(metric, labels, answers, weights, samples, config["seed"])
            for name, answers in every.items()
        }
        for rival in others:
            for name in variants:
                low, high = np.nanpercentile(draws[name] - draws[rival], [2.5, 97.5])
                found.append(
                    Comparison(
                        metric,
                        name,
                        rival,
                        values[name],
                        values[rival],
                        values[name] - values[rival],
                        float(low),
                        float(high),
                    )
                )
    return found


def _artifacts(run_dir: Path) -> list[Path]:
    """Return the folders of all artifacts of a run, cached ones too, from its metadata store."""
    database = str(run_dir.parent / ".store" / "metadata.sqlite")
    config = metadata_store_pb2.ConnectionConfig(
        sqlite=metadata_store_pb2.SqliteMetadataSourceConfig(
            filename_uri=database, connection_mode=metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
        )
    )
    store = metadata_store.MetadataStore(config)
    context = store.get_context_by_type_and_name("pipeline_run", run_dir.name)
    return [Path(artifact.uri) for artifact in store.get_artifacts_by_context(context.id)]


def _holding(folders: list[Path], name: str) -> Path:
    """Return the folder that holds the file or folder `name`."""
    found = [folder for folder in folders if (folder / name).exists()]
    if len(found) != 1:
        raise SystemExit(f"a finished run must have one artifact with {name}. Received: {len(found)}")
    return found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a run with common models on the identical rows.")
    parser.add_argument("run_dir", nargs="?", type=Path, help="RUNS/<run_id>")
    parser.add_argument("--run", type=Path, help="its summary.json instead")
    parser.add_argument("--samples", type=int, default=500, help="bootstrap resamples (default: 500)")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    arguments = parser.parse_args()
    run_dir = arguments.run.parent if arguments.run else arguments.run_dir
    if run_dir is None:
        parser.error("give RUN_DIR or --run SUMMARY")
    found = compare(run_dir, arguments.samples)
    if not arguments.json:
        print(f"{'metric':<9} {'variant':<20} {'value':>9}   {'rival':<32} {'value':>9}   difference [95 %]")
        for c in found:
            values = f"{c.value:9.4f}   {c.rival:<32} {c.rival_value:9.4f}"
            interval = f"{c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}]"
            print(f"{c.metric:<9} {c.variant:<20} {values}   {interval}")
    print(json.dumps({"run": run_dir.name, "comparisons": [asdict(c) for c in found]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
