"""Own code is imported and tried before a run costs anything, in a process of its own.

The process that schedules a run never initialises TensorFlow, and a fault in the user's code ends with the
child. A config that names no own code needs none of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace.components.models.config import CustomConfig, EnsembleConfig
from headrace.data.errors import ConfigError, HeadraceError, error_for_code

from .config import RunConfig

__all__ = ["check_own_code", "own_names", "told"]

_LIMIT_S = 300.0


@dataclass(frozen=True)
class _Fault:
    """What the child found.

    Attributes:
        exit_code: Of the error.
        message, hint: As in the error.
    """

    exit_code: int
    message: str
    hint: str


def own_names(config: RunConfig) -> dict[str, str]:
    """Return config key -> import path of everything that a config names by one."""
    found: dict[str, str] = {}
    if config.preprocessing_fn is not None:
        found["preprocessing_fn"] = config.preprocessing_fn
    model, place = config.model, "model"
    if isinstance(model, EnsembleConfig):
        model, place = model.member, "model.member"
    if isinstance(model, CustomConfig):
        found[f"{place}.function"] = model.function
    if config.training.loss.use is not None:
        found["training.loss.use"] = config.training.loss.use
    for number, callback in enumerate(config.training.callbacks):
        found[f"training.callbacks.{number}.use"] = callback.use
    return found


def check_own_code(config: RunConfig, tell: Callable[[str], None], limit_s: float = _LIMIT_S) -> None:
    """Import what a config names by import path, and try it on made-up rows as training would.

    Args:
        config: The run config.
        tell: Told that it takes a while, if anything is to be tried.
        limit_s: Seconds after which the child is stopped.

    Raises:
        HeadraceError: What is wrong with it.
    """
    names = own_names(config)
    if not names:
        return
    tell(f"trying your own code on a few made-up rows (imports TensorFlow): {', '.join(names.values())}")
    with tempfile.TemporaryDirectory(prefix="headrace-trial-") as scratch:
        result = Path(scratch, "result.json")
        command = [sys.executable, "-m", "headrace.pipeline.own_code_trial", str(result)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(
                command, input=config.model_dump_json(), capture_output=True, text=True, env=environment,
                timeout=limit_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"{_rule(names)}. Received: no end within {limit_s:.0f} s") from error
        if not result.exists():
            raise ConfigError(f"{_rule(names)}. Received: {_last_words(done)}")
        if (found := json.loads(result.read_text(encoding="utf-8"))) is not None:
            fault = _Fault(**found)
            raise error_for_code(fault.exit_code, fault.message, fault.hint)


def told(error: HeadraceError) -> str:
    """Return an error as the child hands it over."""
    return json.dumps(asdict(_Fault(error.exit_code, error.message, error.hint)))


def _rule(names: dict[str, str]) -> str:
    return f"own code must import and build ({', '.join(names)})"


def _last_words(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (
        f"a process that ended with code {done.returncode}: {lines[-1].strip()[:300] if lines else 'no word'}"
    )
