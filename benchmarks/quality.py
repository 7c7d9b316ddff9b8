"""Compare a finished run with gradient boosting trained on the identical rows.

    python benchmarks/quality.py runs/RUN_ID
    python benchmarks/quality.py --run runs/RUN_ID/summary.json --json

The rival is scikit-learn's HistGradientBoostingClassifier on the same raw columns, twice: with its defaults,
and with larger trees whose number is chosen on the eval split. Every variant that the run predicted is held
to the same test rows; the interval is that of a paired bootstrap over test rows.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from headrace.components.evaluation.rows import Rows, read_rows
from headrace.data.config import DataConfig

Array = np.ndarray[Any, Any]

MAX_CATEGORIES = 255
"""HistGradientBoosting bins a categorical feature into at most this many categories."""

MAX_TREES = 1500
"""Trees of the tuned rival at most; a choice at this limit is marked, as more might help it."""

_DATE_PARTS = {
    "month": lambda dates: dates.dt.month,
    "day": lambda dates: dates.dt.day,
    "day_of_week": lambda dates: dates.dt.dayofweek,
    "day_of_year": lambda dates: dates.dt.dayofyear,
    "hour": lambda dates: dates.dt.hour,
    "minute": lambda dates: dates.dt.minute,
}


@dataclass(frozen=True)
class Comparison:
    """One variant against one rival on the same test rows.

    Attributes:
        variant: Variant of the run.
        rival: The rival's name.
        auc, rival_auc: Area under the ROC curve on the test split.
        difference: auc - rival_auc.
        low, high: 95 % interval of the difference.
    """

    variant: str
    rival: str
    auc: float
    rival_auc: float
    difference: float
    low: float
    high: float


def design_matrix(
    splits: Mapping[str, Rows], config: Mapping[str, Any], columns: list[str]
) -> dict[str, pd.DataFrame]:
    """Return the raw columns as numbers and categories, fitted on the training split.

    Text columns become categories by frequency: up to 255 as a categorical feature, more as a rank.
    A date becomes the parts that the config takes of it.
    """
    frames = {
        name: pd.DataFrame({c: rows.columns[c].to_pandas() for c in columns}) for name, rows in splits.items()
    }
    dates = {
        f.get("column") or name: f["parts"] for name, f in config["features"].items() if f["kind"] == "date"
    }
    for column, parts in dates.items():
        for frame in frames.values():
            values = pd.to_datetime(frame.pop(column), format="ISO8601", errors="coerce")
            for part in parts:
                frame[f"{column}.{part}"] = _DATE_PARTS[part](values).astype(float)
    for column in [c for c in frames["train"] if not pd.api.types.is_numeric_dtype(frames["train"][c])]:
        order = frames["train"][column].value_counts().index
        ranks = {value: float(rank) for rank, value in enumerate(order)}
        for name, frame in frames.items():
            codes = frame[column].map(ranks)
            if len(order) <= MAX_CATEGORIES:
                frame[column] = pd.Categorical(codes, categories=sorted(ranks.values()))
            else:
                frame[column] = codes
            frames[name] = frame
    return frames


def rivals(frames: Mapping[str, pd.DataFrame], splits: Mapping[str, Rows], seed: int) -> dict[str, Array]:
    """Return rival -> test scores `[rows]`."""
    found = {}
    for name, settings in {
        "hgb defaults": {},
        "hgb tuned": {"max_iter": MAX_TREES, "max_leaf_nodes": 63},
    }.items():
        model = HistGradientBoostingClassifier(
            categorical_features="from_dtype", random_state=seed, **settings
        )
        model.set_params(early_stopping=False)
        model.fit(frames["train"], splits["train"].labels, sample_weight=splits["train"].weights)
        steps = model.n_iter_
        if settings:  # the number of trees that is best on eval
            steps = _best_steps(model, frames["eval"], splits["eval"])
            name = f"{name} ({steps} trees{', the limit' if steps == MAX_TREES else ''})"
        test = next(p for i, p in enumerate(model.staged_predict_proba(frames["test"]), 1) if i == steps)
        found[name] = test[:, 1]
    return found


def _best_steps(
    model: HistGradientBoostingClassifier, frame: pd.DataFrame, rows: Rows, every: int = 10
) -> int:
    scores = {
        step: roc_auc_score(rows.labels, found[:, 1], sample_weight=rows.weights)
        for step, found in enumerate(model.staged_predict_proba(frame), 1)
        if step % every == 0
    }
    return max(scores, key=lambda step: scores[step])


def resampled_auc(labels: Array, scores: Array, weights: Array | None, samples: int, seed: int) -> Array:
    """Return the AUC on each resample of the rows, `[samples]`; equal seeds draw equal rows, so that
    differences between two scores are paired.

    Args:
        labels: 0 or 1, `[rows]`.
        scores: Scores `[rows]`.
        weights: Example weights `[rows]`, or None.
        samples: Resamples.
        seed: Of the draws.
    """
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(samples):
        chosen = draws.integers(0, len(labels), len(labels))
        weight = None if weights is None else weights[chosen]
        found.append(roc_auc_score(labels[chosen], scores[chosen], sample_weight=weight))
    return np.array(found)


def compare(run_dir: Path, samples: int = 500) -> list[Comparison]:
    """Return every variant of a finished run against every rival.

    Args:
        run_dir: `RUNS/<run_id>`.
        samples: Bootstrap resamples.
    """
    config = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["config"]
    folders = _artifacts(run_dir)
    examples = _holding(folders, "ingest.json")
    predictions = _holding(folders, "predictions") / "predictions"
    ingest = json.loads((examples / "ingest.json").read_text(encoding="utf-8"))
    if ingest["label"]["task"] != "binary":
        raise SystemExit(f"the task must be binary. Received: {ingest['label']['task']}")
    data = DataConfig.model_validate(config["data"])
    splits = {name: read_rows(str(examples), name, ingest, data) for name in ("train", "eval", "test")}
    labels, weights = splits["test"].labels, splits["test"].weights
    if not np.array_equal(labels, np.load(predictions / "labels.npy").astype(labels.dtype)):
        raise SystemExit("predictions and examples must hold the same test rows in the same order")
    frames = design_matrix(splits, config, ingest["features"])
    variants = {p.stem: np.load(p)[:, 1] for p in sorted(predictions.glob("*.npy")) if p.stem != "labels"}
    others = rivals(frames, splits, config["seed"])
    every = {**variants, **others}
    auc = {name: roc_auc_score(labels, scores, sample_weight=weights) for name, scores in every.items()}
    draws = {name: resampled_auc(labels, s, weights, samples, config["seed"]) for name, s in every.items()}
    found = []
    for rival in others:
        for name in variants:
            low, high = np.percentile(draws[name] - draws[rival], [2.5, 97.5])
            difference = auc[name] - auc[rival]
            found.append(Comparison(name, rival, auc[name], auc[rival], difference, float(low), float(high)))
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
    parser = argparse.ArgumentParser(
        description="Compare a run with gradient boosting on the identical rows."
    )
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
        print(f"{'variant':<20} {'AUC':>7}   {'rival':<24} {'AUC':>7}   difference [95 % interval]")
        for c in found:
            interval = f"{c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}]"
            print(f"{c.variant:<20} {c.auc:7.4f}   {c.rival:<24} {c.rival_auc:7.4f}   {interval}")
    print(json.dumps({"run": run_dir.name, "comparisons": [asdict(c) for c in found]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
