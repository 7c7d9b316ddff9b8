"""The config file of several models, in TensorFlow Serving's own format."""

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from headrace.data.errors import ConfigError

__all__ = ["read_config"]


def read_config(path: str) -> Any:
    """Return the ModelServerConfig in the text file `path`.

    Raises:
        ConfigError: If there is none.
    """
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    rule = "a model config file must be a ModelServerConfig."
    try:
        text_format.Parse(Path(path).read_text(encoding="utf-8"), config)
    except text_format.ParseError as error:
        raise ConfigError(
            f"{rule} Received: Error parsing text-format tensorflow.serving.ModelServerConfig: {error} "
            f"({path})",
            "to serve what a run pushed: headrace serve push" if path.endswith((".yaml", ".yml")) else "",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{rule} Received: {error} ({path})") from error
    return config
