"""Functions and classes of the user's own, which the config names by import path."""

import importlib
from typing import Any

from headrace.data.errors import ConfigError

__all__ = ["load_object"]


def load_object(path: str, place: str, what: str = "function") -> Any:
    """Import "module:name", something that can be called.

    Args:
        path: The import path.
        place: Config field to name in an error.
        what: What it must be, for an error.

    Raises:
        ConfigError: If there is no such thing.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f'`{place}` must be "module:{what}". Received: {path!r} ({place})')
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"`{place}` must name an importable {what}. Received: {path!r}: {error} ({place})",
            "put the module beside the config, install its package, or put its folder on PYTHONPATH",
        ) from error
    except Exception as error:  # whatever a module of the user's raises when it is imported
        raise ConfigError(
            f"`{place}` must name an importable {what}. "
            f"Received: {path!r}: {type(error).__name__}: {error} ({place})"
        ) from error
    if not callable(found):
        raise ConfigError(f"`{place}` must be a {what}. Received: {found!r} ({place}: {path})")
    return found
