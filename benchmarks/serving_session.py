"""What `benchmarks/serving.py` needs TensorFlow for: a process that reads a plan and writes an answer."""

import base64
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from headrace.serving.server.servable import Method, load
from headrace.serving.server.tensors import fill

_SIGNATURE = "serving_raw"


def tensors(method: Method, batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows of JSON as the tensors of a signature."""
    import numpy as np

    found = {}
    for name, argument in method.inputs.items():
        values = [row[name] for row in batch]
        if argument.dtype.hasobject:
            values = [value.encode() for value in values]
        found[name] = np.array(values, argument.dtype)
    return found


def wires(plan: Mapping[str, Any]) -> list[str]:
    """Return a PredictRequest for each batch."""
    from tensorflow_serving.apis import predict_pb2

    method = load(plan["model"], 1, plan["version"]).methods[_SIGNATURE]
    made = []
    for batch in plan["batches"]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = plan["model"]
        request.model_spec.signature_name = _SIGNATURE
        for name, array in tensors(method, batch).items():
            fill(request.inputs[name], array, as_content=not array.dtype.hasobject)
        made.append(base64.b64encode(request.SerializeToString()).decode("ascii"))
    return made


def limit(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Run one batch again and again in one thread."""
    servable = load("model", 1, plan["version"])
    method = servable.methods[_SIGNATURE]
    inputs = list(tensors(method, plan["batch"]).values())
    outputs = tuple(method.outputs)
    for _ in range(50):
        servable.run(method, inputs, outputs)
    latencies = []
    start, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < plan["seconds"]:
        begin = time.perf_counter()
        servable.run(method, inputs, outputs)
        latencies.append(time.perf_counter() - begin)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {"latencies": latencies, "wall_s": wall_s, "cpu_s": cpu_s, "errors": 0}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answer = {"wires": wires, "limit": limit}[asked["role"]](asked)
    with open(sys.stdout.fileno(), "w", closefd=False) as out:  # buffered even where Python is told not to
        json.dump(answer, out)
