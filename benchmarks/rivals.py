"""The models that a practitioner would try first, fitted on the identical rows of a finished run.

Which ones depends on the data: gradient boosting for tables, TF-IDF with logistic regression for texts, a
support vector machine for pictures, and the nearest neighbour by dynamic time warping for series.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.svm import SVC

from headrace.components.evaluation.rows import Rows

__all__ = ["MAX_TREES", "design_matrix", "nearest_by_dtw", "rivals"]

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


def rivals(splits: Mapping[str, Rows], config: Mapping[str, Any], columns: list[str]) -> dict[str, Array]:
    """Return rival -> what it answers for the test rows.

    Args:
        splits: `train`, `eval` and `test`.
        config: The run's config.
        columns: Raw columns that the model reads.

    Returns:
        Scores `[rows, classes]` (two columns for binary), or predictions `[rows]` for regression.
    """
    features = config["features"]
    kinds = {feature["kind"] for feature in features.values()}
    if "text" in kinds:
        name, feature = next((n, f) for n, f in features.items() if f["kind"] == "text")
        return {"tf-idf + logistic regression": _logistic_on_text(splits, feature.get("column") or name)}
    if "image" in kinds:
        name, feature = next((n, f) for n, f in features.items() if f["kind"] == "image")
        return {"support vector machine on pixels": _machine_on_pixels(splits, feature.get("column") or name)}
    if "series" in kinds:
        name, feature = next((n, f) for n, f in features.items() if f["kind"] == "series")
        return {"1-NN DTW": _neighbour(splits, list(feature["of"]) or [name])}
    frames = design_matrix(splits, config, columns)
    return _boosted(frames, splits, config["data"]["task"], config["seed"])


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


def nearest_by_dtw(known: list[Array], labels: Array, asked: list[Array]) -> Array:
    """Return the label of the known series nearest to each asked one, by dependent dynamic time warping.

    Args:
        known: Series float `[steps, channels]`, of any lengths.
        labels: Their labels, `[known]`.
        asked: Series to label.

    Returns:
        Labels `[asked]`.
    """
    longest = max(map(len, known))
    padded = np.full((len(known), longest, known[0].shape[1]), np.nan)
    for place, series in enumerate(known):
        padded[place, : len(series)] = series
    ends = np.array([len(series) - 1 for series in known])
    return np.array([labels[np.argmin(_warped(series, padded, ends))] for series in asked])


def _warped(series: Array, padded: Array, ends: Array) -> Array:
    """Return the squared warping distance from one series to all: `[known]`."""
    # Cost of every pair of steps, [known, steps of one, steps of the other]. Padding lies beyond every end.
    cost = ((padded[:, None, :, :] - series[None, :, None, :]) ** 2).sum(axis=3)
    cost = np.where(np.isnan(cost), np.inf, cost)
    path = np.full((len(padded), len(series) + 1, padded.shape[1] + 1), np.inf)
    path[:, 0, 0] = 0.0
    for row in range(len(series)):
        for column in range(padded.shape[1]):
            least = np.minimum(
                np.minimum(path[:, row, column + 1], path[:, row + 1, column]), path[:, row, column]
            )
            path[:, row + 1, column + 1] = cost[:, row, column] + least
    return path[np.arange(len(padded)), len(series), ends + 1]


def _neighbour(splits: Mapping[str, Rows], columns: list[str]) -> Array:
    series = {
        name: [
            np.array(channels, float).T
            for channels in zip(*(rows.columns[c].to_pylist() for c in columns), strict=True)
        ]
        for name, rows in splits.items()
    }
    # The neighbour needs no eval split, so it may learn from those rows too.
    known = series["train"] + series["eval"]
    labels = np.concatenate([splits["train"].labels, splits["eval"].labels]).astype(int)
    return np.eye(labels.max() + 1)[nearest_by_dtw(known, labels, series["test"])]


def _logistic_on_text(splits: Mapping[str, Rows], column: str) -> Array:
    """Words and pairs; the penalty is chosen on eval."""
    texts = {name: [text or "" for text in rows.columns[column].to_pylist()] for name, rows in splits.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    train = vectorizer.fit_transform(texts["train"])
    chosen: Any = None
    for penalty in (0.3, 1.0, 3.0, 10.0):
        model = LogisticRegression(C=penalty, max_iter=1000)
        model.fit(train, splits["train"].labels, sample_weight=splits["train"].weights)
        loss = log_loss(splits["eval"].labels, model.predict_proba(vectorizer.transform(texts["eval"])))
        if chosen is None or loss < chosen[0]:
            chosen = loss, model
    answers: Array = chosen[1].predict_proba(vectorizer.transform(texts["test"]))
    return answers


def _machine_on_pixels(splits: Mapping[str, Rows], column: str) -> Array:
    pixels = {n: np.array(rows.columns[column].to_pylist(), np.float32) / 255 for n, rows in splits.items()}
    model = SVC(C=10.0, gamma="scale").fit(pixels["train"], splits["train"].labels)
    return np.eye(len(model.classes_))[model.predict(pixels["test"]).astype(int)]


def _boosted(
    frames: Mapping[str, pd.DataFrame], splits: Mapping[str, Rows], task: str, seed: int
) -> dict[str, Array]:
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    found = {}
    for name, settings in {
        "hgb defaults": {},
        "hgb tuned": {"max_iter": MAX_TREES, "max_leaf_nodes": 63},
    }.items():
        model = kind(categorical_features="from_dtype", random_state=seed, early_stopping=False, **settings)
        model.fit(frames["train"], splits["train"].labels, sample_weight=splits["train"].weights)
        steps = model.n_iter_
        if settings:  # the number of trees that is best on eval
            steps = _best_steps(model, frames["eval"], splits["eval"], task)
            name = f"{name} ({steps} trees{', the limit' if steps == MAX_TREES else ''})"
        found[name] = next(p for i, p in enumerate(_staged(model, frames["test"], task), 1) if i == steps)
    return found


def _staged(model: Any, frame: pd.DataFrame, task: str) -> Any:
    return model.staged_predict(frame) if task == "regression" else model.staged_predict_proba(frame)


def _best_steps(model: Any, frame: pd.DataFrame, rows: Rows, task: str, every: int = 10) -> int:
    def score(answer: Array) -> float:
        if task == "binary":
            return float(roc_auc_score(rows.labels, answer[:, 1], sample_weight=rows.weights))
        if task == "regression":
            return -float(root_mean_squared_error(rows.labels, answer, sample_weight=rows.weights))
        return -float(log_loss(rows.labels, answer, sample_weight=rows.weights))

    scores = {step: score(p) for step, p in enumerate(_staged(model, frame, task), 1) if step % every == 0}
    return max(scores, key=lambda step: scores[step])
