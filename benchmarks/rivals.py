"""The models that a practitioner would try first, fitted on the identical rows of a finished run.

A linear one (logistic or ridge regression on one-hot categories, scaled numbers and the words of texts) and
gradient boosting where there are columns of a table; where a row is nothing else, a support vector machine
for pictures, and the nearest neighbour by dynamic time warping for series.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from headrace.components.evaluation.rows import Rows

__all__ = ["MAX_TREES", "design_matrix", "nearest_by_dtw", "rivals"]

Array = np.ndarray[Any, Any]

MAX_CATEGORIES = 255
"""HistGradientBoosting bins a categorical feature into at most this many categories."""

MAX_TREES = 1500
"""Trees of the tuned rival at most; a choice at this limit is marked, as more might help it."""

_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)

_DATE_PARTS = {
    "year": lambda dates: dates.dt.year,
    "month": lambda dates: dates.dt.month,
    "day": lambda dates: dates.dt.day,
    "day_of_week": lambda dates: dates.dt.dayofweek,
    "day_of_year": lambda dates: dates.dt.dayofyear,
    "hour": lambda dates: dates.dt.hour,
    "minute": lambda dates: dates.dt.minute,
}


def rivals(
    splits: Mapping[str, Rows], config: Mapping[str, Any], columns: Sequence[str], classes: int
) -> dict[str, Array]:
    """Return rival -> what it answers for the test rows.

    Args:
        splits: `train`, `eval` and `test`.
        config: The run's config.
        columns: Raw columns that the model reads.
        classes: Classes or labels of the task; 0 for regression.

    Returns:
        Scores `[rows, classes]` (two columns for binary), or predictions `[rows]` for regression.
    """
    task, seed = config["data"]["task"], config["seed"]
    of = {kind: _columns_of(config, kind) for kind in ("text", "image", "series")}
    table = [name for name in columns if not any(name in held for held in of.values())]
    found: dict[str, Array] = {}
    if of["image"] and not table and not of["text"] and task in ("binary", "multiclass"):
        found["support vector machine on pixels"] = _machine_on_pixels(splits, of["image"][0], classes)
    if of["series"] and not table and not of["text"] and task in ("binary", "multiclass"):
        found["1-NN DTW"] = _neighbour(splits, of["series"], classes)
    if table or of["text"]:
        kind = "ridge" if task == "regression" else "logistic"
        found[f"linear ({kind})"] = _linear(splits, config, table, of["text"], classes)
    if table:
        beside = " on the table alone" if any(of.values()) else ""
        frames = design_matrix(splits, config, table)
        tuned = {"hgb tuned": {"max_iter": MAX_TREES, "max_leaf_nodes": 63}}
        for name, settings in {"hgb defaults": {}, **({} if task == "multilabel" else tuned)}.items():
            answers, words = _boosted(frames, splits, task, classes, {"random_state": seed, **settings})
            found[f"{name}{words}{beside}"] = answers
    return found


def _columns_of(config: Mapping[str, Any], kind: str) -> list[str]:
    """Return the raw columns that features of one kind read."""
    held = [(name, f) for name, f in config["features"].items() if f["kind"] == kind]
    return [column for name, f in held for column in (f.get("of") or [f.get("column") or name])]


def design_matrix(
    splits: Mapping[str, Rows], config: Mapping[str, Any], columns: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return the raw columns as numbers and categories, fitted on the training split.

    Text columns become categories by frequency: up to 255 as a categorical feature, more as a rank.
    A date becomes the parts that the config takes of it.
    """
    frames = _frames(splits, config, columns)
    for column in [c for c in frames["train"] if not pd.api.types.is_numeric_dtype(frames["train"][c])]:
        order = frames["train"][column].value_counts().index
        ranks = {value: float(rank) for rank, value in enumerate(order)}
        for frame in frames.values():
            codes = frame[column].map(ranks).astype(float)
            few = 0 < len(order) <= MAX_CATEGORIES
            frame[column] = pd.Categorical(codes, categories=sorted(ranks.values())) if few else codes
    return frames


