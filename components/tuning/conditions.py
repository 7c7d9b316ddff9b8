"""Which searched fields take part in a trial: those whose `when` holds."""

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.data.errors import ConfigError

from .config import SearchRange

__all__ = ["active_fields", "in_order", "same", "switches"]

Ranges = Mapping[str, SearchRange]

_MOST_SETTINGS = 500


def same(one: Any, other: Any) -> bool:
    """Return whether two plain JSON values are equal; unlike `==`, 1 is not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def in_order(search: Ranges) -> list[str]:
    """Return the fields in the order of the config, but each after all that its `when` names.

    Raises:
        ConfigError: If a `when` names no searched choice or value of one, or goes round in a circle.
    """
    for field, limits in search.items():
        for parent, values in limits.when.items():
            _check_condition(search, field, parent, values)
    found: list[str] = []
    while len(found) < len(search):
        ready = [
            field for field, limits in search.items() if field not in found and set(limits.when) <= set(found)
        ]
        if not ready:
            circle = ", ".join(field for field in search if field not in found)
            raise ConfigError(f"`when` must not go round in a circle. Received: {circle} (tuning.search)")
        found.extend(ready)
    return found


def active_fields(search: Ranges, values: Mapping[str, Any]) -> list[str]:
    """Return the fields that take part, given the values of those that others depend on.

    Args:
        search: Dotted field -> range.
        values: Dotted field -> value; of fields that take no part they are not looked at.
    """
    found: list[str] = []
    for field in in_order(search):
        limits = search[field]
        if all(
            parent in found and any(same(values.get(parent), value) for value in wanted)
            for parent, wanted in limits.when.items()
        ):
            found.append(field)
    return found


def switches(search: Ranges, always: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Yield every combination of the choices that others depend on, at most 500 of them.

    Args:
        search: Dotted field -> range.
        always: Fields to vary though no `when` names them.
    """
    named = {parent for limits in search.values() for parent in limits.when} | set(always)
    fields = [field for field in in_order(search) if field in named and search[field].choice]
    combinations = itertools.product(*(search[field].choice for field in fields))
    seen: list[dict[str, Any]] = []
    for values in itertools.islice(combinations, _MOST_SETTINGS):
        setting = dict(zip(fields, values, strict=True))
        active = set(active_fields(search, setting))
        kept = {field: value for field, value in setting.items() if field in active}
        if kept not in seen:
            seen.append(kept)
            yield kept


def _check_condition(search: Ranges, field: str, parent: str, values: tuple[object, ...]) -> None:
    place = f"tuning.search.{field}.when"
    if parent not in search or not search[parent].choice or parent == field:
        choices = [name for name, limits in search.items() if limits.choice and name != field]
        near = difflib.get_close_matches(parent, choices, n=1, cutoff=0.5)
        raise ConfigError(
            f"`{place}` must name another field that is searched by `choice`. Received: {parent}",
            f"Did you mean {near[0]}?" if near else "",
        )
    for value in values:
        if not any(same(value, choice) for choice in search[parent].choice):
            raise ConfigError(
                f"`{place}.{parent}` must hold values of that field's `choice`: "
                f"{', '.join(json.dumps(choice) for choice in search[parent].choice)}. "
                f"Received: {json.dumps(value)}"
            )
