"""The DAG as plain data: importable without TFX, the one source for every platform's wiring."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["GRAPH", "Input", "Node", "node"]

ArtifactType = Literal[
    "Examples", "ExampleStatistics", "Schema", "ExampleAnomalies", "TransformGraph", "HyperParameters",
    "Model", "ModelRun", "ModelEvaluation", "PushedModel", "Variants", "Gates", "Infra",
    "CrossValidation", "Baseline",
]  # fmt: skip
"""Names in `tfx.types.standard_artifacts`; the last five are headrace's own."""


@dataclass(frozen=True)
class Input:
    """An edge: output `output` of node `node` is handed over under `name`."""

    name: str
    node: str
    output: str


@dataclass(frozen=True)
class Node:
    """One step.

    Attributes:
        id: Name on every platform, in logs and in MLMD.
        run: Import path "module:function" of the room function, NodeContext -> NodeResult. The source of that
            module, and of every headrace module that it imports, is part of the cache key.
        inputs: Artifacts consumed.
        outputs: Output name -> artifact type.
        config: Dotted paths of the run config that the node reads; all that its cache key holds of it, but
            for paths of files, which tell a place and no content.
        packages: Distributions whose installed version is part of the cache key.
        after: Nodes that must have succeeded, without an artifact passing.
        cached: Whether an earlier execution with the same key may stand in for a new one.
        gpu: Whether the node may see accelerators.
        resumable: Whether scratch files outlive a kill, so that the next try goes on from them.
        memory_gib, cpu: What a cluster should reserve.
        retries: How often a cluster may try again.
        title: What the progress line says while it runs.
        helper: Import path "module:function" of what further machines do that share the work,
            `headrace.components.team.Team` -> text; "": none can.
    """

    id: str
    run: str
    title: str
    inputs: tuple[Input, ...] = ()
    outputs: dict[str, ArtifactType] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    cached: bool = True
    gpu: bool = False
    resumable: bool = False
    memory_gib: int = 2
    cpu: int = 1
    retries: int = 2
    helper: str = ""


_ARROW = ("pyarrow", "tfx-bsl")
_TF = ("tensorflow", "keras")

