"""`headrace kubeflow simulate`: a config or a compiled pipeline run here, and where its summary lies."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.store import Store
from headrace.pipeline.strict_yaml import load_yaml

from .lint import lint
from .presence import check_volume, step_config
from .simulate import Simulation, Watcher, simulate
from .spec import PipelineFile, load_pipeline

__all__ = ["Rehearsal", "is_pipeline", "parsed_parameters", "rehearse"]


@dataclass(frozen=True)
class Rehearsal:
    """A simulated run, and where its summary lies.

    Attributes:
        simulation: Steps and their states.
        summary_path, report_path: What the report step wrote; they may not exist where it failed.
    """

    simulation: Simulation
    summary_path: Path
    report_path: Path


def rehearse(
    source: str | Path,
    volume: str | Path,
    overrides: tuple[str, ...] = (),
    params: Sequence[str] = (),
    *,
    parallel: int = 1,
    secrets: Mapping[str, str] | None = None,
    watcher: Watcher | None = None,
) -> Rehearsal:
    """Compile `source` if it is a config, and run what was compiled.

    Args:
        source: A config or a compiled pipeline.
        volume: Folder that stands for the cluster's volume; made if missing. Of a config, its data are linked
            there; a compiled pipeline finds what the folder has.
        overrides: "dotted.path=value" texts, for a config.
        params: "name=value" texts, for run parameters.
        parallel: Most steps at a time.
        secrets: "secret/key" -> value; environment variables of the steps' names come second.
        watcher: Told what happens.

    Raises:
        ConfigError: If source or parameters are wrong.
        EnvironmentProblem: If the volume cannot be written, or a secret is missing.
    """
    folder = Path(volume).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"`--volume` must be a writable folder. Received: {volume} ({error.strerror})"
        ) from error
    pipeline = Path(source)
    if not is_pipeline(pipeline):
        from .compile import compile_pipeline

        made = compile_pipeline(source, folder / "pipeline.yaml", overrides)
        _link(made.bundle.links, folder)
        pipeline = made.path
    elif overrides:
        raise ConfigError(f"`--set` goes with a config; `--param` with a pipeline. Received: {overrides[0]}")
    lint(pipeline)
    file = load_pipeline(pipeline)
    check_volume(file, folder)
    given = secrets or {}
    simulation = simulate(
        file,
        folder,
        parsed_parameters(file, params),
        secrets=lambda secret, key: given.get(f"{secret}/{key}") or _from_environment(file, secret, key),
        parallel=parallel,
        watcher=watcher,
    )
    run_dir = _run_dir(file, folder, simulation.run_id)
    return Rehearsal(simulation, run_dir / "summary.json", run_dir / "report.html")


def parsed_parameters(file: PipelineFile, texts: Sequence[str]) -> dict[str, Any]:
    """Return "name=value" texts as values: YAML, but text where the pipeline declares text.

    Raises:
        ConfigError: If one is malformed.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"`--param` must be of the form name=value. Received: {text}")
        is_text = file.parameters.get(name, {}).get("parameterType") == "STRING"
        try:
            found[name] = value if is_text else load_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of `--param` must be valid YAML. Received: {text}") from error
    return found


def is_pipeline(path: Path) -> bool:
    """Tell whether a file is a compiled pipeline rather than a config."""
    try:
        load_pipeline(path)
    except ConfigError:
        return False
    return True


def _link(links: Mapping[str, Path], volume: Path) -> None:
    """Let the volume have what the config's steps look for, as links to where it lies here."""
    for place, source in links.items():
        target = volume / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        # A folder that somebody filled is left alone: it is the cluster's data as they see it.
        if not target.exists():
            target.symlink_to(source)


def _from_environment(file: PipelineFile, secret: str, key: str) -> str | None:
    """Return a secret that this process has under the name that steps get it by."""
    for platform in file.platform.values():
        for entry in platform.get("secretAsEnv", []):
            if entry["secretName"] == secret:
                for pair in entry["keyToEnv"]:
                    if pair["secretKey"] == key and pair["envVar"] in os.environ:
                        return os.environ[pair["envVar"]]
    return None


def _run_dir(file: PipelineFile, volume: Path, run_id: str) -> Path:
    """Return the folder of the run, from what the report step is told."""
    return Store.of(step_config(file, "exec-report", volume)).run_dir(run_id)
