"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("data", "serving", "components", "pipeline", "kubeflow")


def find_modules_with_examples() -> list[str]:
    # By text, since importing every module here would cost each test worker TensorFlow's import.
    files = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    with_examples = (path.relative_to(ROOT) for path in files if ">>> " in path.read_text(encoding="utf-8"))
    return [
        "headrace." + ".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in with_examples
    ]


@pytest.mark.parametrize("name", find_modules_with_examples())
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    outcome = doctest.testmod(module, optionflags=flags)
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples failed; see above"
