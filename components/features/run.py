"""The transform node: fit the feature spec on the training split, and apply it to every split."""

import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from headrace.components.imported import load_object
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.data.config import SPLITS, RawType
from headrace.data.errors import DataRejected, EnvironmentProblem, HeadraceError
from headrace.serving.preprocessing import Preprocessor

from .analyze import RowSize, analyze
from .apply import compile_transform, transform_shards
from .config import FeaturesConfig
from .golden import golden_limit, golden_rows, golden_vectors, read_rows
from .graph import LabelPlan, build_preprocessing_fn
from .outputs import Bag, Category, Number, Output, Picture, Series, SeriesLength, Tokens
from .plan import plan_outputs
from .sidecar import describe_features, describe_transform, read_fitted
from .signatures import FittedTransform
from .user import describe_user_features, wrap_user_function

__all__ = ["Ingest", "check_sidecar", "fit", "read_ingest", "run"]

_TOLERANCE = 1e-5
_VALUE_BYTES = 16  # a number of a transformed row, with the copies that steps on its way hold
_TEXT_FACTOR = 64  # a text, character by character
_BAD_CONTENT = ("a picture must be", "a row of pixels must hold", "Invalid JPEG data", "Invalid PNG data")


@dataclass(frozen=True)
class Ingest:
    """What the transform needs of `ingest.json`.

    Attributes:
        columns: Raw column -> type, of the columns that the model reads, in config order.
        label: The label and weight columns.
        task: `binary`, `multiclass`, `multilabel` or `regression`.
        rows: Split -> rows.
        empty: Columns without a value in the training split.
    """

    columns: Mapping[str, RawType]
    label: LabelPlan
    task: str
    rows: Mapping[str, int]
    empty: frozenset[str]

    @property
    def parsed(self) -> dict[str, RawType]:
        """Raw column -> type, of the columns to parse from the examples: label and weight too."""
        found: dict[str, RawType] = dict(self.columns)
        found[self.label.name] = "float" if self.label.classes is None else "string"
        if self.label.weight is not None:
            found[self.label.weight] = "float"
        return found


def run(ctx: NodeContext) -> NodeResult:
    """Fit the transform and write the graph, features.json, the sidecar and the transformed examples."""
    examples, graph_dir = ctx.input("examples"), ctx.outputs["transform_graph"]
    ingest = read_ingest(examples, ctx.config["data"].get("label_separator", "|"))
    features = TypeAdapter(FeaturesConfig).validate_python(ctx.config["features"])
    user_fn: str | None = ctx.config.get("preprocessing_fn")
    outputs = () if user_fn else plan_outputs(features, ingest.columns)
    _check_fittable(outputs, ingest)
    emit("phase", text=f"fitting on {ingest.rows['train']:,} rows")
    with _telling_bad_content():
        described = fit(
            examples, ingest, outputs, user_fn, graph_dir, ctx.temp_dir, ctx.beam_args, runner=ctx.beam_runner
        )
        transform = FittedTransform(graph_dir)
        _write_golden(examples, ingest, transform, graph_dir, has_sidecar=user_fn is None)
        size = RowSize(_text_factor(outputs), _VALUE_BYTES * sum(spec["width"] for spec in described))
        _transform_splits(ctx, ingest, transform, size)
    categories = sum(spec["cardinality"] or 0 for spec in described)
    finding = f"{len(ingest.columns)} columns to {len(described)} model inputs, {categories:,} categories"
    counts = {"inputs": len(described), "categories": categories, "beam_runner": ctx.beam_runner}
    return NodeResult(f"{finding}{ctx.by_engine}", {"transform_graph": counts})


