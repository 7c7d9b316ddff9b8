"""A first run config from the data alone: `headrace init`."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from .columns import RawColumn, nearest
from .config import ColumnSplit, CsvOptions, DataConfig
from .decimal_commas import check_label, comma_guess, comma_notes, has_decimal_commas
from .errors import ConfigError
from .feature_guess import Guess, feature_name, guess_feature
from .group_guess import guess_group
from .label_guess import LabelGuess, guess_label
from .model_guess import model_lines, push_lines, split_shares
from .odd_cells import OddCell, find_odd_cells, odd_comment, odd_notes
from .picture_guess import is_picture_path, look_at, pictures_of_column, pictures_of_files
from .profile import ColumnProfile, profile_columns
from .readers.csv_faults import find_undecodable
from .readers.csv_header import read_header
from .readers.files import EXTENSIONS, delimiter_of, find_files, format_of, open_bytes
from .readers.folder import IMAGE, PATH, class_of, find_pictures
from .readers.rows import read_blocks
from .shape_guess import Shapes, Wide, guess_series, guess_wide, sort_columns
from .source import column_names
from .split_guess import Dealt, TimeBounds, dealt_by, split_lines, time_split, told_split, undated
from .yaml_text import comment, quoted, scalar

__all__ = ["Inferred", "infer", "infer_config"]

_MAX_SLICES = 3
_MAX_SLICE_VALUES = 20
_MIN_SLICE_ROWS = 2_000  # a tenth of them, the test split's share, is `evaluation.min_slice_rows`
_CONFIG_FORMAT = 1


@dataclass(frozen=True)
class Inferred:
    """A config, and what its reader should know before running it.

    Attributes:
        text: The run config as YAML.
        notes: What the data has that a run will refuse or that had to be left aside, a line each.
        left_out: (column, why in a few words) of columns that no feature reads.
        before_run: What to do before a run; empty if nothing is known to stop it.
    """

    text: str
    notes: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    before_run: str = ""


def infer_config(path: str, label: str, *, name: str | None = None, config_folder: str | None = None) -> str:
    """Return the text of `infer`."""
    return infer(path, label, name=name, config_folder=config_folder).text


def infer(path: str, label: str, *, name: str | None = None, config_folder: str | None = None) -> Inferred:
    """Read the data once and return a run config as YAML text.

    Comments say what was seen: rows, distinct values, missing values, and why a column was left out.
    Equal data gives equal text.

    Args:
        path: A file, a folder or a glob.
        label: Name of the label column.
        name: Name of the pipeline; by default that of the file.
        config_folder: Folder that the config will lie in; `data.path` becomes relative to it, unless `path`
            is absolute and leads elsewhere. None: `path` is taken as it is.

    Raises:
        ConfigError: If the files are unsound, lack the label, or hold nothing to learn from.
        DataRejected: If the content cannot be read.
    """
    folder = _holds_pictures(path)
    found = _look_at_folder(path, label) if folder else _look_at_columns(path, label)
    guesses = found.guesses
    if not any(guess.lines for guess in guesses.values()):
        reasons = "; ".join(f"{column}: {guess.comment}" for column, guess in guesses.items())
        raise ConfigError(
            f"the data must have a column to learn from. Received: none besides the label ({reasons or path})"
        )
    sections = [
        [
            f"# Written by `headrace init` from {os.path.basename(os.path.normpath(path))}: {found.rows:,} "
            f"{'pictures' if folder else 'rows'}, {found.columns} {'classes' if folder else 'columns'}. "
            "Edit it freely.",
            f"schema_version: {_CONFIG_FORMAT}",
            f"name: {name or _slug(path)}",
        ],
        _data_section(_written_path(path, config_folder), found),
        _features_section(guesses, found.odd),
        model_lines(found.rows, guesses.values()),
        _evaluation_section(found.profiles, guesses, found.rows),
        ["gates:", "  quality:", *(f"    {line}" for line in found.answer.gates)],
        push_lines(found.rows),
    ]
    text = "\n\n".join("\n".join(section) for section in sections if section) + "\n"
    left_out = tuple(
        (name, guess.comment.split(":")[0]) for name, guess in guesses.items() if not guess.lines
    )
    notes = (*found.notes, *odd_notes(found.odd, _with_placeholders(found)))
    # A column whose numbers are not read is left out, so that a run would do without it.
    mend = "mend these cells or list them in `data.csv.null_values`" if found.odd else ""
    rewrite = "write the numbers with a point and `headrace init` again" if found.commas else ""
    return Inferred(text, notes, left_out, "; ".join(part for part in (rewrite, mend) if part))


@dataclass(frozen=True)
class _Findings:
    """What was seen of a data set, and chosen.

    Attributes:
        data: How it is read.
        rows: Its rows.
        columns: Its columns, or classes of a folder of pictures.
        answer: What the label calls for.
        profiles: Columns with one value a row, but the label.
        guesses: Feature name -> feature; of each profile, too.
        split: A column that tells the split; or (column, eval_from, test_from) of one by time; or by hash.
        wide: Numbered columns that become lists.
        odd: Cells that ingest will refuse.
        notes: What else to know.
        commas: Whether columns of numbers have decimal commas.
        allowed: `data.max_corrupt_share`, unless the default is right.
    """

    data: DataConfig
    rows: int
    columns: int
    answer: LabelGuess
    profiles: Mapping[str, ColumnProfile]
    guesses: Mapping[str, Guess]
    split: ColumnSplit | TimeBounds | Dealt
    wide: Sequence[Wide] = ()
    odd: Sequence[OddCell] = ()
    notes: Sequence[str] = ()
    commas: bool = False
    allowed: float | None = None


def _look_at_columns(path: str, label: str) -> _Findings:
    data = _reading(path, label)
    paths = find_files(data)
    shapes = _shared_columns(paths, data)
    wide = guess_wide(paths, data, [column for column in shapes.plain if column != label])
    packed = {member: group.name for group in wide for member in group.members}
    plain = [column for column in shapes.plain if column not in packed]
    profiles = {profile.name: profile for profile in profile_columns(paths, data, plain)}
    label_profile = profiles.pop(label)
    check_label(paths, data, label_profile)
    answer = guess_label(label_profile)
    parts = told_split(profiles)
    split = None if parts else time_split(profiles)
    if split is not None and answer.classes:
        # Rates drift: what a model must beat is the majority among the rows that it is judged on.
        answer = guess_label(label_profile, _label_counts_from(paths, data, *split), f"from {split[2]} on")
    guesses = {group.name: group.guess for group in wide}
    guesses |= guess_series(paths, data, shapes.lists, [*plain, *guesses])
    named = [column for column, profile in profiles.items() if is_picture_path(profile, paths)]
    seen = {name: look_at(pictures_of_column(paths, data, name)) for name in (*shapes.pictures, *named)}
    guesses |= {name: seen[name].guess for name in shapes.pictures}
    for name, profile in profiles.items():
        commas = comma_guess() if has_decimal_commas(profile) else None
        guesses[name] = seen[name].guess if name in seen else commas or guess_feature(profile)
    if parts is not None:
        guesses[parts.column] = Guess((), "tells the split")
    group = guess_group(profiles.values())
    if group is not None and not (parts or split):
        guesses[group.column] = group.guess()
    held = [column for column in shapes.known if column != label]
    if any(format_of(text, data) == "tfrecord" for text in paths):
        # No list of the columns of examples is whole, so that the key is of what the model reads.
        held = [column for column in held if column in shapes.lists or guesses[column].lines]
    columns = len(shapes.plain) + len(shapes.lists) + len(shapes.pictures)
    odd = find_odd_cells(paths, data, _refused(profiles, guesses, label_profile, split))
    with_comma = comma_notes(paths, data, [*profiles.values(), label_profile])
    notes = [*with_comma, *([] if parts or split else undated(profiles))]
    notes += [group.note()] if group is not None and split is not None else []
    notes += [note for pictures in seen.values() for note in pictures.notes()]
    allowed = max((pictures.allowed or 0.0 for pictures in seen.values()), default=0.0) or None
    return _Findings(
        data,
        label_profile.rows,
        columns,
        answer,
        profiles,
        guesses,
        parts or split or dealt_by(held, packed, group),
        wide,
        odd,
        notes,
        bool(with_comma),
        allowed,
    )


def _refused(
    profiles: Mapping[str, ColumnProfile],
    guesses: Mapping[str, Guess],
    label: ColumnProfile,
    split: TimeBounds | None,
) -> dict[str, Mapping[str, int]]:
    """Return column -> value -> rows of what does not fit the way in which the config reads its column."""
    strict = {
        name
        for name, guess in guesses.items()
        if guess.lines and guess.lines[0] in ("kind: numeric", "kind: date")
    }
    strict |= {split[0]} if split else set()
    found: dict[str, Mapping[str, int]] = {n: profile.odd for n, profile in profiles.items() if n in strict}
    return {**found, label.name: label.odd}


def _look_at_folder(path: str, label: str) -> _Findings:
    """Look at a folder with a folder of pictures for each class."""
    if label in (IMAGE, PATH):
        raise ConfigError(
            f"the label of pictures in class folders needs a name of its own. Received: {label!r}",
            "choose another one with --label, such as `kind`",
        )
    data = DataConfig(path=path, label=label, format="images")
    paths = find_files(data)
    profile = ColumnProfile(label)
    profile.add(pa.array([class_of(path, picture) for picture in paths], pa.string()))
    profile.settle()
    profile.is_number = False  # folders called 0 to 99 are classes all the same
    seen = look_at(pictures_of_files(path, paths))
    answer = guess_label(profile, test_rows=round(split_shares(len(paths))["test"] * len(paths)))
    return _Findings(
        data, len(paths), profile.distinct, answer, {}, {IMAGE: seen.guess}, Dealt((IMAGE,), pictures=True),
        notes=tuple(seen.notes()), allowed=seen.allowed,
    )  # fmt: skip


def _holds_pictures(path: str) -> bool:
    """Tell whether a path is a folder with pictures in class folders, and without data files of its own."""
    if not os.path.isdir(path):
        return False
    if any(name.lower().endswith(tuple(EXTENSIONS)) for name in os.listdir(path)):
        return False
    try:
        return bool(find_pictures(path))
    except ConfigError:
        return False


def _reading(path: str, label: str) -> DataConfig:
    """Return the `data` section that reads the files, with encoding and delimiter as their content shows."""
    data = DataConfig(path=path, label=label)
    paths = find_files(data)
    first = paths[0]
    if any(format_of(text, data) == "csv" and find_undecodable(text, "utf-8") for text in paths):
        # Every byte is a letter in Latin-1, so that this reads whatever is not UTF-8.
        data = data.model_copy(update={"csv": data.csv.model_copy(update={"encoding": "latin-1"})})
    if format_of(first, data) == "csv" and len(column_names(first, data)) == 1:
        for delimiter in (";", "\t", "|", ","):
            with open_bytes(first) as stream:
                names = read_header(stream, delimiter, data.csv.encoding, first).names
            if len(names) > 1 and delimiter != delimiter_of(first, data):
                options = data.csv.model_copy(update={"delimiter": delimiter})
                return data.model_copy(update={"csv": options})
    return data


def _shared_columns(paths: Sequence[str], data: DataConfig) -> Shapes:
    """Return the columns that all files share, in the first one's order, by what they hold."""
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
    shapes = sort_columns(paths[0], data, shared)
    if data.label not in shapes.plain:
        raise ConfigError(
            f"the label must be one value a row. Received: column {data.label!r} with several ({paths[0]})",
            "write the config by hand, with `task: multilabel` where a row has several classes",
        )
    return shapes


