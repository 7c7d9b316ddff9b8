"""Latency of every variant against float32, in turns, so that what else the machine does hits all alike.

    python -m benchmarks.variants MODEL_DIR VARIANTS_DIR [--seconds 10]

MODEL_DIR is a `model` artifact of the trainer, VARIANTS_DIR the `variants` artifact built from it.
SavedModels answer `serving_raw` in a session with one thread, as the C++ server runs them; TF Lite answers
transformed rows with one thread. Each figure is a median; a ratio below 1 is faster than float32 of the same
runtime. The control is float32 loaded a second time: how far it is from 1 is what the ratios cannot tell.
On a busy machine go by the ratio of CPU time.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.serving.lite import LiteRunner
from headrace.serving.session import SessionModel

BATCHES = (1, 128)

Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("variants", type=Path, metavar="VARIANTS_DIR")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each batch size and runtime")
    arguments = parser.parse_args()
    print(f"{'variant':22} {'rows':>5} {'median us':>10} {'ratio':>7} {'CPU ratio':>10}")
    for prepare in (session_calls, lite_calls):
        for rows in BATCHES:
            report(
                rows, measure_in_turns(prepare(arguments.model, arguments.variants, rows), arguments.seconds)
            )


def measure_in_turns(calls: Mapping[str, Call], seconds: float) -> dict[str, tuple[float, float]]:
    """Return the median microseconds of each call, on the clock and of CPU time; each goes first at times."""
    times: dict[str, list[tuple[int, int]]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(50):
            call()
    deadline, order = time.perf_counter() + seconds, list(calls)
    while time.perf_counter() < deadline:
        order.append(order.pop(0))
        for name in order:
            start, used = time.perf_counter_ns(), time.process_time_ns()
            calls[name]()
            times[name].append((time.perf_counter_ns() - start, time.process_time_ns() - used))
    medians = {name: np.median(found, axis=0) / 1e3 for name, found in times.items()}
    return {name: (float(clock), float(cpu)) for name, (clock, cpu) in medians.items()}


def session_calls(model: Path, variants: Path, rows: int) -> dict[str, Call]:
    """Return variant -> a call of `serving_raw` for the SavedModels."""
    paths = {
        "float32": model / "Format-Serving",
        "float32 (control)": model / "Format-Serving",
        "int8_weights": variants / "int8_weights",
    }
    models = {name: SessionModel.load(str(path)) for name, path in paths.items() if path.is_dir()}
    random = np.random.default_rng(0)
    columns = models["float32"].signatures["serving_raw"].inputs
    inputs = {name: _raw(info.dtype, rows, random) for name, info in columns.items()}
    return {name: _bind(lambda loaded: loaded.run("serving_raw", inputs), m) for name, m in models.items()}


def lite_calls(model: Path, variants: Path, rows: int) -> dict[str, Call]:
    """Return variant -> a call over transformed rows for the TF Lite variants, float32 first."""
    features = json.loads((model / "keras" / "model.json").read_text(encoding="utf-8"))["features"][
        "features"
    ]
    random = np.random.default_rng(0)
    inputs = {spec["name"]: _transformed(spec, rows, random) for spec in features}
    calls: dict[str, Call] = {}
    for name in ("tflite_float32", "tflite_float16", "tflite_dynamic_int8", "tflite_int8"):
        file = variants / name / "model.tflite"
        if file.is_file():
            calls[name] = _bind(lambda runner: runner.run(inputs), LiteRunner(file.read_bytes()))
    return calls


def report(rows: int, medians: Mapping[str, tuple[float, float]]) -> None:
    control = next(iter(medians.values()), (0.0, 0.0))
    for name, (clock, cpu) in medians.items():
        ratios = f"{clock / control[0]:7.3f} {cpu / control[1]:10.3f}"
        print(f"{name:22} {rows:5} {clock:10.1f} {ratios}")


def _bind(function: Callable[[Any], object], value: Any) -> Call:
    return lambda: function(value)


def _raw(dtype: str, rows: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    if dtype == "string":
        return np.array([f"value {number}".encode() for number in random.integers(0, 50, rows)], object)
    return random.gamma(2, 100, rows).astype(np.float32)


def _transformed(spec: Mapping[str, Any], rows: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    if spec["role"] == "dense":
        return random.normal(size=(rows, spec["width"])).astype(np.float32)
    return random.integers(0, spec["cardinality"], (rows, spec["width"]))


if __name__ == "__main__":
    main()
