"""What chief and workers of a search have in common: files of the folder that all of them see."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.components.training.settings import Monitor

from .config import TuningConfig

__all__ = ["JOB_VARIABLE", "Chief", "Job", "death_path", "error_path"]

JOB_VARIABLE = "HEADRACE_TUNING_JOB"
"""Environment variable with the path of the job that a worker is to take part in."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; a JSON file.

    Attributes:
        examples: Folder of the transformed examples.
        transform_graph: Folder of the transform_graph artifact.
        sections: `model` and `training` as plain JSON values.
        tuning: The `tuning` section.
        objective: Log name and direction.
        seed: Of weights, order and choices.
        folder: State of the search, shared by chief and workers.
        threads: Threads of each worker; 0: as many as TensorFlow likes.
    """

    examples: str
    transform_graph: str
    sections: dict[str, Any]
    tuning: dict[str, Any]
    objective: Monitor
    seed: int
    folder: str
    threads: int = 0

    @classmethod
    def read(cls, path: str) -> "Job":
        """Read the file that `write` wrote."""
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        return cls(**{**content, "objective": tuple(content["objective"])})

    def write(self) -> str:
        """Write `job.json` into the folder and return its path."""
        path = Path(self.folder) / "job.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return str(path)

    @property
    def config(self) -> TuningConfig:
        """The `tuning` section, parsed."""
        return TuningConfig.model_validate(self.tuning)


@dataclass(frozen=True)
class Chief:
    """Where workers find the chief.

    Attributes:
        host: Address, IPv6 in brackets.
        port: Port.
        path: The job's file.
        folder: The job's folder.
    """

    host: str
    port: int
    path: str
    folder: str


def error_path(folder: str, tuner_id: str) -> Path:
    """Return where a worker says what it died of."""
    return Path(folder) / "errors" / f"{tuner_id}.json"


def death_path(folder: str, tuner_id: str) -> Path:
    """Return where another machine says how a worker's process ended within a trial."""
    return Path(folder) / "deaths" / f"{tuner_id}.json"