def _data_section(path: str, found: _Findings) -> list[str]:
    data, answer = found.data, found.answer
    lines = ["data:", f"  path: {scalar(path)}"]
    if data.format != "auto":
        lines.append(f"  format: {data.format} # a folder for each class")
    if found.allowed is not None:
        lines.append(f"  max_corrupt_share: {found.allowed:g} # more of such pictures close the data gate")
    options = _with_placeholders(found)
    latin = data.csv.encoding != DataConfig.model_fields["csv"].default.encoding
    if data.csv.delimiter != "," or options != data.csv or latin:
        lines.append("  csv:")
        if latin:
            lines.append(f"    encoding: {data.csv.encoding} # some of it is not UTF-8")
        if data.csv.delimiter != ",":
            lines.append(f'    delimiter: "{_escaped(data.csv.delimiter)}"')
        if options != data.csv:
            texts = ", ".join(f'"{text}"' for text in options.null_values)
            lines.append(f"    null_values: [{texts}]")
    if found.wide:
        lines.append("  pack: # columns of numbers that become one list")
        lines += [f"    {scalar(group.name)}: {scalar(group.pattern)}" for group in found.wide]
    lines += [f"  label: {scalar(data.label)} # {answer.comment}", f"  task: {answer.task}"]
    if answer.task == "binary":
        lines.append(f"  classes: [{quoted(answer.classes)}] # the last one is the positive class")
    lines += [line for note in found.notes for line in comment(note, 2)]
    return [*lines, *split_lines(found.split, found.rows)]


