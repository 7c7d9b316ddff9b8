"""Own code tried before anything is spent on it: built and called as training would, on made-up rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from headrace.data.columns import RawColumn
from headrace.data.config import RawType, Task
from headrace.data.errors import ConfigError

from .features.analyze import parse_spec
from .features.config import FeaturesConfig
from .features.graph import LabelPlan
from .features.outputs import Bucketed, Picture
from .features.outputs import Output as Planned
from .features.plan import plan_outputs
from .features.sidecar import Fitted, describe_features
from .features.spec import dtype_of, shape_of
from .features.user import describe_output, wrap_user_function
from .imported import load_object
from .models.config import ModelConfig
from .models.output import Output
from .models.registry import build_model
from .training.callbacks import own_callbacks
from .training.config import TrainingConfig
from .training.losses import make_loss
from .training.settings import loss_kind

__all__ = ["trial_output", "try_features", "try_model", "try_training"]

_ROWS = 3
_CATEGORIES = 4
"""Of a vocabulary that is not known yet."""

_CLASSES: Mapping[Task, tuple[str, ...]] = {
    "binary": ("no", "yes"),
    "multiclass": ("a", "b", "c"),
    "multilabel": ("a", "b", "c"),
    "regression": (),
}


def trial_output(task: Task, classes: Sequence[str]) -> Output:
    """Return what the model is to answer, with made-up classes where ingest will find them."""
    return Output(task, tuple(classes) or _CLASSES[task])


def try_features(
    features: FeaturesConfig,
    user_fn: str | None,
    types: Mapping[str, RawType],
    label: tuple[RawColumn, str | None],
    output: Output,
) -> dict[str, Any]:
    """Return what features.json may say, categories made up.

    Args:
        features: The `features` section.
        user_fn: Import path of the user's own preprocessing_fn; None: `features` are used.
        types: Raw column -> type, of the columns that the model reads.
        label: The label column, and the name of the weight column if any.
        output: Task and classes.

    Raises:
        ConfigError: If the preprocessing_fn cannot be imported, fails on tensors or returns none.
    """
    if user_fn is None:
        outputs = plan_outputs(features, types)
        described = describe_features(outputs, _fitted(outputs))
    else:
        described = _try_preprocessing(user_fn, types, label, output)
    return {"features": described, "label": {"task": output.task, "classes": list(output.classes) or None}}


def try_model(features: Mapping[str, Any], config: ModelConfig, output: Output, seed: int) -> Any:
    """Build the model, call it on rows of zeros and return it.

    Raises:
        ConfigError: If it cannot be built, or does not answer.
    """
    try:
        model = build_model(features, config, output, seed=seed, pretrained=False)
        rows = {
            spec["name"]: np.zeros((_ROWS, *shape_of(spec)), dtype_of(spec)) for spec in features["features"]
        }
        answers = np.asarray(model(rows))
    except ConfigError:
        raise
    except Exception as error:  # whatever the layers say
        raise ConfigError(f"`model` must build and answer rows. Received: {_told(error)} (model)") from error
    if answers.shape != (_ROWS, output.logits):
        raise ConfigError(
            f"a model must answer {[_ROWS, output.logits]} for {_ROWS} rows. "
            f"Received: {list(answers.shape)} (model)"
        )
    return model


def try_training(training: TrainingConfig, output: Output) -> None:
    """Make the callbacks, and try a custom loss on a few rows.

    Raises:
        ConfigError: If one cannot be imported or made, monitors what is not logged, or the loss gives no
            finite number a row that follows the model's outputs.
    """
    own_callbacks(training, output.task)
    if loss_kind(training, output.task) == "custom":
        _try_loss(training, output)


def _try_loss(training: TrainingConfig, output: Output) -> None:
    place = f"(training.loss.use: {training.loss.use})"
    width = output.logits if output.task == "multilabel" else 1
    labels = tf.constant(np.arange(_ROWS * width).reshape(_ROWS, width) % 2, tf.float32)
    outputs = tf.Variable(np.linspace(-0.5, 0.5, _ROWS * output.logits).reshape(_ROWS, -1), dtype=tf.float32)
    loss = make_loss(training, output)
    try:
        with tf.GradientTape() as tape:
            # As in training: a function that graphs cannot hold fails here already.
            losses = tf.function(loss.call)(labels, outputs)
            total = tf.reduce_sum(losses)
        slope = tape.gradient(total, outputs)
    except Exception as error:  # whatever the user's code raises is the user's to know
        raise ConfigError(
            "`training.loss.use` must run on (labels [rows, n], outputs [rows, n]). "
            f"Received: {_told(error)} {place}"
        ) from error
    if tuple(losses.shape) not in ((_ROWS,), (_ROWS, output.logits)):
        raise ConfigError(f"a loss must give one number a row. Received: shape {tuple(losses.shape)} {place}")
    if slope is None:
        raise ConfigError(
            f"a loss must follow the outputs, or nothing is learnt. Received: no gradient {place}",
            "operations such as argmax, round, cast to whole numbers and numpy have none",
        )
    if not np.isfinite(np.asarray(losses)).all() or not np.isfinite(np.asarray(slope)).all():
        raise ConfigError(f"a loss must be finite, its gradient too. Received: NaN or infinity {place}")


def _try_preprocessing(
    path: str, types: Mapping[str, RawType], label: tuple[RawColumn, str | None], output: Output
) -> list[dict[str, Any]]:
    column, weight = label
    found: dict[str, dict[str, Any]] = {}
    separator = "|" if output.task == "multilabel" else None
    plan = LabelPlan(column.name, output.classes or None, weight, separator)
    wrapped = wrap_user_function(load_object(path, "preprocessing_fn"), path, list(types), plan)

    def noted(inputs: Mapping[str, Any]) -> dict[str, Any]:
        tensors = wrapped(inputs)
        for name, tensor in tensors.items():
            if name not in ("label", "weight"):
                cardinality = _CATEGORIES if tensor.dtype == tf.int64 else None
                found[name] = describe_output(name, int(tensor.shape[1]), cardinality)
        return tensors

    weights: dict[str, RawType] = {} if weight is None else {weight: "float"}
    columns = parse_spec({**types, column.name: column.type, **weights})
    specs = {name: tf.SparseTensorSpec([None, None], kind.dtype) for name, kind in columns.items()}
    try:
        tft.get_transform_input_columns(noted, specs)
    except ConfigError:
        raise
    except Exception as error:  # what tf.Transform says of a graph that it cannot take
        raise ConfigError(
            f"`preprocessing_fn` must run on tensors. Received: {_told(error)} ({path})"
        ) from error
    return [found[name] for name in sorted(found)]


def _fitted(outputs: Sequence[Planned]) -> Fitted:
    """Return what analyzers might find; only sizes matter here."""
    statistics: dict[str, Any] = {}
    for output in outputs:
        if isinstance(output, Bucketed):
            statistics[output.name] = np.arange((output.quantiles or len(output.bounds) + 1) - 1)
        elif isinstance(output, Picture):
            statistics[output.name] = np.ones((2, output.channels))
    words = tuple(f"word {number}" for number in range(_CATEGORIES))
    return Fitted(statistics, {output.name: words for output in outputs}, {})


def _told(error: BaseException) -> str:
    # Where a graph is traced, TensorFlow puts the user's own lines before what was raised.
    *_, said = [line for line in str(error).splitlines() if line.strip()] or [""]
    name = type(error).__name__
    return f"{name}: {' '.join(said.split()).removeprefix(f'{name}: ')[:300]}"
