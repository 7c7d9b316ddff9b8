"""Packages the rooms of this repository as `headrace.<room>`.

`headrace` is an implicit namespace: names as common as `data` and `kubeflow` live at the top of the
repository for the reader, yet reach site-packages only below `headrace`.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
VERSION = "0.1.0"
ROOMS = ("data", "serving", "components", "pipeline", "kubeflow")
DATA_PATTERNS = [f"**/*.{kind}" for kind in ("html", "j2", "css", "js", "json", "yaml", "typed", "txt")]

# The sections of requirements.in that a user may ask for; `base` is always installed, and `bootstrap` serves
# scripts/setup.sh alone.
EXTRAS = ("lite", "client", "serving", "pipeline", "kubeflow", "dev")


def find_room_packages() -> list[str]:
    """List every folder of a room that is a package, as `headrace.<room>[.<folder>...]`.

    The walk stops at a folder without `__init__.py`, as the import system's regular packages do.
    """
    found: list[str] = []
    waiting = [room for room in ROOMS if (ROOT / room / "__init__.py").is_file()]
    while waiting:
        name = waiting.pop(0)
        found.append(f"headrace.{name}")
        inner = (child for child in (ROOT / name.replace(".", "/")).iterdir() if child.name.isidentifier())
        waiting += sorted(f"{name}.{child.name}" for child in inner if (child / "__init__.py").is_file())
    return found


def read_requirements() -> dict[str, list[str]]:
    """Read requirements.in into its sections, `# [name]` by name."""
    sections: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"# \[(\w+)\]", line):
            name = heading[1]
            sections[name] = []
        elif line and not line.startswith("#"):
            sections[name].append(line)
    return sections


requirements = read_requirements()
extras = {name: requirements[name] for name in EXTRAS}
# The serving gate asks the candidates through the server itself.
extras["pipeline"] = sorted({*requirements["pipeline"], *requirements["serving"]})
extras["all"] = sorted({line for name in EXTRAS if name != "dev" for line in requirements[name]})
readme = ROOT / "README.md"

setup(
    name="headrace",
    version=VERSION,
    description="From one YAML file to gated, served models: an end-to-end MLOps pipeline on TFX",
    long_description=readme.read_text(encoding="utf-8") if readme.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11,<3.14",
    # The folder `headrace` holds `__main__.py` alone, for `python -m headrace`.
    packages=["headrace", *find_room_packages()],
    package_dir={"headrace": "headrace"} | {f"headrace.{room}": room for room in ROOMS},
    package_data={"": DATA_PATTERNS},
    install_requires=requirements["base"],
    extras_require=extras,
    entry_points={"console_scripts": ["headrace = headrace.pipeline.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
