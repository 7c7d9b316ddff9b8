"""The checks that come before anything heavy."""

from headrace.components.features.plan import plan_outputs
from headrace.components.infra.engine import require_engine
from headrace.components.models.check import check_weights
from headrace.data.source import Source, check_source

from .beam_check import check_engines
from .config import RunConfig, column_plan

__all__ = ["check", "check_data"]


def check(config: RunConfig) -> Source:
    """Check files, headers, columns, features, weights and engines without TensorFlow; return what was seen.

    Raises:
        ConfigError: If a file, its header, its columns or a feature breaks a rule, or the server that the
            serving gate names is not on this machine.
        EnvironmentProblem: If pretrained weights or Beam's engine cannot be had from here.
    """
    source = check_data(config)
    check_weights(config.model)
    require_engine(config.gates.serving.gate)
    check_engines(config.beam)
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