def _frames(
    splits: Mapping[str, Rows], config: Mapping[str, Any], columns: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return the columns as pandas reads them; dates in parts, columns without a value as numbers."""
    frames = {
        name: pd.DataFrame({c: rows.columns[c].to_pandas() for c in columns}) for name, rows in splits.items()
    }
    dates = {f.get("column") or name: f for name, f in config["features"].items() if f["kind"] == "date"}
    for column, feature in dates.items():
        for frame in frames.values():
            form = feature.get("format") or "ISO8601"
            values = pd.to_datetime(
                frame.pop(column).astype("string"), format=form, errors="coerce", utc=True
            )
            for part in feature["parts"]:
                frame[f"{column}.{part}"] = _DATE_PARTS[part](values).astype(float)
    for column in frames["train"]:
        kinds = [frame[column].dropna() for frame in frames.values()]
        if all(pd.api.types.is_numeric_dtype(kind) for kind in kinds if len(kind)):
            for frame in frames.values():
                frame[column] = pd.to_numeric(frame[column]).astype(float)
    return frames


def _linear(
    splits: Mapping[str, Rows],
    config: Mapping[str, Any],
    table: Sequence[str],
    texts: Sequence[str],
    classes: int,
) -> Array:
    """Fit one-hot categories, scaled numbers and TF-IDF of texts; the penalty is chosen on eval."""
    frames = _frames(splits, config, table)
    numeric = [c for c in frames["train"] if pd.api.types.is_numeric_dtype(frames["train"][c])]
    others = [c for c in frames["train"] if c not in numeric]
    parts: list[dict[str, Any]] = []
    if numeric:
        scale = make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
        )
        parts.append(_transformed(scale, {n: f[numeric].to_numpy() for n, f in frames.items()}))
    if others:
        names = {n: f[others].astype("string").fillna("").to_numpy(object) for n, f in frames.items()}
        parts.append(_transformed(OneHotEncoder(handle_unknown="ignore"), names))
    for column in texts:
        words = {
            n: [str(text or "") for text in rows.columns[column].to_pylist()] for n, rows in splits.items()
        }
        few = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\S+")
        parts.append(_transformed(few, words))
    inputs = {name: sparse.hstack([part[name] for part in parts]).tocsr() for name in splits}
    fits = (
        _fitted(lambda c=penalty: _linear_model(config["data"]["task"], c), inputs, splits, classes)
        for penalty in _PENALTIES
    )
    return min(fits, key=lambda fit: fit[0])[1]


def _transformed(step: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    step.fit(values["train"])
    return {name: sparse.csr_matrix(step.transform(held)) for name, held in values.items()}


def _linear_model(task: str, penalty: float) -> Any:
    return Ridge(alpha=penalty) if task == "regression" else LogisticRegression(C=1 / penalty, max_iter=2000)


def _fitted(
    make: Callable[[], Any], inputs: Mapping[str, Any], splits: Mapping[str, Rows], classes: int
) -> tuple[float, Array]:
    """Return the loss on eval and the answers on test of one model, or of one model a label."""
    train = splits["train"]
    if train.labels.ndim == 1:
        model = _fit(make, inputs["train"], train.labels, train.weights, classes)
        held, answers = (_answers(model, inputs[name], classes) for name in ("eval", "test"))
    else:
        each = [_fit(make, inputs["train"], train.labels[:, k], train.weights, 2) for k in range(classes)]
        held, answers = (
            np.stack([_answers(model, inputs[name], 2)[:, 1] for model in each], axis=1)
            for name in ("eval", "test")
        )
    return eval_loss(splits["eval"], held), answers


def _fit(make: Callable[[], Any], inputs: Any, labels: Array, weights: Array | None, classes: int) -> Any:
    """Fit a model, or return the only class that there is."""
    if classes and len(np.unique(labels)) == 1:
        return int(labels[0])
    return make().fit(inputs, labels, sample_weight=weights)


def _answers(model: Any, inputs: Any, classes: int) -> Array:
    """Return predictions, or a score for every class of the task: 0 for one that train does not hold."""
    if not classes:
        return np.asarray(model.predict(inputs))
    if isinstance(model, int):
        return np.tile(np.eye(classes)[model], (inputs.shape[0], 1))
    return _aligned(model.predict_proba(inputs), model.classes_, classes)


def _aligned(scores: Array, known: Array, classes: int) -> Array:
    wide = np.zeros((len(scores), classes))
    wide[:, np.asarray(known).astype(int)] = scores
    return wide


def eval_loss(rows: Rows, answers: Array) -> float:
    """Return the weighted loss by which rivals choose on eval: squared error, or log loss.

    Unlike scikit-learn's it takes rows without one of the classes.
    """
    if answers.ndim == 1:
        return float(np.average((answers - rows.labels) ** 2, weights=rows.weights))
    safe = np.clip(answers, 1e-9, 1 - 1e-9)
    if rows.labels.ndim == 1:
        losses = -np.log(safe[np.arange(len(safe)), rows.labels.astype(int)])
    else:
        losses = -np.where(rows.labels == 1, np.log(safe), np.log1p(-safe)).mean(axis=1)
    return float(np.average(losses, weights=rows.weights))


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


def _neighbour(splits: Mapping[str, Rows], columns: list[str], classes: int) -> Array:
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
    return np.eye(classes)[nearest_by_dtw(known, labels, series["test"])]


def _machine_on_pixels(splits: Mapping[str, Rows], column: str, classes: int) -> Array:
    pixels = {n: np.array(rows.columns[column].to_pylist(), np.float32) / 255 for n, rows in splits.items()}
    train = splits["train"]
    model = _fit(lambda: SVC(C=10.0, gamma="scale"), pixels["train"], train.labels, train.weights, classes)
    chosen = np.full(len(pixels["test"]), model) if isinstance(model, int) else model.predict(pixels["test"])
    return np.eye(classes)[chosen.astype(int)]


def _boosted(
    frames: Mapping[str, pd.DataFrame], splits: Mapping[str, Rows], task: str, classes: int, settings: Any
) -> tuple[Array, str]:
    """Return the answers of trees; with `max_iter` of the number of them that is best on eval, in words."""
    regression = task == "regression"
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier

    def make() -> Any:
        return kind(categorical_features="from_dtype", early_stopping=False, **settings)

    train = splits["train"]
    if "max_iter" not in settings:
        return _fitted(make, frames, splits, classes)[1], ""
    model = _fit(make, frames["train"], train.labels, train.weights, classes)
    if isinstance(model, int):
        return _answers(model, frames["test"], classes), ""

    def staged(frame: pd.DataFrame) -> Any:
        steps = model.staged_predict(frame) if regression else model.staged_predict_proba(frame)
        return steps if regression else (_aligned(scores, model.classes_, classes) for scores in steps)

    losses = [eval_loss(splits["eval"], held) for held in staged(frames["eval"])]
    best = min(range(9, len(losses), 10), key=losses.__getitem__) + 1
    words = f" ({best} trees{', the limit' if best == MAX_TREES else ''})"
    return next(held for step, held in enumerate(staged(frames["test"]), 1) if step == best), words