def _with_placeholders(found: _Findings) -> CsvOptions:
    """Return how text is read where what stands for missing numbers in used columns means missing."""
    used = [profile for name, profile in found.profiles.items() if found.guesses[name].lines]
    odd = sorted({text for profile in used for text in profile.placeholders})
    return found.data.csv.model_copy(update={"null_values": (*found.data.csv.null_values, *odd)})


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


def _features_section(guesses: Mapping[str, Guess], odd: Sequence[OddCell]) -> list[str]:
    lines = ["features:"]
    for name, guess in guesses.items():
        if guess.lines:
            key = feature_name(name, guess, guesses)
            lines.append(f"  {scalar(key)}: # {guess.comment}")
            lines += comment(odd_comment(name, odd), 4)
            lines += [f"    {line}" for line in guess.lines]
            if key != name:
                # `of` lists the columns of a series, which has no other.
                lines.append(
                    f"    of: [{scalar(name)}]"
                    if "kind: series" in guess.lines
                    else f"    column: {scalar(name)}"
                )
    left_out = [(name, guess.comment) for name, guess in guesses.items() if not guess.lines]
    if left_out:
        lines.append("  # Left out:")
        lines += [f"  #   {scalar(name)}: {comment}" for name, comment in left_out]
    return lines


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
    near = inside or not os.path.isabs(path)
    return os.path.relpath(full, folder).replace(os.sep, "/") if near else full


def _slug(path: str) -> str:
    stem = os.path.basename(os.path.normpath(path)).split(".")[0]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-").lower()[:63]
    return slug or "model"


def _escaped(delimiter: str) -> str:
    return "\\t" if delimiter == "\t" else delimiter
