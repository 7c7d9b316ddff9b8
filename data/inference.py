"""A first run config from the data alone: `headrace init`."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from .columns import RawColumn, nearest
from .config import DataConfig
from .errors import ConfigError
from .feature_guess import Guess, guess_feature
from .label_guess import LabelGuess, guess_label
from .profile import ColumnProfile, profile_columns
from .readers.csv import read_header
from .readers.files import delimiter_of, find_files, format_of, open_bytes
from .readers.parquet import check_types, read_schema
from .readers.rows import read_blocks
from .source import column_names
from .yaml_text import scalar

__all__ = ["infer_config"]

_MAX_SLICES = 3
_MAX_SLICE_VALUES = 20
_MIN_SLICE_ROWS = 2_000  # a tenth of them, the test split's share, is `evaluation.min_slice_rows`
_MIN_DAYS = 30
_CONFIG_FORMAT = 1


def infer_config(path: str, label: str, *, name: str | None = None, config_folder: str | None = None) -> str:
    """Read the data once and return a run config as YAML text.

    Comments say what was seen: rows, distinct values, missing values, and why a column was left out.
    Equal data gives equal text.

    Args:
        path: A file, a folder or a glob.
        label: Name of the label column.
        name: Name of the pipeline; by default that of the file.
        config_folder: Folder that the config will lie in; `data.path` becomes relative to it where the
            data lies within it, else absolute. None: `path` is taken as it is.

    Raises:
        ConfigError: If the files are unsound, lack the label, or hold nothing to learn from.
        DataRejected: If the content cannot be read.
    """
    data = _reading(path, label)
    paths = find_files(data)
    names = _readable_columns(paths, data)
    profiles = {profile.name: profile for profile in profile_columns(paths, data, names)}
    label_profile = profiles.pop(label)
    answer = guess_label(label_profile)
    split = _time_split(profiles)
    if split is not None and answer.classes:
        # Rates drift: what a model must beat is the majority among the rows that it is judged on.
        answer = guess_label(label_profile, _label_counts_from(paths, data, *split), f"from {split[2]} on")
    guesses = {column: guess_feature(profile) for column, profile in profiles.items()}
    if not any(guess.lines for guess in guesses.values()):
        reasons = "; ".join(f"{column}: {guess.comment}" for column, guess in guesses.items())
        raise ConfigError(
            f"the data must have a column to learn from. Received: none besides the label ({reasons or path})"
        )
    rows = label_profile.rows
    sections = [
        [
            f"# Written by `headrace init` from {os.path.basename(os.path.normpath(path))}: {rows:,} rows, "
            f"{len(names)} columns. Edit it freely.",
            f"schema_version: {_CONFIG_FORMAT}",
            f"name: {name or _slug(path)}",
        ],
        _data_section(_written_path(path, config_folder), data, answer, profiles, guesses, split),
        _features_section(guesses),
        _model_section(rows),
        _evaluation_section(profiles, guesses, rows),
        ["gates:", "  quality:", *(f"    {line}" for line in answer.gates)],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _reading(path: str, label: str) -> DataConfig:
    """Return the `data` section that reads the files, with the delimiter that the header shows."""
    data = DataConfig(path=path, label=label)
    first = find_files(data)[0]
    if format_of(first, data) == "csv" and len(column_names(first, data)) == 1:
        for delimiter in (";", "\t", "|", ","):
            with open_bytes(first) as stream:
                names = read_header(stream, delimiter, data.csv.encoding)
            if len(names) > 1 and delimiter != delimiter_of(first, data):
                options = data.csv.model_copy(update={"delimiter": delimiter})
                return data.model_copy(update={"csv": options})
    return data


def _readable_columns(paths: Sequence[str], data: DataConfig) -> list[str]:
    """Return the columns that all files share, in the first one's order, without nested Parquet columns."""
    found = [column_names(path, data) for path in paths]
    for path, names in zip(paths, found, strict=True):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ConfigError(f"column names must differ. Received: {repeated[0]!r} twice ({path})")
        if data.label not in names:
            raise ConfigError(
                f"the label must be a column of the data. Received: {data.label!r} ({path})",
                nearest(data.label, names),
            )
    shared = [name for name in found[0] if name.strip() and all(name in names for names in found)]
    if format_of(paths[0], data) == "csv":
        return shared
    schema = read_schema(paths[0])[0]
    return [name for name in shared if _is_plain(paths[0], schema, data, name)]


def _is_plain(path: str, schema: pa.Schema, data: DataConfig, name: str) -> bool:
    try:
        check_types(path, schema, data, [RawColumn(name, "string")])
    except ConfigError:
        return False
    return True


def _data_section(
    path: str,
    data: DataConfig,
    answer: LabelGuess,
    profiles: Mapping[str, ColumnProfile],
    guesses: Mapping[str, Guess],
    split: tuple[str, str, str] | None,
) -> list[str]:
    lines = ["data:", f"  path: {scalar(path)}"]
    used = [profiles[name] for name, guess in guesses.items() if guess.lines]
    odd = sorted({text for profile in used for text in profile.placeholders})
    if data.csv.delimiter != "," or odd:
        lines.append("  csv:")
        if data.csv.delimiter != ",":
            lines.append(f'    delimiter: "{_escaped(data.csv.delimiter)}"')
        if odd:
            texts = ", ".join(f'"{text}"' for text in (*data.csv.null_values, *odd))
            lines.append(f"    null_values: [{texts}]")
    lines += [f"  label: {scalar(data.label)} # {answer.comment}", f"  task: {answer.task}"]
    if answer.task == "binary":
        lines.append(f"  classes: [{_texts(answer.classes)}] # the last one is the positive class")
    return [*lines, *_split_lines(split)]


