"""The JSON Schemas under docs/ are those that the code stands by."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from headrace.pipeline.config import json_schema

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_config_schema_is_up_to_date() -> None:
    published = json.loads((DOCS / "config.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema(), "run: .venv/bin/headrace schema > docs/config.schema.json"


@pytest.mark.parametrize("file", sorted(DOCS.glob("*.schema.json")), ids=lambda file: file.name)
def test_every_schema_is_valid(file: Path) -> None:
    Draft202012Validator.check_schema(json.loads(file.read_text(encoding="utf-8")))
