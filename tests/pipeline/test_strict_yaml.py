"""A config's YAML: aliases are written out, but no more of them than a person could mean."""

import time
from pathlib import Path

import pytest
import yaml

from headrace.data.errors import ConfigError
from headrace.pipeline.config import override_config, read_config
from headrace.pipeline.strict_yaml import load_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A thousand million times x."""
MERGED = "base0: &m0 {k: v}\n" + "".join(
    f"base{n}: &m{n}\n" + "".join(f"  k{i}: {{<<: *m{n - 1}}}\n" for i in range(12)) for n in range(1, 9)
)
VALUES = 100_000


@pytest.mark.parametrize("text", [LAUGHS, MERGED])
def test_aliases_that_stand_for_millions_are_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(text)
    begin = time.process_time()
    with pytest.raises(
        ConfigError,
        match=r"at most 100,000 values, aliases written out. Received: \d.* below line \d+ of .*demo.yaml",
    ):
        read_config(tmp_path / "demo.yaml")
    assert time.process_time() - begin < 2


def test_the_override_of_a_value_is_held_to_the_same() -> None:
    nested = "&a [x]"
    for name in "bcdefghijklmnopqrstuvwxyz":
        nested = f"&{name} [{nested}, *{chr(ord(name) - 1)}]"
    with pytest.raises(ConfigError, match="at most 100,000 values"):
        override_config({}, [f"data.classes={nested}"])


def test_as_many_values_as_are_allowed() -> None:
    fitting = f"[{', '.join(['x'] * (VALUES - 1))}]"
    assert len(load_yaml(fitting)) == VALUES - 1
    with pytest.raises(ConfigError, match=r"Received: 100,001 below line 1"):
        load_yaml(f"[{', '.join(['x'] * VALUES)}]")


def test_an_alias_within_what_it_names() -> None:
    with pytest.raises(
        ConfigError, match=r"an alias must not stand within what it names. Received: one on line 2"
    ):
        load_yaml("seed: 1\na: &a\n  b: [1, *a]\n")


def test_aliases_and_merges_are_read_as_yaml_has_them() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, x: 3}\nd: [*a, *a]\n"
    assert load_yaml(text) == yaml.safe_load(text)


def test_nesting_without_end() -> None:
    with pytest.raises(ConfigError, match="nested deeper than Python reads"):
        load_yaml("[" * 20_000 + "]" * 20_000)
    assert load_yaml("") is None
