"""The base of every config section: frozen, strict about keys, canonical as JSON."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MAY_HOLD_SECRET", "Section", "canonical_json", "marked_values"]

_MARK = "x-may-hold-secret"

MAY_HOLD_SECRET = Field(json_schema_extra={_MARK: True})
"""What marks a key into which somebody may write a password: those alone are looked into for one."""


class Section(BaseModel):
    """A part of the run config. Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def marked_values(value: Any, path: str = "", marked: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (dotted path, text) of every text below the keys of a section that may hold a secret."""
    if isinstance(value, Section):
        for name, field in type(value).model_fields.items():
            extra = field.json_schema_extra
            mark = marked or (isinstance(extra, dict) and bool(extra.get(_MARK)))
            yield from marked_values(getattr(value, name), f"{path}.{name}" if path else name, mark)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from marked_values(item, f"{path}.{key}", marked)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from marked_values(item, f"{path}.{number}", marked)
    elif isinstance(value, str) and marked:
        yield path, value
