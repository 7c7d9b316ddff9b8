"""What doors tell of every request: metrics, the access log and the request log listen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .errors import Code
from .model_spec import ModelSpec

__all__ = ["Event", "Listener"]


@dataclass(frozen=True, slots=True)
class Event:
    """One request that was answered.

    Attributes:
        entrypoint: Door it came through.
        api: "Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata", "GetModelStatus" or
            "HandleReloadConfigRequest".
        spec: What it asked for, with the version that answered where one did.
        code: Canonical code of the answer.
        message: Text of the error, or empty.
        seconds: From the arrival to the answer.
        peer: Address of the client.
        request_id: The client's id for it, or empty.
        request_bytes: Size of the request.
        response_bytes: Size of the answer, 0 for an error.
        request: The request message, for the request log; None where it could not be read.
        response: The answer's message; None for an error.
    """

    entrypoint: Literal["GRPC", "REST"]
    api: str
    spec: ModelSpec
    code: Code
    message: str
    seconds: float
    peer: str = ""
    request_id: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    request: Any = None
    response: Any = None


Listener = Callable[[Event], None]
