"""The client that fits a URL or a folder."""

from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError

from .address import is_url, parse_url

__all__ = ["connect", "is_saved_model"]


def connect(target: str | Path, **settings: Any) -> Any:
    """Return the client of a model.

    Args:
        target: `http(s)://HOST:8501/v1/models/MODEL` (RestClient), `grpc(s)://HOST:8500/MODEL` (GrpcClient),
            a lite bundle (LiteClient), or a SavedModel's version folder (SavedModelClient); of a folder of
            versions the highest one.
        settings: Arguments of that client.

    Raises:
        ConfigError: If it is none of these.
    """
    if is_url(str(target)):
        if parse_url(str(target)).scheme.startswith("grpc"):
            from .grpc_clients import GrpcClient

            return GrpcClient(str(target), **settings)
        from .rest_clients import RestClient

        return RestClient(str(target), **settings)
    if is_saved_model(target):
        from .saved_model_client import SavedModelClient

        return SavedModelClient(target, **settings)
    if _holds(target, "model.tflite"):
        from .lite_client import LiteClient

        return LiteClient(target, **settings)
    raise ConfigError(
        "a bundle must be a folder with model.tflite or saved_model.pb, or hold versions of one, or a URL. "
        f"Received: {target}",
        "http://HOST:8501/v1/models/MODEL or grpc://HOST:8500/MODEL",
    )


def is_saved_model(target: str | Path) -> bool:
    """Tell whether a folder is a SavedModel, or holds versions of one: TensorFlow answers for it."""
    return _holds(target, "saved_model.pb")


def _holds(target: str | Path, file: str) -> bool:
    return any(any(Path(target).glob(pattern)) for pattern in (file, f"[0-9]*/{file}"))
