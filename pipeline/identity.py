"""Names of runs, and the cache key that each node adds to its inputs.

A key holds content, never a place: a project that is moved or copied meets the results that it has.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Any

from headrace.components.features.columns import column_usages
from headrace.components.identity import packages_hash, sources_hash
from headrace.components.models.check import weights_file
from headrace.components.own_code import import_paths, own_code
from headrace.components.validation.schema_file import curation_hash
from headrace.data.section import canonical_json

from .config import RunConfig, kept_slices
from .graph import GRAPH, Node

__all__ = ["new_run_id", "node_config", "node_parameters", "node_places", "node_sources", "run_identity"]

_RUN_BY_NAME = {
    "infra": ("headrace.components.infra.probe",),
    "tuner": ("headrace.components.tuning.worker",),
}
"""Modules that a node starts by their name, where no import shows them."""


_WHERE = ("beam", "output", "metadata", "kubeflow", "deploy", "code")
"""Sections that say where a run takes place, not what it makes."""

_NEVER_SCORED = ("tensorboard", "tensorboard_histograms", "monitoring", "lr_finder", "backup")
"""Fields of `training` that neither trials nor folds use."""


def new_run_id() -> str:
    """Return a unique id that sorts by time: UTC date, time and six random hex digits."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f"-{secrets.token_hex(3)}"


def node_parameters(config: RunConfig, node: Node) -> dict[str, str]:
    """Return the execution properties of `node`, all of which are part of its cache key."""
    parts = node_config(config, node)
    own = own_code(import_paths(parts), config.code).digest()
    return {
        "node": node.id,
        "run": node.run,
        "config": canonical_json(parts),
        "sources": hashlib.sha256(f"{node_sources(node)}\n{own}".encode()).hexdigest(),
        "resumable": "yes" if node.resumable else "no",
    }


def node_config(config: RunConfig, node: Node) -> dict[str, Any]:
    """Return the parts of the config that `node` reads: dotted path -> plain JSON value, without places.

    Defaults are written out, so that spelling out a default changes no cache key.
    """
    plain = _content(config)
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
            parts[path] = _at(plain, path.split("."))
    return parts


def node_places(config: RunConfig, node: Node) -> dict[str, Any]:
    """Return what `node_config` leaves out: dotted path -> place, or the nested mapping that holds it."""
    found: dict[str, Any] = {}
    plain = config.model_dump(mode="json")
    for place in _places(config):
        for path in node.config:
            keys = path.split(".")
            if list(place[: len(keys)]) == keys:
                value = _at(plain, place)
                for key in reversed(place[len(keys) :]):
                    value = {key: value}
                found[path] = value
    return found


def _places(config: RunConfig) -> list[tuple[str, ...]]:
    """Return where in the config a path stands."""
    weights = [] if (found := weights_file(config.model)) is None else [found[0]]
    return [("data", "path"), ("validation", "schema_path"), ("output", "push"), *weights]


def _content(config: RunConfig) -> dict[str, Any]:
    """Return the config as plain JSON values, paths left out or replaced by a hash of what lies there."""
    plain: dict[str, Any] = config.model_dump(mode="json")
    for *parents, last in _places(config):
        _at(plain, parents)[last] = ""
    if (weights := weights_file(config.model)) is not None:
        (*parents, last), file = weights
        _at(plain, parents)[last] = _file_hash(file)
    return plain


def _at(plain: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        plain = plain[key]
    return plain


def _file_hash(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "absent"


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
    plain = {key: value for key, value in _content(config).items() if key not in _WHERE}
    digest = hashlib.sha256(canonical_json(plain).encode())
    digest.update(own_code(import_paths(plain), config.code).digest().encode())
    for node in GRAPH:
        digest.update(node_sources(node).encode())
    return digest.hexdigest()
