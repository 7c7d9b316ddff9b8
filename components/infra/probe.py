"""One variant in a process of its own: load, answer, time; a SavedModel also behind the doors of a server.

Run as `python -m headrace.components.infra.probe REQUEST RESPONSE`, two JSON files. What is imported here is
paid for by every probe, and counts in its memory: TensorFlow and the server only for SavedModels.
"""

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.components.parity.tolerance import max_relative_difference
from headrace.serving.raw import raw_columns

from .child import READY, write_whole
from .latency import BATCHES, measure

__all__ = ["ANSWERS", "probe_lite", "probe_session", "request_tensors"]

ANSWERS = "answers.json"
"""File with what a SavedModel answers in process: `{signature: {rows, inputs, outputs: {alias: lists}}}`."""

Array = np.ndarray[Any, Any]
Json = dict[str, Any]
_SCORES = ("scores", "outputs")
_SCORED = ("serving_raw", "serving_default")
_MOST_VALUES = 200_000

_told_to_go_on = threading.Event()


def probe_session(request: Mapping[str, Any], folder: Path | None = None) -> Json:
    """Probe a SavedModel as the C++ server runs it, by the embedded server's own core.

    Args:
        request: `path`; `name` to serve it by; `rows` and `types` of the golden requests; `examples`, the
            same rows as base64 of serialized tf.Examples; `expected` {signature: answers}; `budget_s` for
            timing; `doors`, whether to open REST and gRPC for a visitor.
        folder: Where `ANSWERS` and `READY` go; None for neither.

    Returns:
        `load_s`, `max_golden_diff`, `latency_us`.
    """
    from .embedded import Embedded

    start = time.perf_counter()
    with Embedded(request["path"], request.get("name", "model"), bool(request.get("doors"))) as server:
        load_s = time.perf_counter() - start
        servable = server.servable
        columns = raw_columns(request["rows"], request["types"])
        examples = [base64.b64decode(text) for text in request["examples"]]
        answers: dict[str, dict[str, Array]] = {}
        sent: dict[str, dict[str, Array]] = {}
        for name, method in servable.methods.items():
            tensors = request_tensors(name, method.inputs, columns, examples)
            if tensors is not None:
                sent[name] = tensors
                found = servable.run(method, [tensors[a] for a in method.inputs], tuple(method.outputs))
                answers[name] = dict(zip(method.outputs, found, strict=True))
        difference = max(
            max_relative_difference(_array(request["expected"][name]), _answer(answers[name]))
            for name in _SCORED
        )

        def call(rows: int) -> Callable[[], object]:
            method = servable.methods["serving_raw"]
            places = np.arange(rows) % len(request["rows"])
            batch = [columns[name][places] for name in method.inputs]
            return lambda: servable.run(method, batch, tuple(method.outputs))

        latency = {name: measure(call(rows), request["budget_s"]) for name, rows in BATCHES.items()}
        if folder is not None:
            write_whole(folder / ANSWERS, {name: _told(name, sent[name], answers[name]) for name in answers})
            if request.get("doors"):
                write_whole(folder / READY, {**server.ports, "load_s": load_s})
                server.run_until(_told_to_go_on)
    return {"load_s": load_s, "max_golden_diff": difference, "latency_us": latency}


def probe_lite(request: Mapping[str, Any]) -> Json:
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
    for name, rows in BATCHES.items():
        batch = [request["rows"][index % len(request["rows"])] for index in range(rows)]
        features = model.preprocessor.transform(batch)
        latency[name] = measure(lambda f=features: model.runner.run(f), request["budget_s"] / 2)  # type: ignore[misc]
        predict[name] = measure(lambda b=batch: model.predict(b), request["budget_s"] / 2)  # type: ignore[misc]
    return {"load_s": load_s, "max_golden_diff": difference, "latency_us": latency, "predict_us": predict}


def request_tensors(
    signature: str, inputs: Mapping[str, Any], columns: Mapping[str, Array], examples: Sequence[bytes]
) -> dict[str, Array] | None:
    """Return the tensors of all golden rows for a signature; None if it takes neither form of them.

    Args:
        signature: Its name.
        inputs: Its inputs by name.
        columns: Column -> `[rows]`, as `serving_raw` takes them.
        examples: The same rows as serialized tf.Examples.
    """
    if signature != "serving_raw" and set(inputs) == {"examples"}:
        return {"examples": np.array(examples, object)}
    return dict(columns) if set(inputs) == set(columns) else None


def _told(name: str, sent: Mapping[str, Array], outputs: Mapping[str, Array]) -> Json:
    """Return a signature's answers as JSON; of wide features that nobody scores, only the first rows."""
    rows = len(next(iter(sent.values())))
    if name not in _SCORED:
        values = max(1, sum(array.size for array in outputs.values()) // rows)
        rows = max(1, min(rows, _MOST_VALUES // values))
    return {
        "rows": rows,
        "inputs": sorted(sent),
        "outputs": {alias: _listed(array[:rows]) for alias, array in outputs.items()},
    }


def _listed(array: Array) -> Any:
    if array.dtype == object:
        return np.vectorize(lambda item: item.decode("utf-8", "replace"), otypes=[object])(array).tolist()
    return array.tolist()


def _answer(outputs: Mapping[str, Array]) -> Array:
    (name,) = [name for name in _SCORES if name in outputs]
    return np.asarray(outputs[name], np.float32)


def _array(values: Any) -> Array:
    return np.asarray(values, np.float32)


def _said(error: Exception) -> str:
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
        if request["runtime"] == "litert":
            found = probe_lite(request)
        else:
            found = probe_session(request, Path(response_path).parent)
    except Exception as error:  # whatever a model does wrong is the finding
        found = {"error": _said(error)}
    found["rss_bytes"] = _peak_rss_bytes()
    Path(response_path).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _follow_parent() -> None:
    """Go on when told to, and end once the parent is gone: stdin is a pipe that it holds open."""
    while os.read(0, 1):
        _told_to_go_on.set()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_follow_parent, daemon=True).start()
    sys.exit(_main(*sys.argv[1:]))