def _split_lines(split: tuple[str, str, str] | None) -> list[str]:
    """Split by time where a column of dates allows it, else by hash."""
    if split is not None:
        column, eval_from, test_from = split
        return [
            "  # The model is judged on the latest rows, as it will be in use: about 80% train, 10% eval and",
            "  # 10% test.",
            "  split:",
            "    method: time",
            f"    column: {scalar(column)}",
            f'    eval_from: "{eval_from}"',
            f'    test_from: "{test_from}"',
        ]
    return [
        "  # Rows are split at random by a hash of their values, so identical rows share a split. Where",
        "  # several rows belong together (one customer, one day), name the columns that say so in `key`.",
        "  split: {method: hash, train: 0.8, eval: 0.1, test: 0.1}",
    ]


def _time_split(profiles: Mapping[str, ColumnProfile]) -> tuple[str, str, str] | None:
    """Return (column, eval_from, test_from) for the first column of dates that spans a month or more."""
    for name, profile in profiles.items():
        if profile.is_date and not profile.missing and len(profile.days) >= _MIN_DAYS:
            bounds = _time_bounds(profile)
            if bounds is not None:
                return (name, *bounds)
    return None


def _label_counts_from(
    paths: Sequence[str], data: DataConfig, column: str, _eval_from: str, test_from: str
) -> Counter[str]:
    """Count the label values of the rows that a time split tests on."""
    counts: Counter[str] = Counter()
    for block in read_blocks(paths, data, [RawColumn(column, "string"), RawColumn(data.label, "string")]):
        labels = block.batch.column(1).filter(pc.greater_equal(block.batch.column(0), test_from))
        for item in pc.value_counts(labels.drop_null()):
            counts[item["values"].as_py()] += item["counts"].as_py()
    return counts


def _time_bounds(profile: ColumnProfile) -> tuple[str, str] | None:
    """Return the days from which 20% and 10% of the rows are left, or None where they do not differ."""
    seen = 0
    bounds: list[str] = []
    for day, rows in sorted(profile.days.items()):
        while len(bounds) < 2 and seen >= (0.8, 0.9)[len(bounds)] * profile.present:
            bounds.append(day)
        seen += rows
    return (bounds[0], bounds[1]) if len(set(bounds)) == 2 else None


def _features_section(guesses: Mapping[str, Guess]) -> list[str]:
    lines = ["features:"]
    for name, guess in guesses.items():
        if guess.lines:
            lines.append(f"  {scalar(name)}: # {guess.comment}")
            lines += [f"    {line}" for line in guess.lines]
    left_out = [(name, guess.comment) for name, guess in guesses.items() if not guess.lines]
    if left_out:
        lines.append("  # Left out:")
        lines += [f"  #   {scalar(name)}: {comment}" for name, comment in left_out]
    return lines


def _model_section(rows: int) -> list[str]:
    hidden = "[32, 16]" if rows < 5_000 else "[64, 32]" if rows < 500_000 else "[128, 64]"
    # About two hundred steps an epoch, within what trains well on a processor.
    batch = min(max(32, 2 ** (max(rows // 200, 1).bit_length() - 1)), 1024)
    return [
        "model:",
        "  family: mlp",
        f"  hidden: {hidden}",
        "  dropout: 0.1",
        "",
        "training:",
        f"  epochs: {20 if rows < 50_000 else 5} # early stopping ends it sooner",
        f"  batch_size: {batch}",
    ]


def _evaluation_section(
    profiles: Mapping[str, ColumnProfile], guesses: Mapping[str, Guess], rows: int
) -> list[str]:
    """Slice on columns of names with few values, the fewest first."""
    fit = [
        (profile.distinct, name)
        for name, profile in profiles.items()
        if guesses[name].is_category
        and not profile.is_number
        and profile.distinct <= _MAX_SLICE_VALUES
        and rows / profile.distinct >= _MIN_SLICE_ROWS
    ]
    if not fit:
        return []
    chosen = [name for _, name in sorted(fit)[:_MAX_SLICES]]
    entries = ", ".join(f"[{scalar(name)}]" for name in chosen)
    return ["evaluation:", f"  slices: [{entries}] # columns with few values, each with enough rows to judge"]


def _written_path(path: str, config_folder: str | None) -> str:
    if config_folder is None:
        return path
    full, folder = os.path.abspath(path), os.path.abspath(config_folder)
    inside = os.path.commonpath([full, folder]) == folder
    return os.path.relpath(full, folder).replace(os.sep, "/") if inside else full


def _slug(path: str) -> str:
    stem = os.path.basename(os.path.normpath(path)).split(".")[0]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-").lower()[:63]
    return slug or "model"


def _escaped(delimiter: str) -> str:
    return "\\t" if delimiter == "\t" else delimiter


def _texts(values: Sequence[str]) -> str:
    """Return label values quoted, since YAML would read yes, no and 0 as something else."""
    return ", ".join(scalar(value) if scalar(value).startswith('"') else f'"{value}"' for value in values)
