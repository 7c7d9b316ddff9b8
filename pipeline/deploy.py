"""`headrace deploy render`: from the run config to the files that deploy its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.data.errors import ConfigError
from headrace.serving.deploy.config import VolumeModels
from headrace.serving.deploy.files import Origin, Written, write_files
from headrace.serving.deploy.plan import Plan, make_plan, peak_bytes
from headrace.serving.deploy.render import Target, render

from .config import RunConfig, column_plan, load_config

__all__ = ["Rendered", "deployment_plan", "render_deployment", "report_lines"]

_ENOUGH = 0.75  # of the memory may be taken by one version, Python included
_RAGGED = "batching is off: rows hold lists of any length, which TensorFlow Serving cannot stack"


@dataclass(frozen=True)
class Rendered:
    """What was written for one target.

    Attributes:
        target: For what.
        folder: Where to.
        written: Files by what happened to them.
        next_steps: Commands to type next, each after a remark or "".
    """

    target: Target
    folder: Path
    written: Written
    next_steps: tuple[tuple[str, str], ...]


def render_deployment(
    config_path: str, overrides: Sequence[str], output: str, targets: Sequence[Target], *, force: bool
) -> tuple[Plan, list[Rendered]]:
    """Write the files of every target into a folder of its own below `output`.

    Raises:
        ConfigError: If the config is not valid, its model is not pushed for TensorFlow Serving, a rendered
            file was edited, or a folder holds the files of another config.
        EnvironmentProblem: If the files cannot be written.
    """
    plan = deployment_plan(load_config(config_path, overrides), Path(config_path).name)
    folders = {target: Path(output) / target for target in dict.fromkeys(targets)}
    written = write_files(
        {folder: render(plan, target, folder) for target, folder in folders.items()},
        Origin(Path(config_path), plan.model),
        force=force,
    )
    return plan, [
        Rendered(target, folder, written[folder], tuple(_next_steps(plan, target, folder)))
        for target, folder in folders.items()
    ]


def deployment_plan(config: RunConfig, source: str = "") -> Plan:
    """Return what `config` deploys.

    Args:
        config: The run config.
        source: Its file's name.

    Raises:
        ConfigError: If it pushes nothing for TensorFlow Serving.
    """
    if config.push.serving is None:
        raise ConfigError("a model that is deployed must have `push.serving`. Received: null (push.serving)")
    ragged = any(column.type == "floats" for column in column_plan(config).columns)
    return make_plan(
        config.deploy,
        config.push.model_name or config.name,
        Path(config.output.push) / "serving",
        ragged=ragged,
        source=source,
    )


def _next_steps(plan: Plan, target: Target, folder: Path) -> list[tuple[str, str]]:
    where = f"-n {plan.config.namespace} " if plan.config.namespace else ""
    if target == "compose":
        ports = plan.config.compose
        return [
            ("", f"docker compose -f {folder / 'compose.yaml'} up -d --wait"),
            ("", f"curl http://{ports.address}:{ports.rest_port}/v1/models/{plan.model}"),
        ]
    steps = [("", f"kubectl apply -f {folder}")]
    models = plan.config.models
    if plan.config.namespace or (isinstance(models, VolumeModels) and models.claim is None):
        steps.insert(0, ("", f"kubectl apply -f {folder / 'once'}"))
    if isinstance(models, VolumeModels) and models.access_mode != "ReadOnlyMany":
        steps.append(("put a version into the volume, as its head says", str(folder / "by-hand/upload.yaml")))
    if target == "kserve":
        return [*steps, ("", f"kubectl {where}get inferenceservice {plan.name}")]
    return [
        *steps,
        ("", f"kubectl {where}rollout status deployment/{plan.name}"),
        ("", f"kubectl {where}port-forward service/{plan.name} 8501"),
    ]


def report_lines(plan: Plan, rendered: Sequence[Rendered], config_path: str) -> list[str]:
    """Return what to tell: the files, whether there is a version to serve, and what to type next."""
    lines: list[str] = []
    for one in rendered:
        for path in one.written.written:
            lines.append(f"wrote {path}")
        for path in one.written.removed:
            lines.append(f"removed {path}")
        if one.written.unchanged:
            lines.append(f"unchanged in {one.folder}: {len(one.written.unchanged)} files")
    folder = plan.repository / plan.model
    if plan.versions:
        lines.append(f"{plan.model}: version {plan.versions[-1]} is the latest in {folder}")
        lines += _memory_lines(plan, peak_bytes(folder / str(plan.versions[-1])))
    else:
        lines.append(f"{plan.model}: no version in {folder} yet; `headrace run {config_path}` pushes one")
    if not plan.batching:
        lines.append("batching is off" if plan.config.batching.enabled is False else _RAGGED)
    for one in rendered:
        lines += [f"next: {remark}: {text}" if remark else f"next: {text}" for remark, text in one.next_steps]
    return lines


def _memory_lines(plan: Plan, peak: int | None) -> list[str]:
    """Return a warning where the memory may not do, by what the version took when it was checked."""
    resources = plan.config.resources
    if peak is None or peak <= _ENOUGH * resources.memory_bytes:
        return []
    took = f"{peak / 2**20:,.0f} MiB"
    return [
        f"warning: deploy.resources.memory is {resources.memory}; the version took {took} when it was "
        "checked, and while versions change there are two"
    ]