def read_ingest(examples: str, label_separator: str = "|") -> Ingest:
    """Read `ingest.json` of an examples artifact.

    Args:
        examples: Its folder.
        label_separator: What stands between the labels of a row, where the task is multilabel.
    """
    with open(os.path.join(examples, "ingest.json"), encoding="utf-8") as stream:
        content = json.load(stream)
    types = {column["name"]: column["type"] for column in content["columns"]}
    rows: dict[str, int] = content["splits"]
    label = content["label"]
    classes = label["classes"]
    separator = label_separator if label["task"] == "multilabel" else None
    return Ingest(
        columns={name: types[name] for name in content["features"]},
        label=LabelPlan(
            label["name"], None if classes is None else tuple(classes), content["weight"], separator
        ),
        task=label["task"],
        rows=rows,
        empty=frozenset(
            column["name"]
            for column in content["columns"]
            if column["missing"].get("train", 0) >= rows["train"]
        ),
    )


def fit(
    examples: str,
    ingest: Ingest,
    outputs: tuple[Output, ...],
    user_fn: str | None,
    graph_dir: str,
    temp_dir: str,
    beam_args: Any = (),
    *,
    runner: str = "direct",
) -> list[dict[str, Any]]:
    """Write the transform graph, features.json and the sidecar; return the `features` of features.json.

    Args:
        examples: Folder of the examples artifact.
        ingest: Its summary.
        outputs: The planned model inputs; not used with `user_fn`.
        user_fn: Import path of the user's preprocessing_fn, or None.
        graph_dir: Folder of the transform_graph artifact.
        temp_dir: For scratch files.
        beam_args: Beam pipeline options.
        runner: Name of Beam's engine; `direct`: this process.
    """
    if user_fn is None:
        preprocessing_fn = build_preprocessing_fn(outputs, ingest.label)
    else:
        function = load_object(user_fn, "preprocessing_fn")
        preprocessing_fn = wrap_user_function(function, user_fn, list(ingest.columns), ingest.label)
    scratch = os.path.join(temp_dir, "tft")
    size = _row_size(outputs)
    shards = _shards(examples, "train")
    try:
        analyze(shards, ingest.parsed, preprocessing_fn, graph_dir, scratch, beam_args, size, runner=runner)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    folder = os.path.join(graph_dir, "headrace")
    os.makedirs(folder)
    if user_fn is None:
        fitted = read_fitted(graph_dir, outputs)
        described = describe_features(outputs, fitted)
        _write_json(folder, "preprocessing.json", describe_transform(outputs, ingest.columns, fitted))
    else:
        described = describe_user_features(graph_dir)
        reason = f"the transform is the user's own preprocessing_fn ({user_fn}), which needs TensorFlow"
        _write_json(folder, "sidecar.json", {"reason": reason})
    classes = None if ingest.label.classes is None else list(ingest.label.classes)
    _write_json(
        folder,
        "features.json",
        {
            "features": described,
            "label": {"name": ingest.label.name, "task": ingest.task, "classes": classes},
            "weight": ingest.label.weight,
            "raw": [{"name": name, "type": kind} for name, kind in ingest.columns.items()],
        },
    )
    return described


def _row_size(outputs: tuple[Output, ...]) -> RowSize:
    """Return how much larger rows become while they are analysed."""
    pixels = sum(
        output.height * output.width * output.channels
        for output in outputs
        if isinstance(output, Picture) and output.scale == "zscore"  # others are not decoded here
    )
    return RowSize(_text_factor(outputs), _VALUE_BYTES * pixels)


def check_sidecar(sidecar: Preprocessor, golden: Mapping[str, Any]) -> None:
    """Hold the sidecar to golden vectors: numbers within 1e-5 * max(1, |a|), categories exactly.

    Args:
        sidecar: The transform without TensorFlow.
        golden: Content of golden.json.

    Raises:
        HeadraceError: If an output differs.
    """
    found = sidecar.transform(golden["inputs"])
    for name, wanted in golden["transformed"].items():
        expected = np.array(wanted, np.float64)  # null becomes NaN, which no comparison below rejects
        difference = np.abs(found[name] - expected)
        allowed = _TOLERANCE * np.maximum(1, np.abs(expected)) if found[name].dtype.kind == "f" else 0
        wrong = difference > allowed
        if wrong.any():
            row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
            raise HeadraceError(
                "preprocessing.json must agree with the transform graph. Received: "
                f"{_shown(found[name][row])} for {_shown(expected[row])} (output {name!r}, golden row {row})"
            )


