"""One variant in a process of its own: load, answer, time.

Run as `python -m headrace.components.infra.probe REQUEST RESPONSE`, two JSON files. What is imported here is
paid for by every probe, and counts in its memory: TensorFlow only for SavedModels.
"""

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace.components.parity.tolerance import max_relative_difference
from headrace.serving.raw import raw_columns

from .latency import measure

__all__ = ["probe_lite", "probe_session"]

Array = np.ndarray[Any, Any]
_ANSWERS = ("scores", "outputs")
_BATCHES = {"b1": 1, "b100": 100}


def probe_session(request: Mapping[str, Any]) -> dict[str, Any]:
    """Probe a SavedModel as the C++ server runs it.

    Args:
        request: `path`; `rows` and `types` of the golden requests; `examples`, the same rows as base64 of
            serialized tf.Examples; `expected` {signature: answers}; `budget_s` for timing.

    Returns:
        `load_s`, `max_golden_diff`, `latency_us`.
    """
    from headrace.serving.session import SessionModel

    start = time.perf_counter()
    with SessionModel.load(request["path"], intra_op_threads=1, inter_op_threads=1) as model:
        load_s = time.perf_counter() - start
        columns = raw_columns(request["rows"], request["types"])
        examples = np.array([base64.b64decode(text) for text in request["examples"]], object)
        inputs: dict[str, dict[str, Array]] = {
            "serving_raw": columns,
            "serving_default": {"examples": examples},
        }
        difference = max(
            max_relative_difference(_array(request["expected"][name]), _answer(model.run(name, values)))
            for name, values in inputs.items()
        )

        def call(rows: int) -> Callable[[], object]:
            places = np.arange(rows) % len(request["rows"])
            batch = {name: values[places] for name, values in columns.items()}
            return lambda: model.run("serving_raw", batch)

        latency = {name: measure(call(rows), request["budget_s"]) for name, rows in _BATCHES.items()}
    return {"load_s": load_s, "max_golden_diff": difference, "latency_us": latency}


def probe_lite(request: Mapping[str, Any]) -> dict[str, Any]:
    """Probe a lite bundle.

    Args:
        request: As for `probe_session`, without `examples`; `path` is a bundle's folder.

    Returns:
        As `probe_session`, and `predict_us` in the form of `latency_us`: with preprocessing in Python, while
        `latency_us` is the model alone.
    """
    from headrace.serving.lite import LiteModel

    start = time.perf_counter()
    model = LiteModel.load(request["path"])
    model.predict(request["rows"][:1])
    load_s = time.perf_counter() - start
    found = _answer(model.predict(request["rows"]))
    difference = max_relative_difference(_array(request["expected"]["serving_raw"]), found)
    latency, predict = {}, {}
    for name, rows in _BATCHES.items():
        batch = [request["rows"][index % len(request["rows"])] for index in range(rows)]
        features = model.preprocessor.transform(batch)
        latency[name] = measure(lambda f=features: model.runner.run(f), request["budget_s"] / 2)  # type: ignore[misc]
        predict[name] = measure(lambda b=batch: model.predict(b), request["budget_s"] / 2)  # type: ignore[misc]
    return {"load_s": load_s, "max_golden_diff": difference, "latency_us": latency, "predict_us": predict}


def _answer(outputs: Mapping[str, Array]) -> Array:
    (name,) = [name for name in _ANSWERS if name in outputs]
    return np.asarray(outputs[name], np.float32)


def _array(values: Any) -> Array:
    return np.asarray(values, np.float32)


def _told(error: Exception) -> str:
    """Return type and first telling line of an error; TensorFlow's begin with lines that say nothing."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [
        line for line in lines if line and not line.startswith(("Graph execution error", "Detected at"))
    ]
    return f"{type(error).__name__}: {(telling or [''])[0]}"[:1000]


def _peak_rss_bytes() -> int:
    """Return the largest resident memory of this process; `ru_maxrss` would start at that of the parent."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _main(request_path: str, response_path: str) -> int:
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    try:
        found = (probe_lite if request["runtime"] == "litert" else probe_session)(request)
    except Exception as error:  # whatever a model does wrong is the finding
        found = {"error": _told(error)}
    found["rss_bytes"] = _peak_rss_bytes()
    Path(response_path).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _end_with_parent() -> None:
    """End this process once its parent is gone, however it went: stdin is a pipe that it holds open."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(_main(*sys.argv[1:]))
