"""Names of runs, and the cache key that each node adds to its inputs."""

import hashlib
import os
import secrets
import time
from typing import Any

from headrace.components.features.columns import column_usages
from headrace.components.identity import packages_hash, sources_hash
from headrace.components.validation.schema_file import curation_hash
from headrace.data.section import canonical_json

from .config import RunConfig, kept_slices
from .graph import GRAPH, Node

__all__ = ["new_run_id", "node_config", "node_sources", "run_identity"]

_RUN_BY_NAME = {
    "infra": ("headrace.components.infra.probe",),
    "tuner": ("headrace.components.tuning.worker",),
}
"""Modules that a node starts by their name, where no import shows them."""


_NEVER_SCORED = ("tensorboard", "tensorboard_histograms", "monitoring", "lr_finder", "backup")
"""Fields of `training` that neither trials nor folds use."""


def new_run_id() -> str:
    """Return a unique id that sorts by time: UTC date, time and six random hex digits."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f"-{secrets.token_hex(3)}"


def node_config(config: RunConfig, node: Node) -> dict[str, Any]:
    """Return the parts of the config that `node` reads: dotted path -> plain JSON value.

    Defaults are written out, so that spelling out a default changes no cache key.
    """
    plain = config.model_dump(mode="json")
    if node.id == "tuner":
        _keep_what_trials_use(plain)
    if node.id == "crossval":
        _keep_what_folds_use(plain)
    parts: dict[str, Any] = {}
    for path in node.config:
        if path == "validation.schema_sha256":
            parts[path] = curation_hash(str(config.validation.schema_path))
        elif path == "usages":
            # How a column is transformed is nothing to ingest; that it is read, and as what, is.
            parts[path] = [list(usage) for usage in dict.fromkeys(column_usages(config.features))]
        elif path == "evaluation.slices":
            parts[path] = [list(columns) for columns in kept_slices(config)]
        elif path == "identity":
            parts[path] = run_identity(config)
        else:
            value: Any = plain
            for key in path.split("."):
                value = value[key]
            parts[path] = value
    return parts


def _keep_what_trials_use(plain: dict[str, Any]) -> None:
    """Leave out what no trial reads: a longer training must not search again."""
    if plain["tuning"]["enabled"]:
        for name in ("epochs", *_NEVER_SCORED):
            plain["training"].pop(name, None)
    else:
        plain |= {"model": None, "training": None, "tuning": {"enabled": False}}


def _keep_what_folds_use(plain: dict[str, Any]) -> None:
    """Leave out what no fold reads; all of it where cross-validation is off."""
    if plain["cross_validation"]["enabled"]:
        for name in _NEVER_SCORED:
            plain["training"].pop(name, None)
        if plain["cross_validation"]["epochs"] is not None:
            del plain["training"]["epochs"]
    else:
        off = ("data", "features", "preprocessing_fn", "model", "training")
        plain |= dict.fromkeys(off) | {"cross_validation": {"enabled": False}}
        plain["evaluation"] |= {"threshold": None, "costs": None}


def node_sources(node: Node) -> str:
    """Return the hash of the sources and packages that bear on what `node` computes."""
    sources = sources_hash(
        [node.run.partition(":")[0], "headrace.components.nodes.executor", *_RUN_BY_NAME.get(node.id, ())]
    )
    return hashlib.sha256(f"{packages_hash(node.packages)}\n{sources}".encode()).hexdigest()


def run_identity(config: RunConfig) -> str:
    """Return the hash of all that a run's result depends on but the data's content.

    Where it runs and where results are written is left out: the same run into another folder is the same run.
    """
    plain = config.model_dump(mode="json", exclude={"beam", "output", "metadata", "kubeflow", "deploy"})
    # By a hash of rows, the order of features is part of the split; mappings are hashed without theirs.
    plain["features"] = list(plain["features"].items())
    for section, key in (("data", "path"), ("validation", "schema_path")):
        plain[section][key] = os.path.basename(str(plain[section][key]))
    digest = hashlib.sha256(canonical_json(plain).encode())
    for node in GRAPH:
        digest.update(node_sources(node).encode())
    return digest.hexdigest()
