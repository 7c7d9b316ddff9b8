"""What pydantic finds in a config file, in the words of people who write YAML."""

import difflib
import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

__all__ = ["CHOOSERS", "explain"]

CHOOSERS = ("kind", "method", "family", "runner")
"""Fields that choose the class of a section."""

_RULES = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
"""What pydantic says of types, in the words of YAML rather than of Python."""


def explain(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel], place: str) -> str:
    """Return one line an error: rule, value received, place.

    Args:
        error: What pydantic found.
        raw: The parsed file.
        model: The section class of the whole file.
        place: The file, for people.
    """
    lines = []
    for item in error.errors(include_url=False):
        # Names of union branches appear in the location but not in the file.
        where = _path_in_file(item["loc"], raw, names_key=item["type"] in ("missing", "extra_forbidden"))
        dotted = ".".join(where) or "the config"
        received = _short(item.get("input"))
        if item["type"] == "extra_forbidden":
            valid = _valid_keys(item["loc"], model)
            near = difflib.get_close_matches(where[-1], valid, n=1, cutoff=0.5)
            hint = f"Nearest valid key: `{near[0]}`." if near else f"Valid keys: {', '.join(valid)}."
            lines.append(f"unknown key `{dotted}` ({place}). {hint}")
        elif item["type"] == "missing":
            lines.append(f"`{dotted}` is required and was not given ({place})")
        elif item["type"] == "union_tag_not_found":
            key = str(item["ctx"]["discriminator"]).strip("'")
            lines.append(f"`{dotted}.{key}` is required and was not given ({place})")
        elif item["type"] == "union_tag_invalid":
            key, context = str(item["ctx"]["discriminator"]).strip("'"), item["ctx"]
            found = f"must be one of {context['expected_tags']}. Received: '{context['tag']}'"
            lines.append(f"`{dotted}.{key}` {found} ({place})")
        elif item["type"] == "value_error":
            message = str(item["ctx"]["error"]) if "ctx" in item else item["msg"]
            lines.append(f"{message} ({dotted} in {place})" if where else f"{message} ({place})")
        else:
            rule = _RULES.get(item["type"]) or item["msg"].replace("Input should", "must", 1)
            rule = rule[0].lower() + rule[1:]
            lines.append(f"`{dotted}` {rule}. Received: {received} ({dotted} in {place})")
    return "\n".join(dict.fromkeys(lines))


def _path_in_file(location: tuple[int | str, ...], raw: Any, names_key: bool) -> list[str]:
    """Keep the parts of a pydantic location that exist in the file; pydantic adds names of union branches.

    Args:
        location: As pydantic gives it.
        raw: The parsed file.
        names_key: Whether the last part is a key, though the file may not have it.
    """
    parts: list[str] = []
    here: Any = raw
    for position, part in enumerate(location):
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            if not (names_key and position == len(location) - 1):
                continue
        parts.append(str(part))
    return parts


def _valid_keys(location: tuple[int | str, ...], whole: type[BaseModel]) -> list[str]:
    model: Any = whole
    for part in location[:-1]:
        model = _step(model, part)
        if model is None:
            return list(whole.model_fields)
    return list(model.model_fields) if hasattr(model, "model_fields") else list(whole.model_fields)


def _step(annotation: Any, part: int | str) -> Any:
    """Follow one part of a location into a model class, through unions, dicts and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return _first_model(field.annotation) if field is not None else annotation
    if isinstance(annotation, list):
        for choice in annotation:
            choosers = [field for name, field in choice.model_fields.items() if name in CHOOSERS]
            tags = [field.default for field in choosers]
            kinds = [get_args(field.annotation) for field in choosers]
            if part in tags or any(part in names for names in kinds):
                return choice
        return annotation
    return None


def _first_model(annotation: Any) -> Any:
    """Return the model class inside `annotation`, or the list of them where there are several."""
    found: list[Any] = []

    def walk(item: Any) -> None:
        if isinstance(item, type) and issubclass(item, BaseModel):
            found.append(item)
        for argument in get_args(item):
            walk(argument)

    walk(annotation)
    unique = list(dict.fromkeys(found))
    return unique[0] if len(unique) == 1 else unique or None


def _short(value: Any, limit: int = 80) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"