GRAPH: tuple[Node, ...] = (
    Node(
        id="ingest",
        title="Read, split and shuffle the rows",
        run="headrace.components.ingest.run:run",
        outputs={"examples": "Examples"},
        config=("data", "usages", "evaluation.slices", "seed"),
        packages=(*_ARROW, "pillow"),
    ),
    Node(
        id="statistics",
        title="Compute statistics of every split",
        run="headrace.components.validation.statistics:run",
        inputs=(Input("examples", "ingest", "examples"),),
        outputs={"statistics": "ExampleStatistics"},
        config=("data.label", "data.weight"),
        packages=("tensorflow-data-validation", *_ARROW),
    ),
    Node(
        id="schema",
        title="Infer or read the schema",
        run="headrace.components.validation.schema:run",
        inputs=(Input("statistics", "statistics", "statistics"),),
        outputs={"schema": "Schema"},
        config=("validation.schema_path", "validation.schema_sha256", "data"),
        packages=("tensorflow-data-validation",),
    ),
    Node(
        id="validation",
        title="Check the data against the schema",
        run="headrace.components.validation.anomalies:run",
        inputs=(
            Input("examples", "ingest", "examples"),
            Input("statistics", "statistics", "statistics"),
            Input("schema", "schema", "schema"),
        ),
        outputs={"anomalies": "ExampleAnomalies", "gates": "Gates"},
        config=("data", "validation.max_skew", "validation.skew_is_error", "validation.schema_path"),
        packages=("tensorflow-data-validation",),
    ),
    Node(
        id="data_verdict",
        title="Decide on the data",
        run="headrace.components.gates.verdict:data",
        inputs=(Input("gates", "validation", "gates"),),
        config=("validation.schema_path",),
        cached=False,
        retries=0,
    ),
    Node(
        id="transform",
        title="Fit and apply the feature transform",
        run="headrace.components.features.run:run",
        inputs=(Input("examples", "ingest", "examples"), Input("schema", "schema", "schema")),
        outputs={"transform_graph": "TransformGraph", "transformed_examples": "Examples"},
        config=("data", "features", "preprocessing_fn"),
        packages=("tensorflow-transform", "apache-beam", "tensorflow"),
        after=("data_verdict",),
        memory_gib=6,
        cpu=2,
    ),
    Node(
        id="tuner",
        title="Search hyperparameters",
        run="headrace.components.tuning.run:run",
        inputs=(
            Input("transformed_examples", "transform", "transformed_examples"),
            Input("transform_graph", "transform", "transform_graph"),
        ),
        outputs={"best_hyperparameters": "HyperParameters"},
        config=("data", "model", "training", "tuning", "seed"),
        packages=("keras-tuner", *_TF),
        helper="headrace.components.tuning.helpers:assist",
        gpu=True,
        resumable=True,
        memory_gib=6,
        cpu=2,
    ),
    Node(
        id="trainer",
        title="Train the model",
        run="headrace.components.training.run:run",
        inputs=(
            Input("transformed_examples", "transform", "transformed_examples"),
            Input("transform_graph", "transform", "transform_graph"),
            Input("best_hyperparameters", "tuner", "best_hyperparameters"),
        ),
        outputs={"model": "Model", "model_run": "ModelRun"},
        config=("data", "model", "training", "seed"),
        packages=_TF,
        helper="headrace.components.training.join:join",
        gpu=True,
        resumable=True,
        memory_gib=6,
        cpu=2,
    ),
    Node(
        id="crossval",
        title="Cross-validate",
        run="headrace.components.crossval.run:run",
        inputs=(
            Input("examples", "ingest", "examples"),
            Input("best_hyperparameters", "tuner", "best_hyperparameters"),
        ),
        outputs={"cross_validation": "CrossValidation"},
        config=(
            "data",
            "features",
            "preprocessing_fn",
            "model",
            "training",
            "cross_validation",
            "evaluation.threshold",
            "evaluation.costs",
            "seed",
        ),
        packages=("tensorflow-transform", "apache-beam", *_TF),
        after=("trainer",),
        gpu=True,
        resumable=True,
        memory_gib=6,
        cpu=2,
    ),
    Node(
        id="variants",
        title="Build quantized variants",
        run="headrace.components.quantization.run:run",
        inputs=(
            Input("model", "trainer", "model"),
            Input("transform_graph", "transform", "transform_graph"),
            Input("transformed_examples", "transform", "transformed_examples"),
        ),
        outputs={"variants": "Variants"},
        config=("data.task", "data.label", "variants", "seed"),
        packages=(*_TF, "litert-quantizer", "ai-edge-litert"),
        memory_gib=6,
    ),
    Node(
        id="baseline",
        title="Find the live model",
        run="headrace.components.push.baseline:run",
        inputs=(Input("model", "trainer", "model"), Input("variants", "variants", "variants")),
        outputs={"baseline": "Baseline"},
        config=("push.serving", "push.lite", "push.model_name", "output.push", "name"),
    ),
    Node(
        id="evaluation",
        title="Evaluate every variant on the test split",
        run="headrace.components.evaluation.run:run",
        inputs=(
            Input("examples", "ingest", "examples"),
            Input("schema", "schema", "schema"),
            Input("transform_graph", "transform", "transform_graph"),
            Input("model", "trainer", "model"),
            Input("variants", "variants", "variants"),
            Input("baseline", "baseline", "baseline"),
        ),
        outputs={"evaluation": "ModelEvaluation"},
        config=("data", "evaluation", "seed"),
        packages=("tensorflow-model-analysis", "apache-beam", "ai-edge-litert", *_TF),
        memory_gib=6,
        cpu=2,
    ),
    Node(
        id="infra",
        title="Load and probe as a server would",
        run="headrace.components.infra.run:run",
        inputs=(
            Input("examples", "ingest", "examples"),
            Input("transform_graph", "transform", "transform_graph"),
            Input("model", "trainer", "model"),
            Input("variants", "variants", "variants"),
        ),
        outputs={"infra": "Infra"},
        config=("data", "push.warmup_rows", "gates.serving", "seed"),
        packages=("ai-edge-litert", *_TF),
        memory_gib=6,
    ),
    Node(
        id="gates",
        title="Judge quality, variants, cost and serving",
        run="headrace.components.gates.run:run",
        inputs=(
            Input("data_gates", "validation", "gates"),
            Input("evaluation", "evaluation", "evaluation"),
            Input("infra", "infra", "infra"),
            Input("variants", "variants", "variants"),
        ),
        outputs={"gates": "Gates"},
        config=("gates", "push", "evaluation.min_slice_rows", "data.task"),
    ),
    Node(
        id="verdict",
        title="Decide on the model",
        run="headrace.components.gates.verdict:model",
        inputs=(Input("gates", "gates", "gates"),),
        cached=False,
        retries=0,
    ),
    Node(
        id="push",
        title="Publish",
        run="headrace.components.push.run:run",
        inputs=(
            Input("examples", "ingest", "examples"),
            Input("gates", "gates", "gates"),
            Input("evaluation", "evaluation", "evaluation"),
            Input("model", "trainer", "model"),
            Input("variants", "variants", "variants"),
            Input("infra", "infra", "infra"),
            Input("transform_graph", "transform", "transform_graph"),
        ),
        outputs={"pushed": "PushedModel"},
        config=("push", "output.push", "name", "identity", "data.csv"),
        after=("verdict",),
        cached=False,
    ),
)
"""Nodes in an order in which each stands after all that it needs."""


def node(node_id: str) -> Node:
    """Return the node called `node_id`.

    Raises:
        KeyError: If there is none.
    """
    for candidate in GRAPH:
        if candidate.id == node_id:
            return candidate
    raise KeyError(f"node must be one of {', '.join(n.id for n in GRAPH)}. Received: {node_id}")
