"""Which server the serving gate runs, and where this machine has the real one. Imports little."""

import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from headrace.data.errors import ConfigError

__all__ = ["ABSENT", "BINARY", "IMAGE", "TensorFlowServing", "find_tensorflow_serving", "require_engine"]

BINARY = "tensorflow_model_server"
IMAGE = "tensorflow/serving"

ABSENT = (
    f"neither {BINARY} on the PATH nor a Docker that holds the image {IMAGE} was found",
    f"install {BINARY}, or run `docker pull {IMAGE}`, or set `gates.serving.gate: embedded`",
)
"""What is missing, and what to do about it."""

_DOCKER_S = 20.0


@dataclass(frozen=True)
class TensorFlowServing:
    """A TensorFlow Serving that can be started.

    Attributes:
        kind: A program, or an image for Docker.
        program: Path of the program, or of `docker`.
    """

    kind: Literal["binary", "docker"]
    program: str


def find_tensorflow_serving() -> TensorFlowServing | None:
    """Return the real TensorFlow Serving of this machine, the program before the image; None without."""
    program = shutil.which(BINARY)
    if program is not None:
        return TensorFlowServing("binary", program)
    docker = shutil.which("docker")
    if docker is None:
        return None
    try:
        asked = subprocess.run(
            [docker, "image", "inspect", IMAGE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_DOCKER_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return TensorFlowServing("docker", docker) if asked.returncode == 0 else None


def require_engine(gate: str) -> None:
    """Check that the server which `gates.serving.gate` names can be started here.

    Raises:
        ConfigError: If it cannot.
    """
    if gate == "tensorflow_serving" and find_tensorflow_serving() is None:
        missing, hint = ABSENT
        raise ConfigError(
            "`gates.serving.gate: tensorflow_serving` needs TensorFlow Serving on the machine that runs the "
            f"pipeline. Received: {missing}",
            hint,
        )