def _shown(values: Any) -> str:
    return np.array2string(values, threshold=20, separator=", ")


@contextmanager
def _telling_bad_content() -> Iterator[None]:
    """Turn what the graph says of a picture that it cannot take into an error of the data's."""
    try:
        yield
    except Exception as error:  # Beam wraps what a graph raises in errors of many types
        for line in str(error.__cause__ if isinstance(error, EnvironmentProblem) else error).splitlines():
            place = min((line.find(mark) for mark in _BAD_CONTENT if mark in line), default=-1)
            if place >= 0:
                raise DataRejected(
                    "every picture must be a whole JPEG or PNG file, or a row of all its pixels. "
                    f"Received: {line[place : place + 300]}",
                    "take the row out of the data, or correct `height`, `width` and `channels`",
                ) from error
        raise


def _text_factor(outputs: tuple[Output, ...]) -> int:
    texts = any(isinstance(output, Tokens | Bag) for output in outputs)
    return _TEXT_FACTOR if texts else RowSize().factor


def _check_fittable(outputs: tuple[Output, ...], ingest: Ingest) -> None:
    for output in outputs:
        for column in sorted(_columns_of(output) & ingest.empty):
            raise DataRejected(
                f"a feature's column must have a value in the training split. Received: none in "
                f"{ingest.rows['train']:,} rows of column {column!r} (features.{output.source})",
                "take the feature out of the config, or correct the data",
            )


def _columns_of(output: Output) -> set[str]:
    if isinstance(output, Category):
        return {part.column for part in output.parts}
    if isinstance(output, Series | SeriesLength):
        return set(output.columns)
    # A number with a constant to impute and nothing to scale by fits on anything, even on nothing.
    if isinstance(output, Number) and output.scale == "none" and not isinstance(output.impute, str):
        return set()
    return {output.column}


def _write_golden(
    examples: str, ingest: Ingest, transform: FittedTransform, graph_dir: str, has_sidecar: bool
) -> None:
    """Write golden.json, and hold the sidecar to it."""
    limit = golden_limit(sum(spec["width"] for spec in transform.features["features"]))
    shards = _shards(examples, "eval") + _shards(examples, "train")
    rows = read_rows(shards, ingest.columns, limit + 2 * len(ingest.columns))
    golden = golden_vectors(golden_rows(rows, ingest.columns, limit), ingest.columns, transform)
    folder = os.path.join(graph_dir, "headrace")
    _write_json(folder, "golden.json", golden)
    if has_sidecar:
        check_sidecar(Preprocessor.load(os.path.join(folder, "preprocessing.json")), golden)


def _transform_splits(
    ctx: NodeContext, ingest: Ingest, transform: FittedTransform, row_size: RowSize
) -> None:
    examples, folder = ctx.input("examples"), ctx.outputs["transformed_examples"]
    total, done = sum(ingest.rows.values()), 0
    if ctx.distributed:
        from .apply_beam import transform_splits

        emit("phase", text=f"transforming {total:,} rows, a Beam job on {ctx.beam_runner}")
        shards = {split: _shards(examples, split) for split in SPLITS}
        engine = (ctx.beam_runner, ctx.beam_args)
        graph_dir = ctx.outputs["transform_graph"]
        found = transform_splits(shards, ingest.parsed, graph_dir, folder, row_size, ctx.temp_dir, engine)
        if found != dict(ingest.rows):
            raise HeadraceError(
                f"every row must be transformed once. Received: {found} of {dict(ingest.rows)} "
                f"(Beam on {ctx.beam_runner})"
            )
        return
    batch_transform = compile_transform(transform.apply, ingest.parsed)
    for split in SPLITS:
        target = os.path.join(folder, f"Split-{split}")
        os.makedirs(target)
        for rows in transform_shards(_shards(examples, split), batch_transform, target, row_size):
            done += rows
            emit("rows", done=done, total=total, text=f"transforming {split}")


def _shards(examples: str, split: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(examples), f"Split-{split}", "*.gz")))


def _write_json(folder: str, name: str, content: Any) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
        json.dump(content, stream, ensure_ascii=False, allow_nan=False)
