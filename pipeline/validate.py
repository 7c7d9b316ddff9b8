"""What `headrace validate` finds of a config and its data."""

from collections.abc import Sequence

from headrace.components.ingest.sample import Sample, check_sample

from .check import check
from .config import column_plan, load_config

__all__ = ["validate"]

_SHOWN = 3


def validate(path: str, overrides: Sequence[str] = ()) -> list[str]:
    """Check a config, its files, its columns and as many of its first rows as can be read in about a second.

    Args:
        path: YAML file.
        overrides: "dotted.path=value" texts.

    Returns:
        What was found, in lines for people.

    Raises:
        ConfigError: If the config, a file or a column is wrong.
        DataRejected: If ingest would refuse one of the rows.
    """
    loaded = load_config(path, overrides)
    source = check(loaded)
    plan = column_plan(loaded)
    sample = check_sample(source, loaded.data, plan)
    files = f"{len(source.paths)} file{'s' if len(source.paths) != 1 else ''}"
    read = f"all {sample.rows:,} rows" if sample.whole else f"the first {sample.rows:,} rows"
    found = (
        f"{path} is valid: {files}, {source.size_bytes / 1e6:.1f} MB, {len(plan.features)} feature columns, "
        f"label {plan.label} ({loaded.data.task}); {read} can be ingested"
    )
    return [found, *_corrupt(sample, loaded.data.max_corrupt_share)]


def _corrupt(sample: Sample, allowed: float) -> list[str]:
    """Tell of pictures that would be left out."""
    if not sample.corrupt_rows:
        return []
    named = "; ".join(f"{entry.path}: {entry.reason}" for entry in sample.corrupt[:_SHOWN])
    more = f"; and {sample.corrupt_rows - _SHOWN:,} more" if sample.corrupt_rows > _SHOWN else ""
    return [
        f"note: {sample.corrupt_rows:,} of {sample.rows:,} pictures cannot be decoded and would be left out; "
        f"at most {allowed:.2%} may be (data.max_corrupt_share): {named}{more}"
    ]
