"""The configs that the documentation shows are the examples' own."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def configs(page: Path) -> list[str]:
    """Return the whole run configs that a page shows."""
    return [text for text in BLOCK.findall(page.read_text(encoding="utf-8")) if "schema_version: 1\n" in text]


def test_each_kind_of_data_has_a_page_with_a_config() -> None:
    shown = {page.stem for page in PAGES if configs(page)}
    assert {"tables", "images", "text", "series"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shown_examples_are_the_files(page: Path) -> None:
    known = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.yaml")}
    named = set(re.findall(r"\[examples/(\w+\.yaml)\]", page.read_text(encoding="utf-8")))
    shown = "\n".join(configs(page))
    for name in named:
        body = known[name][known[name].index("schema_version") :]
        assert body in shown, name
