"""Whether the data are where they are looked for: told before a step has been tried three times for it."""

import glob
import re
from collections.abc import Callable
from pathlib import Path

from headrace.data.errors import ConfigError
from headrace.pipeline.check import check_data
from headrace.pipeline.config import RunConfig, load_config
from headrace.pipeline.outcome import shown_path
from headrace.pipeline.own_code import check_own_code
from headrace.pipeline.packed import load_any_config

from .spec import PipelineFile

__all__ = ["check_columns", "check_volume", "step_config"]

_FIRST = "exec-ingest"


def check_columns(
    config_path: str | Path, overrides: tuple[str, ...] = (), tell: Callable[[str], None] = lambda text: None
) -> bool:
    """Check a config as the first step will: own code, and files and columns if its data are on this machine.

    Kubeflow tries a step again whatever it failed of: a wrong column should not get that far.

    Returns:
        Whether they are.

    Raises:
        ConfigError: If a file, its header, its columns or a feature breaks a rule.
    """
    config = load_config(config_path, overrides)
    found = _exists(config.data.path)
    if found:
        check_data(config)
    check_own_code(config, tell)
    return found


def check_volume(file: PipelineFile, volume: Path) -> None:
    """Check that the first step of a pipeline finds its data.

    Args:
        file: A compiled pipeline.
        volume: Folder that stands for the volume.

    Raises:
        ConfigError: If there is nothing, or the pipeline is none of headrace's.
    """
    if _FIRST not in file.executors:
        raise ConfigError(
            "a pipeline to simulate must be what `headrace kubeflow compile` writes. "
            f"Received: one without a step ingest ({file.name})"
        )
    data = step_config(file, _FIRST, volume).data.path
    if _exists(data):
        return
    raise ConfigError(
        "the data must be on the volume before steps run. "
        f"Received: nothing at {shown_path(data)} (data.path)",
        f"put or link the data there, or simulate the config, which does so: "
        f"headrace kubeflow simulate CONFIG --volume {shown_path(volume)}",
    )


def step_config(file: PipelineFile, label: str, volume: Path) -> RunConfig:
    """Return the config that the step of executor `label` is given, its paths those of this machine.

    Values of run parameters are left out.
    """
    args = [str(text) for text in file.executors[label]["container"]["args"]]
    options = [
        text.removeprefix("--").split("=", 1) for text in args if text.startswith("--") and "=" in text
    ]
    told = {option[0]: option[1] for option in options}
    overrides = [value for name, value in options if name == "set" and "{{" not in value]
    root = told["root"]
    for mount in file.platform.get(label, {}).get("pvcMount", []):
        if root == mount["mountPath"] or root.startswith(mount["mountPath"] + "/"):
            root = str(volume / str(mount.get("subPath", "")) / root[len(mount["mountPath"]) :].lstrip("/"))
    return load_any_config(told["config"], overrides, root=root, sha256=told.get("config-sha256"))


def _exists(path: str) -> bool:
    """Return whether there is anything at a path, glob or pattern of spans."""
    # Placeholders of a span may stand for folders as well.
    return Path(path).exists() or bool(glob.glob(re.sub(r"\{[^}]*\}", "*", path)))
