"""The JSON Schemas under docs/ are those that the code stands by."""

import inspect
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from headrace.pipeline.config import RunConfig
from headrace.pipeline.reference import _models, json_schema, markdown

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_config_schema_is_up_to_date() -> None:
    published = json.loads((DOCS / "config.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema(), "run: .venv/bin/headrace schema > docs/config.schema.json"


def test_the_config_reference_is_up_to_date() -> None:
    published = (DOCS / "config.md").read_text(encoding="utf-8")
    assert published == markdown() + "\n", "run: .venv/bin/headrace schema --markdown > docs/config.md"


def test_every_field_is_described() -> None:
    schema = json_schema()
    tags = {"kind", "method", "family", "schema_version"}
    bare = [
        f"{name}.{field}"
        for name, definition in schema["$defs"].items()
        for field, body in definition.get("properties", {}).items()
        if "description" not in body and field not in tags and len(definition["properties"]) > 3
    ]
    assert bare == []


@pytest.mark.parametrize("model", sorted(set(_models(RunConfig)), key=lambda model: model.__name__))
def test_no_description_is_cut(model: type[BaseModel]) -> None:
    schema = json_schema()
    body = schema if model is RunConfig else schema["$defs"][model.__name__]
    left = " ".join(inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")[2].split())
    texts = {field["description"] for field in body["properties"].values() if "description" in field}
    for text in sorted(texts, key=len, reverse=True):
        left = left.replace(f": {text}", "")
    # What is left of the docstring's list are the names of the fields.
    assert set(left.replace(",", " ").split()) <= set(model.model_fields)


def test_an_empty_text_shows_in_a_list_of_defaults() -> None:
    assert '`["", NA, NaN, nan, null, NULL]`' in markdown()


@pytest.mark.parametrize("file", sorted(DOCS.glob("*.schema.json")), ids=lambda file: file.name)
def test_every_schema_is_valid(file: Path) -> None:
    Draft202012Validator.check_schema(json.loads(file.read_text(encoding="utf-8")))
