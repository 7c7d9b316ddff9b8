"""What pydantic finds in a config file, in the words of people who write YAML."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

__all__ = ["CHOOSERS", "explain", "explain_yaml"]

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
            near = _nearest(where[-1], valid)
            whole = f" (`{'.'.join([*where[:-1], near])}`)" if near and where[:-1] else ""
            hint = f"Nearest valid key: `{near}`{whole}." if near else f"Valid keys: {', '.join(valid)}."
            lines.append(f"unknown key `{dotted}` ({place}). {hint}")
        elif item["type"] == "missing":
            lines.append(f"`{dotted}` is required and was not given ({place})")
        elif item["type"] == "union_tag_not_found":
            key = str(item["ctx"]["discriminator"]).strip("'")
            lines.append(f"`{dotted}.{key}` is required and was not given ({place})")
        elif item["type"] == "union_tag_invalid":
            key, context = str(item["ctx"]["discriminator"]).strip("'"), item["ctx"]
            found = f"must be one of {context['expected_tags']}. Received: '{context['tag']}'"
            lines.append(f"`{dotted}.{key}` {found} ({place}){_suggested(item, context['tag'])}")
        elif item["type"] == "value_error":
            message = str(item["ctx"]["error"]) if "ctx" in item else item["msg"]
            lines.append(f"{message} ({dotted} in {place})" if where else f"{message} ({place})")
        else:
            rule = _RULES.get(item["type"]) or item["msg"].replace("Input should", "must", 1)
            rule = rule[0].lower() + rule[1:]
            suggested = _suggested(item, item.get("input"))
            lines.append(f"`{dotted}` {rule}. Received: {received} ({dotted} in {place}){suggested}")
    return "\n".join(dict.fromkeys(lines))


def explain_yaml(error: yaml.YAMLError, place: str) -> str:
    """Return what a YAML parser found: rule, fault and place, and the lines of the file where it shows.

    Args:
        error: What PyYAML raised.
        place: The file, for people.
    """
    rule = "the config must be valid YAML. Received:"
    if isinstance(error, yaml.reader.ReaderError):
        code = ord(error.character) if isinstance(error.character, str) else error.character
        return f"{rule} the character U+{code:04X} at position {error.position + 1} ({place})"
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return f"{rule} {' '.join(str(error).split())} ({place})"
    context, start = error.context, error.context_mark
    since = f" {context} that starts on line {start.line + 1}" if context and start else ""
    found = f"{rule} {error.problem}{since} (line {mark.line + 1}, column {mark.column + 1} of {place})"
    # PyYAML cuts long lines and marks the place; a fault at the end of the file has nothing to show.
    snippet = mark.get_snippet(indent=2)
    return f"{found}\n{snippet}" if snippet and snippet.strip(" ^\n") else found


def _suggested(item: Mapping[str, Any], received: Any) -> str:
    """Name the choice most like what was received, where one must be chosen."""
    context = item.get("ctx") or {}
    choices = re.findall(r"'([^']+)'", str(context.get("expected_tags") or context.get("expected") or ""))
    near = _nearest(received, choices) if isinstance(received, str) else None
    return f". Nearest: `{near}`" if near else ""


def _nearest(word: str, choices: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(word.casefold(), choices, n=1, cutoff=0.5)
    return close[0] if close else None


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
