"""The stock TFX DAG for the columns, crosses, model, metrics and slices of a headrace config (binary tasks).

    python benchmarks/stock.py CONFIG WORK

CsvExampleGen, StatisticsGen, SchemaGen, ExampleValidator, Transform, Trainer, Resolver, Evaluator and
Pusher, one after another in this process by LocalDagRunner, as TFX's own templates wire them, with a
module file. One JSON object goes to stdout: CPU seconds (user and system, children included) of the
import and of each component, and the test metrics. The one departure is in stock's favour: Beam's in-
process runner is named, so that none of the four Beam components looks for another one on the network
first.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
METRICS = ("ExampleCount", "AUC", "AUCPrecisionRecall", "BinaryCrossEntropy", "Calibration", "MeanLabel",
           "MeanPrediction")  # fmt: skip


def cpu_s() -> float:
    """Return user and system seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def read_config(path: str) -> dict[str, Any]:
    """Return what the module file needs, with headrace's own defaults filled in."""
    from headrace.pipeline.config import load_config

    config = load_config(path)
    whole = config.model_dump(mode="json")
    if config.data.task != "binary":
        raise SystemExit(f"the stock DAG is written for binary tasks. Received: {config.data.task}")
    return {
        **{name: whole[name] for name in ("features", "model", "training", "evaluation", "seed")},
        "label": config.data.label,
        "positive": config.data.classes[-1] if config.data.classes else "1",
        "path": config.data.path,
    }


def eval_config(config: dict[str, Any]) -> Any:
    """Ask TFMA for the metrics and slices that headrace reports."""
    from google.protobuf import json_format
    from tensorflow_model_analysis.proto import config_pb2

    threshold = config["evaluation"]["threshold"]
    threshold = 0.5 if isinstance(threshold, str) else threshold
    at = f'"thresholds": [{threshold}]'
    # On all rows only: a `threshold` without slices would hold for the smallest slice too.
    bound = {"slicingSpecs": [{}], "threshold": {"valueThreshold": {"lowerBound": 0.5}}}
    metrics = [
        *(
            {"className": name, **({"perSliceThresholds": [bound]} if name == "AUC" else {})}
            for name in METRICS
        ),
        *(
            {"className": name, "config": at}
            for name in ("Precision", "Recall", "ConfusionMatrixAtThresholds")
        ),
        {"className": "BinaryAccuracy", "config": f'"threshold": {threshold}'},
        {"className": "ConfusionMatrixPlot", "config": '"num_thresholds": 100'},
        {"className": "CalibrationPlot", "config": '"num_buckets": 10'},
    ]
    slices = [{}, *({"featureKeys": spec} for spec in config["evaluation"]["slices"])]
    return json_format.ParseDict(
        {
            "modelSpecs": [{"signatureName": "serving_default", "labelKey": config["label"]}],
            "slicingSpecs": slices,
            "metricsSpecs": [{"metrics": metrics}],
        },
        config_pb2.EvalConfig(),
    )


def build_pipeline(config: dict[str, Any], work: Path) -> Any:
    """Wire the DAG as TFX's templates do."""
    from tfx import v1 as tfx

    module = str(work / "stock_module.py")
    shutil.copy(Path(__file__).with_name("stock_module.py"), module)
    data = work / "data"
    data.mkdir()
    os.link(config["path"], data / "data.csv")
    parts = [("train", 8), ("eval", 1), ("test", 1)]
    splits = [tfx.proto.SplitConfig.Split(name=name, hash_buckets=buckets) for name, buckets in parts]
    output = tfx.proto.Output(split_config=tfx.proto.SplitConfig(splits=splits))
    example_gen = tfx.components.CsvExampleGen(input_base=str(data), output_config=output)
    examples = example_gen.outputs["examples"]
    statistics = tfx.components.StatisticsGen(examples=examples)
    schema_gen = tfx.components.SchemaGen(
        statistics=statistics.outputs["statistics"], infer_feature_shape=True
    )
    schema = schema_gen.outputs["schema"]
    validator = tfx.components.ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema)
    transform = tfx.components.Transform(
        examples=examples, schema=schema, module_file=module, custom_config=config
    )
    trainer = tfx.components.Trainer(
        module_file=module,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config=config,
    )
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    evaluator = tfx.components.Evaluator(
        examples=examples, model=trainer.outputs["model"], baseline_model=resolver.outputs["model"],
        eval_config=eval_config(config), example_splits=["test"],
    )  # fmt: skip
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(work / "push"))
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name="stock",
        pipeline_root=str(work / "root"),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(work / "metadata.db")
        ),
        components=[
            example_gen,
            statistics,
            schema_gen,
            validator,
            transform,
            trainer,
            resolver,
            evaluator,
            pusher,
        ],
        beam_pipeline_args=[RUNNER],
    )


@contextlib.contextmanager
def component_times() -> Iterator[dict[str, float]]:
    """Collect CPU seconds of each component as its launcher returns."""
    from tfx.orchestration.portable import launcher

    found: dict[str, float] = {}
    original = launcher.Launcher.launch

    def launch(self: Any) -> Any:
        before = cpu_s()
        try:
            return original(self)
        finally:
            found[self._pipeline_node.node_info.id] = round(cpu_s() - before, 2)

    launcher.Launcher.launch = launch
    try:
        yield found
    finally:
        launcher.Launcher.launch = original


def test_metrics(root: Path) -> dict[str, float]:
    """Return the scalar metrics of all test rows."""
    import tensorflow_model_analysis as tfma

    (folder,) = (root / "Evaluator/evaluation").iterdir()
    whole = dict(tfma.load_eval_result(str(folder)).slicing_metrics)[()][""][""]
    return {name: value["doubleValue"] for name, value in whole.items() if "doubleValue" in value}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a headrace config of a binary task on a CSV file")
    parser.add_argument("work", help="an empty or missing folder")
    options = parser.parse_args()
    work = Path(options.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    config = read_config(options.config)
    stdout = os.dup(1)
    os.dup2(2, 1)  # what the components print goes to stderr
    start, before = time.monotonic(), cpu_s()
    import tfx.v1  # noqa: F401

    imports = round(cpu_s() - before, 2)
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    pipeline = build_pipeline(config, work)
    with component_times() as components:
        LocalDagRunner().run(pipeline)
    report = {
        "cpu_s": round(cpu_s(), 2),
        "wall_s": round(time.monotonic() - start, 2),
        "import_cpu_s": imports,
        "component_cpu_s": components,
        "pushed": (work / "push").is_dir(),
    }
    report["metrics"] = test_metrics(work / "root")  # after the clock was read
    os.write(stdout, json.dumps(report, indent=1).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
