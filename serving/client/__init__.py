"""Clients of served models, for every door: REST, gRPC, a TF Lite bundle, a SavedModel in this process.

One interface: `predict` takes rows, columns, a pandas or Arrow table, texts or pictures, and returns
`Predictions`. No client imports TensorFlow but `SavedModelClient`, and each brings only its own transport.

Example:
    with connect("http://localhost:8501/v1/models/flights") as client:
        client.predict([{"carrier": "UA", "distance": 1400.0}])[0].label
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connecting import Client, connect
    from .failures import RequestFailed
    from .grpc_clients import AsyncGrpcClient, GrpcClient
    from .lite_client import LiteClient
    from .predictions import Prediction, Predictions
    from .rest_clients import AsyncRestClient, RestClient
    from .retry import Retry
    from .saved_model_client import SavedModelClient
    from .security import ClientTls

__all__ = [
    "AsyncGrpcClient",
    "AsyncRestClient",
    "Client",
    "ClientTls",
    "GrpcClient",
    "LiteClient",
    "Prediction",
    "Predictions",
    "RequestFailed",
    "RestClient",
    "Retry",
    "SavedModelClient",
    "connect",
]

_HOMES = {
    "AsyncGrpcClient": "grpc_clients",
    "AsyncRestClient": "rest_clients",
    "Client": "connecting",
    "ClientTls": "security",
    "GrpcClient": "grpc_clients",
    "LiteClient": "lite_client",
    "Prediction": "predictions",
    "Predictions": "predictions",
    "RequestFailed": "failures",
    "RestClient": "rest_clients",
    "Retry": "retry",
    "SavedModelClient": "saved_model_client",
    "connect": "connecting",
}


def __getattr__(name: str) -> Any:
    """Import a client when it is first asked for, so that none brings another's packages."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
