"""What an install brings only on request: the packages of each extra, and how a missing one is told."""

from importlib.util import find_spec

from .errors import EnvironmentProblem

__all__ = ["EXTRAS", "how_to_install", "missing_extra", "require"]

EXTRAS = {
    "lite": ("ai_edge_litert", "PIL"),
    "client": ("aiohttp", "grpc", "google.protobuf"),
    "serving": (
        *("tensorflow", "tensorflow_serving", "grpc_health", "grpc_reflection", "aiohttp", "grpc"),
        *("google.protobuf", "orjson", "uvloop"),
    ),
    "pipeline": (
        *("tfx", "tensorflow", "keras", "ml_metadata", "apache_beam", "tensorflow_transform"),
        *("tensorflow_data_validation", "tensorflow_model_analysis", "keras_tuner", "litert_quantizer"),
        *("tensorboard", "psutil", "google_crc32c"),
    ),
    "kubeflow": ("kfp", "kfp_server_api"),
}
"""Extra -> modules without which it is not there; the smaller extras first."""


def require(extra: str) -> None:
    """Raise EnvironmentProblem unless the packages of an extra are installed."""
    for module in EXTRAS[extra]:
        if not _is_there(module):
            raise _missing(extra, module)


def missing_extra(error: Exception) -> EnvironmentProblem | None:
    """Return how to say that a package of an extra could not be imported; None for any other error."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    for extra, modules in EXTRAS.items():
        for module in modules if name else ():
            # The folder above may be missing as well, as may a part of what is there.
            if f"{name}.".startswith(f"{module}.") or f"{module}.".startswith(f"{name}."):
                return _missing(extra, module)
    return None


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra; the name `headrace` of a public index is not ours."""
    return f'pip install ".[{extra}]"'


def _missing(extra: str, module: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"this needs headrace[{extra}]: {how_to_install(extra)}. Received: no module {module}",
        "run it in the folder of headrace's sources",
    )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
