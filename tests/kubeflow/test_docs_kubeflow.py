"""What docs/kubeflow.md shows exists and is valid."""

import re
import shlex
from pathlib import Path

import yaml

from headrace.kubeflow.cli import group
from headrace.kubeflow.plan import make_plan
from headrace.pipeline.config import parse_config
from tests.e2e.project import CONFIG

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "kubeflow.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
    if line.startswith("headrace kubeflow ")
]


def test_every_command_is_shown() -> None:
    assert {shlex.split(line)[2] for line in COMMANDS} == set(group.commands)


def test_the_section_is_valid_and_does_what_it_says() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    plan = make_plan(parse_config({**CONFIG, **yaml.safe_load(block)}))
    steps = {step.id: step for step in plan.steps}
    assert steps["trainer"].gpu is not None
    assert steps["trainer"].memory_limit == "16Gi"
    assert steps["ingest"].retries == 3
    assert steps["verdict"].retries == 0
    assert [parameter.name for parameter in plan.parameters] == [
        "force",
        "training_epochs",
        "training_learning_rate",
    ]
