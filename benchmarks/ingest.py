"""What ingest costs: CPU seconds and peak memory, beside TFX's own CsvExampleGen when asked.

    python benchmarks/ingest.py --data DIR                   ours, on flights
    python benchmarks/ingest.py --data DIR --stock           and CsvExampleGen, in turn, with the ratio
    python benchmarks/ingest.py --data DIR --rows 3000000    flights repeated with jitter to that many rows

Each measurement runs in a fresh process and includes its imports unless said otherwise; DIR gets flights.csv
if it is not there. One JSON object goes to stdout.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from headrace.data.samples import fetch

CATEGORIES = ("carrier", "tailnum", "origin", "dest")
NUMBERS = ("month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time", "flight", "distance")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of flights.csv")
    parser.add_argument("--rows", type=int, default=0, help="rows; 0: flights as it is")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn; medians are given")
    parser.add_argument("--stock", action="store_true", help="also run CsvExampleGen")
    parser.add_argument("--measure", choices=sorted(MEASURED), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.data)))
        return
    path = fetch("flights", options.data)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temp:
        if options.rows:
            path = repeat_with_jitter(path, os.path.join(temp, "flights.csv"), options.rows)
        names = ["headrace", "stock"] if options.stock else ["headrace"]
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(options.repeats):
            for name in names:
                runs[name].append(in_fresh_process(name, os.path.dirname(path)))
    report = {
        name: {key: statistics.median(run[key] for run in of) for key in of[0]} for name, of in runs.items()
    }
    if options.stock:
        report["ratio"] = {
            key: report["stock"][key] / report["headrace"][key]
            for key in ("cpu_s", "cpu_without_imports_s", "wall_s")
        }
    print(json.dumps({"rows": options.rows or "as fetched", "repeats": options.repeats, **report}, indent=1))


def repeat_with_jitter(path: str, target: str, rows: int) -> str:
    """Write `rows` rows: the file again and again, its distances and times moved by up to 9 units."""
    rng = np.random.default_rng(0)
    with open(path, encoding="utf-8") as stream:
        header, *lines = stream.read().splitlines()
    split = [line.rsplit(",", 2) for line in lines]
    with open(target, "w", encoding="utf-8") as stream:
        stream.write(header + "\n")
        for start in range(0, rows, len(split)):
            part = split[: rows - start]
            moved = rng.integers(-9, 10, len(part)).tolist()
            stream.writelines(
                f"{head},{int(distance) + move},{late}\n"
                for (head, distance, late), move in zip(part, moved, strict=True)
            )
    return target


def in_fresh_process(name: str, folder: str) -> dict[str, float]:
    command = [sys.executable, os.path.abspath(__file__), "--data", folder, "--measure", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, folder: str) -> dict[str, float]:
    """Run one side here and return its cost; child processes count."""
    wall = time.perf_counter()
    prepare = MEASURED[name]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temp:
        work = prepare(folder, temp)
        imports = cpu_seconds()
        work()
        total = cpu_seconds()
    return {
        "cpu_s": round(total, 3),
        "cpu_without_imports_s": round(total - imports, 3),
        "wall_s": round(time.perf_counter() - wall, 3),
        "peak_rss_mb": peak_rss_mb(),
    }


def peak_rss_mb() -> int:
    """Return this process's peak. `ru_maxrss` would also count what the parent held when it started us."""
    with open("/proc/self/status", encoding="ascii") as stream:
        (line,) = (line for line in stream if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def cpu_seconds() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in use)


def headrace_side(folder: str, temp: str):
    from headrace.components.ingest.run import run
    from headrace.components.node import NodeContext

    outputs = {"examples": os.path.join(temp, "examples")}
    os.makedirs(outputs["examples"])
    os.environ["HEADRACE_EVENTS"] = os.path.join(temp, "events")
    config = {
        "data": {"path": os.path.join(folder, "flights.csv"), "label": "late"},
        "usages": [(name, "category") for name in CATEGORIES] + [(name, "number") for name in NUMBERS],
        "evaluation.slices": [],
        "seed": 1,
    }
    return lambda: run(NodeContext("ingest", "bench", {}, outputs, config, temp))


def stock_side(folder: str, temp: str):
    from tfx.components.example_gen.csv_example_gen.executor import Executor
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.proto import example_gen_pb2
    from tfx.types import standard_artifacts, standard_component_specs
    from tfx.utils import proto_utils

    examples = standard_artifacts.Examples()
    examples.uri = os.path.join(temp, "examples")
    examples.split_names = '["train", "eval", "test"]'
    splits = [
        example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=buckets)
        for name, buckets in (("train", 8), ("eval", 1), ("test", 1))
    ]
    properties = {
        standard_component_specs.INPUT_BASE_KEY: folder,
        standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(
            example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name="all", pattern="flights.csv")])
        ),
        standard_component_specs.OUTPUT_CONFIG_KEY: proto_utils.proto_to_json(
            example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
        ),
        standard_component_specs.OUTPUT_DATA_FORMAT_KEY: example_gen_pb2.FORMAT_TF_EXAMPLE,
        standard_component_specs.OUTPUT_FILE_FORMAT_KEY: example_gen_pb2.FILE_FORMAT_UNSPECIFIED,
    }
    runner = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    executor = Executor(
        BaseBeamExecutor.Context(beam_pipeline_args=[runner], tmp_dir=temp, unique_id="bench")
    )
    return lambda: executor.Do({}, {standard_component_specs.EXAMPLES_KEY: [examples]}, properties)


MEASURED = {"headrace": headrace_side, "stock": stock_side}

if __name__ == "__main__":
    main()
