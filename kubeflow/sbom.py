"""A bill of materials of this environment: every installed distribution, as CycloneDX 1.6 JSON."""

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["bill_of_materials"]


def bill_of_materials() -> dict[str, Any]:
    """Return the installed distributions, sorted by name; equal environments give equal bills."""
    found: dict[str, dict[str, Any]] = {}
    for item in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower()
        entry: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{item.version}",
            "name": name,
            "version": item.version,
            "purl": f"pkg:pypi/{name}@{item.version}",
        }
        if licences := item.metadata.get_all("License-Expression"):
            entry["licenses"] = [{"expression": licences[0]}]
        found.setdefault(name, entry)
    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "platform", "name": "python", "version": python}},
        "components": [found[name] for name in sorted(found)],
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(bill_of_materials(), indent=1) + "\n", encoding="utf-8")
