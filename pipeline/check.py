"""The checks that come before anything heavy."""

from collections.abc import Callable

from headrace.components.features.plan import plan_outputs
from headrace.components.infra.engine import require_engine
from headrace.components.models.check import check_weights
from headrace.data.source import Source, check_source

from .beam_check import check_engines
from .config import RunConfig, column_plan
from .own_code import check_own_code

__all__ = ["check", "check_data"]


def check(config: RunConfig, tell: Callable[[str], None] = lambda text: None) -> Source:
    """Check files, headers, columns, features, weights, engines and own code; return what was seen.

    Only own code needs TensorFlow, which a child imports for it.

    Args:
        config: The run config.
        tell: Told what takes a while.

    Raises:
        ConfigError: If a file, its header, its columns or a feature breaks a rule, the server that the
            serving gate names is not on this machine, or own code does not work.
        EnvironmentProblem: If pretrained weights or Beam's engine cannot be had from here.
    """
    source = check_data(config)
    check_weights(config.model)
    require_engine(config.gates.serving.gate)
    check_engines(config.beam)
    check_own_code(config, tell)
    return source


def check_data(config: RunConfig) -> Source:
    """Check files, headers, columns and features, all that does not depend on what else this machine has.

    Raises:
        ConfigError: If a file, its header, its columns or a feature breaks a rule.
    """
    plan = column_plan(config)
    source = check_source(config.data, plan)
    if config.preprocessing_fn is None:
        plan_outputs(config.features, {column.name: column.type for column in plan.columns})
    return source
