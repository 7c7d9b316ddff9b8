"""The base of every config section: frozen, strict about keys, canonical as JSON."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Section", "canonical_json"]


class Section(BaseModel):
    """A part of the run config. Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
