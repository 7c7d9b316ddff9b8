"""The reference of the config file, for editors (JSON Schema) and people, from the sections' docstrings."""

import inspect
import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from .config import RunConfig
from .config_errors import CHOOSERS

__all__ = ["json_schema", "markdown"]


_ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.*)$")

_HEAD = """\
# The config file

Made by `headrace schema --markdown`; do not edit. `headrace init DATA --label NAME` writes a first config;
`--set a.b=value` overrides a value on the command line. A key that is not listed here is an error.

An editor that knows JSON Schema completes and checks the file with this first line:
`# yaml-language-server: $schema=docs/config.schema.json` (a path from the config to that file).
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file, every field with its description."""
    schema = RunConfig.model_json_schema()
    by_name = {model.__name__: model for model in _models(RunConfig)}
    for name, definition in [("RunConfig", schema), *schema.get("$defs", {}).items()]:
        if name in by_name:
            summary, fields = _documented(by_name[name])
            definition["description"] = summary
            for field, text in fields.items():
                if field in definition.get("properties", {}):
                    definition["properties"][field]["description"] = text
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "headrace run config"
    return schema


def markdown() -> str:
    """Return the reference as Markdown: a table a section, in the order of the file."""
    lines = [_HEAD]
    seen: set[type[BaseModel]] = set()
    for path, model in _sections(RunConfig, ""):
        if model in seen:
            continue
        seen.add(model)
        summary, fields = _documented(model)
        lines += [f"## {path or 'Top level'}", "", summary, ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            kind = _type_text(field.annotation)
            default = "required" if field.is_required() else f"`{_default_text(field)}`"
            lines.append(f"| `{name}` | {kind} | {default} | {fields.get(name, '')} |")
        lines.append("")
    return "\n".join(lines)


def _documented(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """Return the text before a docstring's Attributes, and the attributes' texts."""
    head, _, tail = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    fields: dict[str, str] = {}
    current = ""
    for line in tail.splitlines():
        match = _ATTRIBUTE.match(line)
        # A wrapped line may begin like an attribute, with `word:`, but names no field or is indented further.
        if match and set(match[1].split(", ")) <= set(model.model_fields):
            current = match[1]
            fields[current] = match[2]
        elif current and line.strip():
            fields[current] += " " + line.strip()
    for names in [key for key in fields if "," in key]:
        fields |= dict.fromkeys(names.split(", "), fields.pop(names))
    for base in model.__bases__:  # what several sections share is told once
        if issubclass(base, BaseModel) and base.model_fields:
            fields = _documented(base)[1] | fields
    for name, field in model.model_fields.items():
        sections = _direct(field.annotation)
        if name not in fields and sections:
            fields[name] = " ".join(inspect.cleandoc(sections[0].__doc__ or "").split("\n\n")[0].split())
    return " ".join(head.split()), fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return every section class that an annotation reaches."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    for argument in get_args(annotation):
        yield from _models(argument)


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Return (dotted path, section class), parents first."""
    yield path, model
    for name, field in model.model_fields.items():
        below = f"{path}.{name}" if path else name
        for child in _direct(field.annotation):
            kinds = [f.annotation for n, f in child.model_fields.items() if n in CHOOSERS]
            suffix = f" ({get_args(kinds[0])[0]})" if kinds else ""
            star = ".NAME" if _is_mapping(field.annotation) else ""
            yield from _sections(child, f"{below}{star}{suffix}")


def _direct(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _direct(argument)]


def _is_mapping(annotation: Any) -> bool:
    return "dict[" in str(annotation)


def _type_text(annotation: Any) -> str:
    """Return a type in the words of a YAML author."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type_text(argument) for argument in arguments))
    if origin is tuple:
        inner = [_type_text(argument) for argument in arguments if argument is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"mapping: {_type_text(arguments[0])} -> {_type_text(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "null",
        object: "any",
    }
    return names.get(annotation, str(annotation))


def _default_text(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join('""' if item == "" else str(item) for item in value) + "]"
    return str(value).replace("|", "\\|") if value != "" else '""'
