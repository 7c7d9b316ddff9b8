"""TFX's driver of ingest: spans, versions and a fingerprint of content."""

import json

import pytest

from headrace.components.nodes.ingest import ContentDriver, input_parameters, resolved_path
from headrace.data.errors import ConfigError


def resolve(path: str, usages: list[list[str]], **data: object) -> dict[str, object]:
    """Return the properties that the driver resolves for `data.path`."""
    config = {
        "data": {"path": path, "label": "y", **data},
        "usages": usages,
        "evaluation.slices": [],
    }
    properties = {**input_parameters(path), "config": json.dumps(config)}
    found = ContentDriver(None).resolve_exec_properties(properties, None, None)
    return {
        "path": resolved_path(path, str(found["input_config"])),
        "fingerprint": found["input_fingerprint"],
        "span": found["span"],
        "version": found["version"],
    }


@pytest.fixture(autouse=True)
def no_store(monkeypatch):
    monkeypatch.delenv("HEADRACE_STORE", raising=False)


def test_the_newest_span_and_version(tmp_path):
    for name in ("004/v1", "011/v1", "011/v2", "009/v8"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.csv").write_text(f"x,y\n1,{name}\n")
    pattern = str(tmp_path / "{SPAN}/v{VERSION}/*.csv")
    found = resolve(pattern, [["x", "number"]])
    assert found["path"] == str(tmp_path / "011/v2/*.csv")
    assert (found["span"], found["version"]) == (11, 2)
    (tmp_path / "011/v1/a.csv").write_text("x,y\n2,b\n")
    assert resolve(pattern, [["x", "number"]]) == found
    (tmp_path / "011/v2/a.csv").write_text("x,y\n2,b\n")
    assert resolve(pattern, [["x", "number"]])["fingerprint"] != found["fingerprint"]


def test_a_dated_folder_has_its_days_as_span(tmp_path):
    for day in ("2025-03-01", "2024-12-31"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.csv").write_text("x,y\n1,0\n")
    found = resolve(str(tmp_path / "{YYYY}-{MM}-{DD}"), [["x", "number"]])
    assert (found["path"], found["span"]) == (str(tmp_path / "2025-03-01"), 20148)


def test_pictures_are_part_of_the_fingerprint(tmp_path):
    (tmp_path / "rows.csv").write_text("image,y\na.png,u\nnone.png,v\n")
    (tmp_path / "a.png").write_bytes(b"one")
    before = resolve(str(tmp_path / "rows.csv"), [["image", "image"]])["fingerprint"]
    (tmp_path / "a.png").write_bytes(b"two")
    changed = resolve(str(tmp_path / "rows.csv"), [["image", "image"]])["fingerprint"]
    assert changed != before
    (tmp_path / "none.png").write_bytes(b"three")
    assert resolve(str(tmp_path / "rows.csv"), [["image", "image"]])["fingerprint"] != changed
    # Read as text the names alone count.
    assert (
        len({resolve(str(tmp_path / "rows.csv"), [["image", "text"]])["fingerprint"], before, changed}) == 3
    )


def test_a_folder_of_pictures(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(name.encode())
    found = resolve(str(tmp_path), [["image", "image"]], format="images")
    assert found["path"] == str(tmp_path)
    (tmp_path / "cat" / "b.jpg").write_bytes(b"more")
    assert (
        resolve(str(tmp_path), [["image", "image"]], format="images")["fingerprint"] != found["fingerprint"]
    )


def test_no_span_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"with \{SPAN\} must match a file or folder"):
        resolve(str(tmp_path / "{SPAN}.csv"), [["x", "number"]])
