"""The `baseline` node: the model that is live, copied out of the push folder before anything is judged."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.components.node import NodeContext, NodeResult
from headrace.data.errors import EnvironmentProblem
from headrace.data.sums import FileEntry, file_entries

from .config import PushConfig
from .live import Candidate, Live, damaged, find_baseline
from .manifest import Side, read_manifest
from .repository import Repository, Source, copy_durably

__all__ = ["choose", "run"]


def choose(config: Mapping[str, Any], model: str, variants: str) -> Live:
    """Return the baseline of a candidate.

    Args:
        config: What the node is given of the config.
        model: The trainer's artifact.
        variants: Those of the variants.
    """
    candidate = _candidate(config, Path(model), Path(variants))
    return find_baseline(Path(config["output.push"]), _name(config), candidate)


def run(ctx: NodeContext) -> NodeResult:
    """Copy the live model to `model/` and write `baseline.json`: which it is, or why there is none."""
    live = Live(**ctx.config["baseline"])
    folder = Path(ctx.outputs["baseline"])
    folder.mkdir(parents=True, exist_ok=True)
    doubts = {}
    if live.version:
        repository = Repository(Path(ctx.config["output.push"]), _name(ctx.config))
        live = _copied(live, repository, folder / "model")
        doubts = {} if live.version else {"baseline": live.reason}
    (folder / "baseline.json").write_text(json.dumps(live.to_json(), indent=1) + "\n", encoding="utf-8")
    return NodeResult(_finding(live), doubts=doubts)


def _copied(live: Live, repository: Repository, target: Path) -> Live:
    """Copy the version; one that is not, or no more, as its manifest says is no baseline."""
    folder = repository.path(live.side, live.version)
    manifest = read_manifest(folder)
    try:
        if manifest is None or manifest.content_sha256 != live.content_sha256:
            raise EnvironmentProblem(f"it must stay as it was found. Received: other content ({folder})")
        copy_durably({e.path: Source(folder / e.path, e.sha256) for e in manifest.files}, target)
    except EnvironmentProblem as error:
        return damaged(live.version, error.message, folder)
    return live


def _name(config: Mapping[str, Any]) -> str:
    return str(config["push.model_name"] or config["name"])


def _candidate(config: Mapping[str, Any], model: Path, variants: Path) -> dict[Side, Candidate]:
    """Return what would be pushed; a variant that was not built is never live."""
    entries = {e["name"]: e for e in json.loads((variants / "variants.json").read_text(encoding="utf-8"))}
    targets: dict[Side, str | None] = {"serving": config["push.serving"], "lite": config["push.lite"]}
    found: dict[Side, Candidate] = {}
    for side, variant in targets.items():
        if variant is not None:
            entry = entries.get(variant, {})
            files = _files(side, variant, entry, model, variants)
            found[side] = Candidate(variant, entry.get("model_sha256") or None, files)
    return found


def _files(
    side: Side, variant: str, entry: Mapping[str, Any], model: Path, variants: Path
) -> list[FileEntry]:
    if variant == "float32":
        return file_entries(model / "Format-Serving")
    path = variants / str(entry.get("path") or variant)
    if side == "serving":
        return file_entries(path)
    return [replace(e, path="model.tflite") for e in file_entries(path.parent) if e.path == path.name]


def _finding(live: Live) -> str:
    if live.version:
        return f"the model of version {live.version}, which is live"
    return f"none: {live.reason}"
