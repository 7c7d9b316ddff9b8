"""One SavedModel behind another model server, for `benchmarks/serving.py`; run by the peer's own Python.

All peers call the same session (`headrace.serving.session`, the fastest way to run it), so that what differs
is the server: HTTP, JSON, validation, queues. Each is set up as its documentation says, with one worker for
the model; batching on means up to 64 rows within 5 ms.

    venv/bin/python benchmarks/serving_peers.py litserve MODEL_VERSION_DIR PORT [--batching]
"""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_ROWS = 64
MOST_WAIT_S = 0.005
_MODEL = "HEADRACE_PEER_MODEL"
_BATCHING = "HEADRACE_PEER_BATCHING"
_SIGNATURE = "serving_raw"


class Model:
    """The SavedModel, from rows of JSON to rows of answers."""

    def __init__(self, path: str) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from headrace.serving.session import SessionModel

        self._session = SessionModel.load(path)
        signature = self._session.signatures[_SIGNATURE]
        self._inputs = {name: signature.inputs[name].dtype for name in sorted(signature.inputs)}
        self._outputs = tuple(sorted(signature.outputs))

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer rows: one object for each."""
        columns = [_column([row[name] for row in rows], dtype) for name, dtype in self._inputs.items()]
        answers = [_plain(array) for array in self._session.call(_SIGNATURE, columns, self._outputs)]
        return [dict(zip(self._outputs, row, strict=True)) for row in zip(*answers, strict=True)]

    def columns(self, columns: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Answer columns: one array for each output."""
        inputs = [np.asarray(columns[name], _dtype(dtype)) for name, dtype in self._inputs.items()]
        return dict(zip(self._outputs, self._session.call(_SIGNATURE, inputs, self._outputs), strict=True))


def _dtype(name: str) -> Any:
    return object if name == "string" else name


def _column(values: list[Any], dtype: str) -> np.ndarray[Any, Any]:
    return (
        np.array([value.encode() for value in values], object)
        if dtype == "string"
        else np.array(values, dtype)
    )


def _plain(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.dtype == object:
        return [[text.decode() for text in row] for row in array.tolist()]
    return list(array.tolist())


def litserve(path: str, port: int, batching: bool) -> None:
    import litserve as ls

    os.environ |= {_MODEL: path, _BATCHING: str(int(batching))}
    options = {"max_batch_size": MOST_ROWS, "batch_timeout": MOST_WAIT_S} if batching else {}
    api = importlib.import_module(Path(__file__).stem).LitApi(**options)  # its worker imports it by name
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


def bentoml(path: str, port: int, batching: bool) -> None:
    environment = os.environ | {_MODEL: path, _BATCHING: str(int(batching))}
    service = f"{Path(__file__).stem}:BentoService"
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]
    os.chdir(Path(__file__).parent)
    os.execve(sys.executable, command, environment)


def mlserver(path: str, port: int, batching: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="headrace-mlserver-"))
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    settings |= {"parallel_workers": 0, "debug": False, "kafka_enabled": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "model",
        "implementation": f"{Path(__file__).stem}.MlserverRuntime",
        "parameters": {"uri": path},
    }
    if batching:
        model |= {"max_batch_size": MOST_ROWS, "max_batch_time": MOST_WAIT_S}
    (folder / "model-settings.json").write_text(json.dumps(model))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execve(sys.executable, [sys.executable, program, "start", str(folder)], environment)


def _define_lit() -> Any:
    import litserve as ls

    class LitApi(ls.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            self.model = Model(os.environ[_MODEL])
            self.batching = os.environ[_BATCHING] == "1"

        def decode_request(self, request):  # type: ignore[no-untyped-def]  # annotated, it would be a query
            return request["instances"][0]

        def batch(self, inputs: Any) -> Any:
            return inputs

        def predict(self, x: Any) -> Any:
            return self.model.rows(x) if self.batching else self.model.rows([x])[0]

        def unbatch(self, output: Any) -> Any:
            return output

        def encode_response(self, output: Any) -> Any:
            return {"predictions": [output]}

    return LitApi


def _define_bento() -> Any:
    import bentoml as bento

    batching = os.environ[_BATCHING] == "1"
    options = {"batchable": True, "max_batch_size": MOST_ROWS, "max_latency_ms": 1000} if batching else {}

    @bento.service(workers=1, logging={"access": {"enabled": False}}, traffic={"max_concurrency": 10_000})  # type: ignore[untyped-decorator]
    class BentoService:
        def __init__(self) -> None:
            self.model = Model(os.environ[_MODEL])

        @bento.api(**options)  # type: ignore[untyped-decorator]
        def predict(self, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return self.model.rows(instances)

    return BentoService


def _define_mlserver() -> Any:
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

    class MlserverRuntime(MLModel):  # type: ignore[misc]
        async def load(self) -> bool:
            self.model = Model(self.settings.parameters.uri)
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            columns = {}
            for item in payload.inputs:
                if item.datatype == "BYTES":
                    values = [text.encode() if isinstance(text, str) else text for text in item.data.root]
                    columns[item.name] = np.array(values, object)
                else:
                    columns[item.name] = NumpyCodec.decode_input(item)
                    if item.shape[1:] == [1]:
                        columns[item.name] = columns[item.name].reshape(-1)
            found = self.model.columns(columns)
            outputs = [_output(name, array, ResponseOutput, NumpyCodec) for name, array in found.items()]
            return InferenceResponse(model_name=self.name, outputs=outputs)

    return MlserverRuntime


def _output(name: str, array: np.ndarray[Any, Any], kind: Any, codec: Any) -> Any:
    if array.dtype == object:
        data = [text.decode() for text in array.ravel().tolist()]
        return kind(name=name, shape=list(array.shape), datatype="BYTES", data=data)
    return codec.encode_output(name, array)


_DEFINED = {"LitApi": _define_lit, "BentoService": _define_bento, "MlserverRuntime": _define_mlserver}


def __getattr__(name: str) -> Any:
    """Make the class that a framework imports by name, only where that framework is installed."""
    if name not in _DEFINED:
        raise AttributeError(name)
    made = _DEFINED[name]()
    if isinstance(made, type):
        made.__qualname__ = name
    globals()[name] = made
    return made


def main() -> None:
    framework, path, port, *rest = sys.argv[1:]
    {"litserve": litserve, "bentoml": bentoml, "mlserver": mlserver}[framework](path, int(port), bool(rest))


if __name__ == "__main__":
    main()
