"""The pushed bundle in a process without TensorFlow answers as the pushed SavedModel does, row by row."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.serving.row_mark import read_row_mark

from .project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROWS = 1000

ON_DEVICE = """
import json, sys
from headrace.serving.lite import LiteModel
rows = json.load(open(sys.argv[2]))
scores = LiteModel.load(sys.argv[1]).predict(rows)["scores"]
assert not {"tensorflow", "tfx", "keras"} & set(sys.modules)
json.dump(scores.tolist(), open(sys.argv[3], "w"))
"""

ON_SERVER = """
import json, sys
import numpy as np
from headrace.serving.session import SessionModel
rows = json.load(open(sys.argv[2]))
def column(name, text):
    values = [row.get(name) for row in rows]
    if text:
        return np.array([(value or "").encode() for value in values], object)
    return np.array([np.nan if value is None else value for value in values], np.float32)
types = {"distance": False, "hour": False, "carrier": True, "origin": True}
inputs = {name: column(name, text) for name, text in types.items()}
with SessionModel.load(sys.argv[1]) as model:
    scores = model.run("serving_raw", inputs)["scores"]
json.dump(scores.tolist(), open(sys.argv[3], "w"))
"""


def odd_rows() -> list[dict[str, Any]]:
    """Return raw rows: columns sometimes missing, categories sometimes unseen, numbers beyond all seen."""
    rng = np.random.default_rng(11)
    rows: list[dict[str, Any]] = []
    for _ in range(ROWS):
        row: dict[str, Any] = {
            "distance": float(np.round(rng.gamma(2.0, 500.0) * (100 if rng.random() < 0.02 else 1))),
            "hour": int(rng.integers(-1, 26)),
            "carrier": str(rng.choice(["AA", "BB", "CC", "DD", "ZZ", "Ünseen", " AA"])),
            "origin": str(rng.choice(["EWR", "JFK", "LGA", "ewr"])),
        }
        for name in row:
            if rng.random() < 0.1:
                row[name] = None
        rows.append(row)
    return rows


def answers(code: str, model: Path, rows: Path, out: Path) -> np.ndarray[Any, Any]:
    command = [sys.executable, "-c", code, str(model), str(rows), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return np.asarray(json.loads(out.read_text(encoding="utf-8")))


def test_bundle_without_tensorflow_agrees_with_the_saved_model(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", rows=2000)
    ran = project.run("push.serving=float32", "push.lite=tflite_float32", "gates.cost=[]")
    assert ran.exit_code == 0, ran.stderr
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(odd_rows()), encoding="utf-8")
    push = project.folder / "push"
    assert "serving_raw" in read_row_mark(push / "serving" / "demo" / "1")  # buckets, crosses, embeddings
    device = answers(ON_DEVICE, push / "lite" / "demo" / "1", rows, tmp_path / "device.json")
    server = answers(ON_SERVER, push / "serving" / "demo" / "1", rows, tmp_path / "server.json")
    assert device.shape == server.shape == (ROWS, 2)
    assert np.ptp(server[:, 1]) > 0.1
    # DESIGN's tolerance for float32 runtimes.
    assert np.max(np.abs(device - server) / np.maximum(1, np.abs(server))) <= 1e-5
