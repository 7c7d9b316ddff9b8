"""Stable 64-bit hashes of values and rows: the same on every machine and version, for every batch and format.

A value is hashed in a canonical form, so that one table gives the same hashes from CSV and from Parquet, and
whatever a config reads its columns as:

- missing: null, NaN, empty lists, and the words of `NULL_WORDS` in any case, whatever `data.csv` says.
- numbers, and texts that read as a finite one (`1`, `1.0`, `01`, `1e0`): the nearest 64-bit float. pandas
  writes `007` as 7, so that leading zeros cannot count. A 32-bit float is the shortest decimal that reads as
  it, as writers of CSV print it.
- booleans: the texts `true` and `false`, in any case.
- dates and times, and texts that are ISO 8601 (of a day or longer): microseconds since 1970 in UTC, which
  times without a zone are taken to be in.
- other texts without white space around them, which exports add and drop; other bytes as they are.
- lists by their values and order (numbers in them in 32 bits, as models are given them); of one value like
  the value itself, which is how tf.Example holds it. Structs by their fields; one with `bytes` is a picture.
"""

import hashlib
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "NULL_WORDS",
    "Hashes",
    "among",
    "digest",
    "distinct",
    "hash_column",
    "hash_rows",
    "hash_values",
    "mix",
    "unit_interval",
]

Hashes = npt.NDArray[np.uint64]

NULL_WORDS = frozenset(
    ("", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "?", "-", "--", "missing", "unknown")
)
"""Texts, in lower case, that are hashed as missing: a fixed list, so that editing a config's moves no row."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NUMBER = np.uint64(0x7FF96E756D626572)  # of a NaN, so that it meets no number
_INSTANT = np.uint64(0x696E7374616E7421)
_EMPTY_STEP = np.uint64(0x6D697373696E6721)

_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_ZEROS = re.compile(r"(\d{2}:\d{2}:\d{2})(\.\d*?)0+", re.ASCII)


def mix(values: Hashes) -> Hashes:
    """Scramble each value with SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits.

    Args:
        values: uint64 `[n]`.

    Returns:
        uint64 `[n]`.
    """
    x = values + _GOLDEN
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def unit_interval(hashes: Hashes) -> npt.NDArray[np.float64]:
    """Map hashes to [0, 1), evenly."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def among(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    """Tell which of `hashes` are among `known`, which are sorted."""
    places = np.searchsorted(known, hashes)
    found = np.zeros(len(hashes), bool)
    inside = places < len(known)
    found[inside] = known[places[inside]] == hashes[inside]
    return found


def distinct(hashes: Hashes) -> Hashes:
    """Return different hashes, sorted; NumPy's own `unique` takes ten times as long."""
    ordered = np.sort(hashes)
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def hash_rows(columns: Mapping[str, pa.Array]) -> Hashes:
    """Hash rows by the names and values of their columns, in whatever order these stand.

    A column without a value in a row adds nothing to its hash, as if it were not there.

    Args:
        columns: Name -> values, at least one.

    Returns:
        uint64 `[rows]`; 0 where every value is missing.

    Raises:
        TypeError: If values are of a type that has no canonical form.
    """
    parts = [hash_column(name, column) for name, column in columns.items()]
    total = parts[0].copy()
    for part in parts[1:]:
        total += part  # wraps
    return total


def hash_column(name: str, column: pa.Array) -> Hashes:
    """Return what column `name` adds to the hash of each row; 0 for a missing value."""
    values = hash_values(column)
    hashes = mix(values ^ np.uint64(digest(name.encode())))
    hashes[values == 0] = 0
    return hashes


def hash_values(column: pa.Array) -> Hashes:
    """Hash values in their canonical form.

    Args:
        column: Of any Arrow type but unions and intervals.

    Returns:
        uint64 `[n]`, 0 for missing.

    Raises:
        TypeError: If values of that type have no canonical form.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return hash_values(column.storage)
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.uint64)
    if pa.types.is_dictionary(kind):
        return _by_index(hash_values(column.dictionary), column.indices)
    hashes = _of_kind(column)
    if column.null_count:
        hashes = np.where(column.is_null().to_numpy(zero_copy_only=False), np.uint64(0), hashes)
    return hashes


def digest(content: bytes | pa.Buffer) -> int:
    """Return 64 bits of the BLAKE2b of bytes."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _of_kind(column: pa.Array) -> Hashes:
    """Hash plain values; what stands for null does not matter."""
    kind, types = column.type, pa.types
    if types.is_floating(kind) or types.is_integer(kind):
        return _of_numbers(_as_doubles(column))
    if types.is_string_view(kind):
        return _of_texts(column.cast(pa.large_string()))
    if types.is_string(kind) or types.is_large_string(kind):
        return _of_texts(column)
    if types.is_boolean(kind) or types.is_decimal(kind):
        return _of_texts(column.cast(pa.string()))
    if types.is_temporal(kind):
        return _of_times(column)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _of_bytes(column)
    if types.is_struct(kind):
        return _of_structs(column)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _of_lists(column)
    if types.is_map(kind):
        return _of_lists(column.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    raise TypeError(f"values of type {kind} have no canonical form")


def _as_doubles(column: pa.Array) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64]
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    numbers = column.cast(pa.float64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
    if not pa.types.is_float32(column.type):
        return numbers
    broken = np.flatnonzero(numbers != np.floor(numbers))  # NaN, too
    if len(broken):
        numbers = numbers.copy()
        numbers[broken] = column.take(pa.array(broken)).cast(pa.string()).cast(pa.float64()).fill_null(0)
    return numbers


def _of_numbers(numbers: npt.NDArray[np.float64]) -> Hashes:
    # Adding zero turns -0.0 into 0.0, so that the two hash alike.
    hashes = (numbers + 0.0).view(np.uint64) ^ _NUMBER
    hashes[np.isnan(numbers)] = 0
    return hashes


def _of_texts(column: pa.Array) -> Hashes:
    """Hash each distinct text once."""
    encoded = column.dictionary_encode()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    known = np.zeros(len(texts), np.uint64)
    for pattern, hash_alike in _FORMS.items():
        places = _unknown(known, texts, pattern)
        if len(places):
            known[places] = hash_alike(texts.take(pa.array(places)))
    places = np.flatnonzero(known == 0)
    known[places] = [_of_word(text) for text in texts.take(pa.array(places)).to_pylist()]
    return _by_index(known, encoded.indices)


def _unknown(known: Hashes, texts: pa.Array, pattern: str) -> npt.NDArray[np.int64]:
    """Return the places of texts that have no hash yet and look like `pattern`."""
    alike = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return np.flatnonzero((known == 0) & alike.astype(bool))


def _of_number_texts(texts: pa.Array) -> Hashes:
    """Hash texts as the numbers that they read as; one too large for 64 bits stays without a hash."""
    numbers = pc.utf8_ltrim(texts, "+").cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(numbers), _of_numbers(numbers), np.uint64(0))


