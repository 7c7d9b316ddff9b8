"""The `push` node: publish the variants that passed every gate."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.components.gates.state import Gate, read_gates
from headrace.components.identity import content_id
from headrace.components.node import NodeContext, NodeResult
from headrace.data.errors import GateRejected

from .config import PushConfig
from .content import label_of, lite_files, model_sha256, serving_files, training_keys
from .judged import Judged
from .manifest import Side
from .publish import Bundle, Published, publish
from .repository import Source
from .training_keys import NAME

__all__ = ["run"]


def run(ctx: NodeContext) -> NodeResult:
    """Publish and write `pushed.json`.

    Raises:
        GateRejected: If the verdict is not push; the verdict node stops the run before this.
        EnvironmentProblem: If publishing fails; nothing new is visible then.
    """
    config = PushConfig.model_validate(ctx.config["push"])
    model = config.model_name or str(ctx.config["name"])
    push_dir = str(ctx.config["output.push"])
    gates_dir = Path(ctx.input("gates"))
    verdict = json.loads((gates_dir / "verdict.json").read_text(encoding="utf-8"))
    if verdict["verdict"] != "push":
        raise GateRejected(f"only a model with the verdict push is published. Received: {verdict['verdict']}")
    ingest = json.loads(Path(ctx.input("examples"), "ingest.json").read_text(encoding="utf-8"))
    published = publish(
        Path(push_dir),
        model,
        _bundles(ctx, verdict["targets"], read_gates(gates_dir / "gates.json")),
        run_id=ctx.run_id,
        content_id=content_id(str(ctx.config["identity"]), ingest["sha256"]),
    )
    folder = Path(ctx.outputs["pushed"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pushed.json").write_text(json.dumps(published.to_json(), indent=1) + "\n", encoding="utf-8")
    properties: dict[str, str | int | float] = {
        "pushed": int(bool(published.paths)),
        "pushed_version": str(published.version),
        "pushed_destination": str(next(iter(published.paths.values()), "")),
        "created": int(published.created),
    }
    return NodeResult(finding=_finding(model, published), properties={"pushed": properties})


def _bundles(ctx: NodeContext, targets: Mapping[str, str | None], gates: list[Gate]) -> dict[Side, Bundle]:
    """Gather the content of every target: nothing but what was judged."""
    judged = Judged(ctx)
    label = label_of(judged, Path(ctx.input("evaluation")), ctx.config["data.csv"])
    bundles: dict[Side, Bundle] = {}
    keys = training_keys(Path(ctx.input("examples")))
    if serving := targets.get("serving"):
        files = serving_files(judged, serving, label) | _beside(keys, "assets.extra/")
        keys = None  # devices need none
        bundles["serving"] = Bundle(serving, files, _relevant(gates, serving), model_sha256(judged, serving))
    if lite := targets.get("lite"):
        files = lite_files(judged, lite, label) | _beside(keys)
        bundles["lite"] = Bundle(lite, files, _relevant(gates, lite), model_sha256(judged, lite))
    return bundles


def _beside(keys: bytes | None, folder: str = "") -> dict[str, Source | bytes]:
    """Return the file of training keys, if there are any to publish."""
    return {} if keys is None else {f"{folder}{NAME}": keys}


def _relevant(gates: list[Gate], variant: str) -> list[dict[str, Any]]:
    """Return the gates that let this variant through: the data's, float32's quality, its own."""
    return [
        gate.to_json()
        for gate in gates
        if gate.variant in (None, variant) or (gate.kind == "quality" and gate.variant == "float32")
    ]


def _finding(model: str, published: Published) -> str:
    if not published.paths:
        return "no target is set, nothing is published"
    what = ", ".join(f"{side}: {variant}" for side, variant in published.variants.items())
    if published.created:
        return f"{model} version {published.version} ({what})"
    return f"{model} version {published.version} already holds this content ({what})"
