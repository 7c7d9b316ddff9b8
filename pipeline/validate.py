"""What `headrace validate` finds of a config and its data."""

from collections.abc import Callable, Sequence

from headrace.components.gates.splits import judge_splits
from headrace.components.ingest.sample import Sample, check_sample

from .check import check
from .config import RunConfig, column_plan, load_config
from .metadata_failure import check_reachable
from .store import Store

__all__ = ["validate"]

_SHOWN = 3


def validate(
    path: str, overrides: Sequence[str] = (), tell: Callable[[str], None] = lambda text: None
) -> list[str]:
    """Check a config, its files, its columns and as many of its first rows as can be read in about a second.

    Args:
        path: YAML file.
        overrides: "dotted.path=value" texts.
        tell: Told what takes a while.

    Returns:
        What was found, in lines for people.

    Raises:
        ConfigError: If the config, a file or a column is wrong.
        EnvironmentProblem: If the metadata's database does not answer, or what `check` needs is not here.
        DataRejected: If ingest would refuse one of the rows.
    """
    loaded = load_config(path, overrides)
    source = check(loaded, tell)
    check_reachable(loaded.metadata, Store.of(loaded).database)
    plan = column_plan(loaded)
    sample = check_sample(source, loaded.data, plan)
    found = (
        f"{path} is valid: {_counted(len(source.paths), 'file')}, {source.size_bytes / 1e6:.1f} MB, "
        f"{_counted(len(plan.features), 'feature column')}, label {plan.label} ({loaded.data.task}); "
        f"{_readable(sample)} can be ingested"
    )
    return [found, *_corrupt(sample, loaded), *_poor_splits(sample, loaded)]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _readable(sample: Sample) -> str:
    """Say how many of the rows that were looked at ingest would take."""
    if not sample.corrupt_rows:
        return f"all {sample.rows:,} rows" if sample.whole else f"the first {sample.rows:,} rows"
    looked_at = f"{sample.rows:,} rows" if sample.whole else f"the first {sample.rows:,} rows"
    return f"{sample.rows - sample.corrupt_rows:,} of {looked_at}"


def _corrupt(sample: Sample, config: RunConfig) -> list[str]:
    """Tell of pictures that are left out."""
    if not sample.corrupt_rows:
        return []
    named = "; ".join(f"{entry.path}: {entry.reason}" for entry in sample.corrupt[:_SHOWN])
    more = f"; and {sample.corrupt_rows - _SHOWN:,} more" if sample.corrupt_rows > _SHOWN else ""
    return [
        f"note: {_counted(sample.corrupt_rows, 'picture')} cannot be decoded and will be left out; at most "
        f"{config.data.max_corrupt_share:.2%} may be (data.max_corrupt_share): {named}{more}"
    ]


def _poor_splits(sample: Sample, config: RunConfig) -> list[str]:
    """Tell of what will make figures on the splits say little; known where all rows were read."""
    known = sample.ingested
    if known is None:
        return []
    found = {"splits": known.rows, "split": known.split, "label": {"counts": known.counts}}
    return [f"note: {gate.reason.removesuffix('.')}" for gate in judge_splits(found, config.data.task)]
