"""Objects that the config names by import path."""

import importlib
from typing import Any

from headrace.data.errors import ConfigError

__all__ = ["load_object"]


def load_object(path: str, place: str) -> Any:
    """Import "module:name", something that can be called.

    Args:
        path: The import path.
        place: Config field to name in an error.

    Raises:
        ConfigError: If there is no such thing.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"`{place}` must name something importable. Received: {path!r}: {error}",
            "install the package that holds it, or put its folder on PYTHONPATH",
        ) from error
    if not callable(found):
        raise ConfigError(f"`{place}` must name a function or class. Received: {found!r} ({path})")
    return found
