"""Folders of a project: where runs, artifacts and metadata lie."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.data.errors import EnvironmentProblem

from .cluster import MetadataConfig
from .config import RunConfig
from .metadata_url import connection_config

__all__ = ["ARTIFACTS", "Store", "prepare_folder"]

ARTIFACTS = "artifacts"
"""Folder of artifacts in the root of a store; what ML Metadata keeps of an artifact's place starts there."""


@dataclass(frozen=True)
class Store:
    """Paths under `output.runs`.

    Attributes:
        runs: Folder of runs; a run's own folder is `runs/<run_id>`.
        metadata: Where ML Metadata lie.
    """

    runs: str
    metadata: MetadataConfig = field(default_factory=MetadataConfig)

    @classmethod
    def of(cls, config: RunConfig) -> "Store":
        """Return the store of `config`."""
        return cls(runs=config.output.runs, metadata=config.metadata)

    @property
    def root(self) -> str:
        """Folder of metadata, artifacts and scratch files."""
        return os.path.join(self.runs, ".store")

    @property
    def database(self) -> str:
        """SQLite file of ML Metadata, unless `metadata.url` names a database."""
        return os.path.join(self.root, "metadata.sqlite")

    def connection(self) -> Any:
        """Return MLMD's `ConnectionConfig`.

        Raises:
            EnvironmentProblem: If the database's password cannot be read.
        """
        return connection_config(self.metadata, self.database)

    @property
    def artifacts(self) -> str:
        """Pipeline root of TFX."""
        return os.path.join(self.root, ARTIFACTS)

    @property
    def scratch(self) -> str:
        """Scratch folders of nodes."""
        return os.path.join(self.root, "scratch")

    def run_dir(self, run_id: str) -> Path:
        """Return the folder of a run: summary, report, logs."""
        return Path(self.runs) / run_id


def prepare_folder(path: str, key: str) -> None:
    """Create `path` and make sure that files can be written in it.

    Raises:
        EnvironmentProblem: If not; `key` names the config field.
    """
    missing = [p for p in [Path(path), *Path(path).parents] if not p.exists()]
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        for folder in missing:
            # Leave nothing behind that this call made.
            try:
                folder.rmdir()
            except OSError:
                break
        raise EnvironmentProblem(
            f"`{key}` must be a writable folder. Received: {path} ({error.strerror})",
            f"choose another with --set {key}=FOLDER",
        ) from error