def _of_date_texts(texts: pa.Array, zone: str | None = None) -> Hashes:
    """Hash ISO 8601 texts as moments; one that is no day of the calendar stays without a hash."""
    short = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
    try:
        return _of_times(short.cast(pa.timestamp("us", zone)))
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return np.zeros(1, np.uint64)
        half = len(texts) // 2
        return np.concatenate([_of_date_texts(part, zone) for part in (texts[:half], texts[half:])])


def _of_zoned_texts(texts: pa.Array) -> Hashes:
    return _of_date_texts(pc.replace_substring_regex(texts, r" ([+-])", r"\1"), "UTC")


_FORMS = {
    r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$": _of_number_texts,
    rf"^{_DAY}([T ]{_CLOCK})?$": _of_date_texts,
    rf"^{_DAY}[T ]{_CLOCK}(Z| ?[+-][0-9]{{2}}:?[0-9]{{2}})$": _of_zoned_texts,
}
"""What texts look like that are more than their characters -> how to hash them."""


def _of_word(text: str) -> int:
    folded = text.casefold()
    if folded in NULL_WORDS:
        return 0
    if folded in ("true", "false"):
        text = folded
    elif text[2:3] == ":" and (clock := _ZEROS.fullmatch(text)):
        text = f"{clock[1]}{clock[2]}".rstrip(".")
    return digest(text.encode())


def _of_times(column: pa.Array) -> Hashes:
    if pa.types.is_duration(column.type):
        return _of_numbers(_as_doubles(column.cast(pa.duration("us"), safe=False).cast(pa.int64())))
    if pa.types.is_time(column.type):
        return _of_texts(column.cast(pa.string()))
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        raise TypeError(f"values of type {column.type} have no canonical form")
    zone = getattr(column.type, "tz", None)
    moments = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    return _of_instants(moments.fill_null(0).to_numpy(zero_copy_only=False))


def _of_instants(microseconds: npt.NDArray[np.int64]) -> Hashes:
    return mix(microseconds.astype(np.int64).view(np.uint64) ^ _INSTANT)


def _of_bytes(column: pa.Array) -> Hashes:
    """Hash bytes as text where all of them are UTF-8, as a text file would hold them."""
    try:
        return _of_texts(column.cast(pa.large_binary()).cast(pa.large_string()))
    except pa.ArrowInvalid:
        return np.array([_of_content(value.as_py()) for value in column], np.uint64)


def _of_content(content: bytes | None) -> int:
    if not content:
        return 0
    try:
        return int(_of_texts(pa.array([content.decode()]))[0])
    except UnicodeDecodeError:
        return digest(content)


def _of_structs(column: pa.Array) -> Hashes:
    fields = {column.type.field(at).name: column.field(at) for at in range(column.type.num_fields)}
    if "bytes" in fields:
        return hash_values(fields["bytes"])
    return hash_rows(fields) if fields else np.zeros(len(column), np.uint64)


def _of_lists(column: pa.Array) -> Hashes:
    """Hash lists by their values, their order and their length."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = _in_lists(column.flatten())  # without the lists that are null
    ends = np.cumsum(lengths)
    step = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    mixed = mix(np.where(values == 0, _EMPTY_STEP, values) ^ mix(step.astype(np.uint64)))
    # Sums of unsigned integers wrap, so the difference of two running sums is the sum between.
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    hashes = mix((running[ends] - running[ends - lengths]) ^ lengths.astype(np.uint64))
    hashes[lengths == 0] = 0
    single = np.flatnonzero(lengths == 1)
    hashes[single] = values[ends[single] - 1]
    return hashes


def _in_lists(values: pa.Array) -> Hashes:
    if not pa.types.is_floating(values.type):
        return hash_values(values)
    numbers = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return _of_numbers(numbers.astype(np.float64))


def _by_index(known: Hashes, indices: pa.Array) -> Hashes:
    """Return the hash of each index, 0 where it is null."""
    table = np.append(known, np.uint64(0))
    return table[indices.fill_null(len(known)).to_numpy(zero_copy_only=False).astype(np.int64)]
