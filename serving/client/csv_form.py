"""How delimited text is read: as the data that a model was trained with was."""

import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from headrace.data.errors import ConfigError

__all__ = ["CsvForm"]


@dataclass(frozen=True)
class CsvForm:
    """What `data.csv` says of delimited text, with the same defaults.

    Attributes:
        delimiter: Character between values; files that end in .tsv have a tab, unless another one is set.
        encoding: Encoding of the text, by its Python name.
        null_values: Fields that mean a missing value.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    null_values: frozenset[str] = frozenset(("", "NA", "NaN", "nan", "null", "NULL"))

    @classmethod
    def of(cls, told: Any, place: str) -> Self:
        """Return what the `csv` of a labels.json tells; what it leaves out is the default.

        Args:
            told: Its value; None where there is none.
            place: Where it stands, for errors.

        Raises:
            ConfigError: If it is no such value.
        """
        if told is None:
            return cls()
        if not isinstance(told, Mapping) or not all(
            _FITS[name](told[name]) for name in _FITS if name in told
        ):
            raise ConfigError(
                "`csv` must be an object with `delimiter` (one character), `encoding` (known to Python) or "
                f"`null_values` (a list of texts). Received: {json.dumps(told, default=str)[:80]} ({place})"
            )
        given: dict[str, Any] = {name: told[name] for name in _FITS if name in told}
        if "null_values" in given:
            given["null_values"] = frozenset(given["null_values"])
        return cls(**given)

    def delimiter_of(self, path: str) -> str:
        """Return the character between the values of a file."""
        is_tsv = path.lower().removesuffix(".gz").endswith(".tsv")
        return "\t" if is_tsv and self.delimiter == "," else self.delimiter

    @property
    def codec(self) -> str:
        """Encoding that passes over the mark at the start that some programs write before UTF-8."""
        name = codecs.lookup(self.encoding).name
        return "utf-8-sig" if name == "utf-8" else name


def _is_encoding(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(codecs.lookup(value))
    except LookupError:
        return False


_FITS = {
    "delimiter": lambda value: isinstance(value, str) and len(value) == 1,
    "encoding": _is_encoding,
    "null_values": lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value),
}
"""Key -> whether a value fits it."""
