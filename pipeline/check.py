"""The checks that come before anything heavy."""

from headrace.data.source import Source, check_source

from .config import RunConfig, column_plan

__all__ = ["check"]


def check(config: RunConfig) -> Source:
    """Check files, headers and columns of `config` without TensorFlow and return what was seen.

    Raises:
        ConfigError: If a file, its header or its columns break a rule.
    """
    return check_source(config.data, column_plan(config))
