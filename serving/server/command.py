"""The command `headrace serve`, up to where TensorFlow is needed: mistakes are told in a moment."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.data.errors import ConfigError

from . import UPSTREAM
from .addresses import check_free, read_addresses
from .config_file import read_config
from .flags import FlagValues, parse_flags
from .folders import check_model
from .quiet import import_quietly
from .rehearsal import fork_helper

__all__ = ["run_command", "versions"]

Say = Callable[[str], None]

_FILES = ("model_config_file", "ssl_config_file", "monitoring_config_file")
_FOLDERS = ("model_base_path",)


def run_command(arguments: Sequence[str], say: Say, show: Say) -> int:
    """Serve what a command line names, until SIGTERM or SIGINT.

    Args:
        arguments: Flags, and at most one model folder or config file.
        say: Told what happens, for people.
        show: Told what was asked for, as `--version` does.

    Returns:
        Exit code.

    Raises:
        ConfigError: If the command line is not valid.
        EnvironmentProblem: If a port is taken or no model can be served.
    """
    flags = parse_flags(arguments)
    if flags["version"]:
        show(versions())
        return 0
    named = _check_paths(flags)
    check_free(read_addresses(flags))
    _log_to_stderr()
    say(f"loading {named}")
    import_quietly(fork_helper if flags["rehearse_loads"] else None)
    from .serve import serve

    code = serve(arguments, say)
    say("stopped")
    return code


def versions() -> str:
    """Return the versions of this server and of TensorFlow."""
    from importlib.metadata import version

    return (
        f"headrace ModelServer: {version('headrace')}, as TensorFlow Serving {UPSTREAM}\n"
        f"TensorFlow Library: {version('tensorflow')}"
    )


def _check_paths(flags: FlagValues) -> str:
    """Return what is to be served, if every path is there."""
    for name in (*_FILES, *_FOLDERS):
        path = flags[name]
        if path and not Path(path).exists():
            kind = "folder" if name in _FOLDERS else "file"
            raise ConfigError(f"`--{name}` must be a {kind}. Received: {path}, which is not there")
    given = [path for path in (flags["model_config_file"], flags["model_base_path"], *flags.rest) if path]
    if not given:
        raise ConfigError(
            "a model folder or a config file must be named. Received: none", "headrace serve MODEL_DIR"
        )
    for path in given:
        check_model(Path(path))
    for path in given:
        if Path(path).is_file():
            read_config(path)
    return given[0]


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("headrace")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
