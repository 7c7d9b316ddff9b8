"""A small project as headrace 0.1 left it: it validates, serves and stands as baseline."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.components.node import NodeContext
from headrace.components.push.baseline import choose, run
from headrace.components.push.publish import Bundle, publish, rollback
from headrace.components.push.repository import Source
from headrace.pipeline.validate import validate
from headrace.serving.client import SavedModelClient

from .test_evaluation import Workspace, make_table, save_model

CONFIG = """\
# Written by `headrace init` from rows.csv. Edit it freely.
schema_version: 1
name: shop

data:
  path: rows.csv
  label: label # 2 classes
  task: binary
  classes: ["no", "yes"] # the last one is the positive class
  split: {method: hash, train: 0.8, eval: 0.1, test: 0.1}

features:
  delay:
    kind: numeric
    scale: zscore
  carrier: # 3 distinct values
    kind: categorical
    encode: one_hot

model:
  family: mlp
  hidden: [32, 16]
  dropout: 0.1

training:
  epochs: 53
  batch_size: 32
  learning_rate: 0.003
  early_stopping: {monitor: val_loss, patience: 6}
  reduce_on_plateau: {patience: 3}

gates:
  quality:
    - {metric: auc, min: 0.6}
    - {metric: auc, max_drop: 0.05}

push:
  serving: float32
  lite: null
"""
LABELS = {"name": "label", "task": "binary", "classes": ["no", "yes"], "threshold": 0.5}


def write_version(folder: Path, bias: float) -> None:
    """Write a version folder with a manifest that has the keys of 0.1 and no others."""
    save_model(folder, "binary", ["no", "yes"], bias)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra/labels.json").write_text(json.dumps(LABELS) + "\n")
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        files.append({"path": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)})
    files.sort(key=lambda entry: str(entry["path"]))
    pairs = json.dumps([[entry["path"], entry["sha256"]] for entry in files], separators=(",", ":"))
    manifest = {
        "content_id": "dffae44bf721ff1257c6825f37bc19c0e00ca5bd8eb4ab5954c509a718563953",
        "content_sha256": hashlib.sha256(pairs.encode()).hexdigest(),
        "files": files,
        "gates": [],
        "model": "shop",
        "restores": None,
        "rolled_back_from": None,
        "run_id": "20261129-035751-fe6151",
        "schema_version": 1,
        "side": "serving",
        "targets": {"lite": None, "serving": "float32"},
        "variant": "float32",
        "version": int(folder.name),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The folder of the live version."""
    folder = tmp_path / "push/serving/shop/1"
    write_version(folder, -0.5)
    return folder


def test_its_config_validates(tmp_path: Path) -> None:
    lines = ["delay,carrier,label"]
    lines += [f"{row['delay'] or ''},{row['carrier']},{row['label']}" for row in make_table("binary", 4) * 2]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "shop.yaml").write_text(CONFIG)
    found = validate(str(tmp_path / "shop.yaml"))
    assert any("label label (binary); all 480 rows can be ingested" in line for line in found), found


def test_its_version_serves(live: Path) -> None:
    with SavedModelClient(live, check_sums="require") as client:
        (found,) = client.predict([{"delay": 2.0, "hour": 1.0, "carrier": "AA"}])
    assert (found.label, client.version) == ("yes", 1)  # 2.0 - 0.5 > 0


def test_its_version_stands_as_baseline(tmp_path: Path, live: Path) -> None:
    work = Workspace(tmp_path)
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants/variants.json").write_text(
        json.dumps([{"name": "float32", "path": None, "model_sha256": "new"}])
    )
    config: dict[str, Any] = {
        "push.serving": "float32",
        "push.lite": None,
        "push.model_name": None,
        "name": "shop",
        "output.push": str(tmp_path / "push"),
    }
    inputs = {name: [str(tmp_path / name)] for name in ("model", "variants")}
    ctx = NodeContext("baseline", "r", inputs, {"baseline": str(tmp_path / "baseline")}, config, "")
    config["baseline"] = choose(config, *(ctx.input(name) for name in ("model", "variants"))).to_json()
    assert run(ctx).finding == "the model of version 1, which is live"
    work.live = json.loads((tmp_path / "baseline/baseline.json").read_text())
    found = work.evaluate()
    assert (found["baseline"]["version"], found["baseline"]["variant"]) == (1, "float32")
    assert 0.5 < found["baseline"]["metrics"]["auc"] < 1
    assert "is not known which of these rows" in found["comparison"]["note"]
    # Of the candidate's own files it would be no other model.
    for path in live.rglob("*"):
        if path.is_file() and not {"assets.extra", "manifest.json"} & set(path.relative_to(live).parts):
            target = tmp_path / "model/Format-Serving" / path.relative_to(live)
            target.write_bytes(path.read_bytes())
    own = choose(config, ctx.input("model"), ctx.input("variants"))
    assert (own.version, own.reason) == (0, "nothing else was pushed yet")


def test_equal_content_makes_no_version_and_a_rollback_brings_it_back(tmp_path: Path, live: Path) -> None:
    entries = json.loads((live / "manifest.json").read_text())["files"]
    files: dict[str, Source | bytes] = {e["path"]: Source(live / e["path"], e["sha256"]) for e in entries}
    root = tmp_path / "push"

    def pushed(given: dict[str, Source | bytes], sha: str) -> int:
        bundle = Bundle("float32", given, (), sha)
        return publish(root, "shop", {"serving": bundle}, run_id="r", content_id="c").version

    assert pushed(files | {"assets.extra/training_keys.bin": b"keys"}, "one") == 1
    assert pushed(files | {"saved_model.pb": b"another"}, "two") == 2
    assert rollback(root, "shop").version == 3
    assert "model_sha256" in json.loads((root / "serving/shop/3/manifest.json").read_text())
    assert pushed(files, "one") == 3
