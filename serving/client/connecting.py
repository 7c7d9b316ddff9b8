"""The client that fits a URL or a folder."""

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from headrace.data.errors import ConfigError

from ..manifest import MANIFEST, check_folder
from .address import is_url, parse_url
from .folders import version_folder
from .predictions import Predictions
from .requests import Progress

__all__ = ["Client", "connect", "is_saved_model"]


class Client(Protocol):
    """What every client offers, but for those of an event loop, which offer it as coroutines."""

    def predict(
        self,
        rows: Any,
        *,
        ignore_unknown: bool = False,
        complete: bool = False,
        progress: Progress | None = None,
    ) -> Predictions:
        """Answer rows, as `RemoteClient.predict` says."""

    def columns(self) -> dict[str, str]:
        """Return column -> kind, as the model reads it."""

    def close(self) -> None:
        """Release what it holds."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def connect(target: str | Path, **settings: Any) -> Client:
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
    if _holds(target, MANIFEST):
        check_folder(version_folder(target, MANIFEST), settings.get("check_sums", "present"))
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
