"""Latency of every variant against float32, in turns, so that what else the machine does hits all alike.

    python -m benchmarks.variants MODEL_DIR VARIANTS_DIR [--seconds 10]

MODEL_DIR is a `model` artifact of the trainer, VARIANTS_DIR the `variants` artifact built from it.
SavedModels answer `serving_raw` in a session with one thread, as the C++ server runs them; TF Lite answers
transformed rows with one thread. Each figure is a median; a ratio below 1 is faster than float32 of the same
runtime.
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
    print(f"{'variant':22} {'rows':>5} {'median us':>10} {'ratio':>7}")
    for prepare in (session_calls, lite_calls):
        for rows in BATCHES:
            report(
                rows, measure_in_turns(prepare(arguments.model, arguments.variants, rows), arguments.seconds)
            )


def measure_in_turns(calls: Mapping[str, Call], seconds: float, block: int = 20) -> dict[str, float]:
    """Return the median microseconds of each call; blocks of them take turns, to and fro."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(50):
            call()
    deadline, order = time.perf_counter() + seconds, list(calls)
    while time.perf_counter() < deadline:
        order.reverse()
        for name in order:
            for _ in range(block):
                start = time.perf_counter()
                calls[name]()
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) * 1e6 for name, found in times.items()}


def session_calls(model: Path, variants: Path, rows: int) -> dict[str, Call]:
    """Return variant -> a call of `serving_raw` for the SavedModels."""
    paths = {"float32": model / "Format-Serving", "int8_weights": variants / "int8_weights"}
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


def report(rows: int, medians: Mapping[str, float]) -> None:
    control = next(iter(medians.values()), 0.0)
    for name, median in medians.items():
        print(f"{name:22} {rows:5} {median:10.1f} {median / control:7.3f}")


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
