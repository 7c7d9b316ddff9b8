"""The process in which own code is tried; see `own_code`."""

import sys
import traceback
from pathlib import Path

from headrace.components.imported import load_object
from headrace.components.own_code import search_first
from headrace.data.errors import ConfigError, HeadraceError

from .config import RunConfig, column_plan
from .own_code import own_names, told


def _try(config: RunConfig) -> None:
    """Raise HeadraceError unless everything of the user's own works on made-up rows."""
    for place, path in own_names(config).items():
        load_object(path, place)
    # Only now: it imports TensorFlow.
    from headrace.components.trial import trial_output, try_features, try_model, try_training

    plan = column_plan(config)
    types = {name: plan.type_of(name) for name in plan.features}
    label = next(column for column in plan.columns if column.name == plan.label)
    output = trial_output(config.data.task, config.data.classes)
    features = try_features(config.features, config.preprocessing_fn, types, (label, plan.weight), output)
    try_model(features, config.model, output, config.seed)
    try_training(config.training, output)


def _main(result: str) -> None:
    # `python -m` puts the working directory first, where `headrace` would not look for modules.
    del sys.path[0]
    config = RunConfig.model_validate_json(sys.stdin.read())
    try:
        search_first(config.code, own_names(config).values())
        _try(config)
    except HeadraceError as error:
        text = told(error)
    except Exception as error:  # whatever a module of the user's raises when it is imported
        traceback.print_exc()
        text = told(ConfigError(f"own code must import and build. Received: {type(error).__name__}: {error}"))
    else:
        text = "null"
    Path(result).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
