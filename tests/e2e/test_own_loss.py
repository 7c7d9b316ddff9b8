"""An edit of the user's own loss, or of what it imports, trains again; an edit of a comment does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .project import CONFIG, Project, environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LOSS = """\
import keras
from scales import SCALE

def steep(truth, logits):
    return SCALE * keras.losses.mean_squared_error(truth, keras.ops.sigmoid(logits))
"""

LAUNCHES = """
import json, os, sys
from pathlib import Path
from headrace.pipeline.config import load_config
from headrace.pipeline.launch import launch_node

names = ("ingest", "statistics", "schema", "validation", "data_verdict", "transform", "tuner", "trainer")
for number, edits in enumerate(json.loads(sys.argv[1])):
    for file, text in edits.items():
        Path(file).write_text(text)
    config = load_config("demo.yaml")
    found = {name: launch_node(config, name, f"run{number}") for name in names}
    model = json.loads(Path(found["trainer"].outputs["model"], "model.json").read_text())
    print("FOUND", json.dumps([{name: end.state for name, end in found.items()}, model["sha256"]]))
"""
"""Launches the nodes up to the trainer after each edit, all in one process."""


def test_own_code_trains_again_and_its_words_do_not(tmp_path: Path) -> None:
    project = Project.make(tmp_path, rows=1500)
    training = {**CONFIG["training"], "epochs": 1, "loss": {"kind": "custom", "use": "own_loss:steep"}}
    project.write_config({**CONFIG, "training": training})
    (tmp_path / "scales.py").write_text("SCALE = 1.0\n")
    (tmp_path / "own_loss.py").write_text(LOSS)
    edits = [
        {},
        {"own_loss.py": f'"""My loss."""\n# Steep.\n{LOSS}', "scales.py": "# of mine\nSCALE = 1.0\n"},
        {"scales.py": "SCALE = 50.0\n"},
        {"own_loss.py": LOSS.replace("SCALE *", "-SCALE *")},
        {"own_loss.py": LOSS, "scales.py": "SCALE = 1.0\n"},
    ]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES, json.dumps(edits)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert [states["trainer"] for states, _ in found] == [
        "complete",
        "cached",
        "complete",
        "complete",
        "cached",
    ]
    for states, _ in found[1:]:
        others = {name: state for name, state in states.items() if name not in ("trainer", "data_verdict")}
        assert set(others.values()) == {"cached"}
    models = [model for _, model in found]
    assert models[0] == models[1] == models[4]
    assert len(set(models)) == 3
