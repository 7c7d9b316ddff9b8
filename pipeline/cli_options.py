"""What commands of several kinds share: options, and how an error is shown."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from headrace.data.errors import ConfigError, HeadraceError
from headrace.data.local_path import check_local

__all__ = ["LOCAL_PATH", "overrides", "print_error", "with_debug"]


class _LocalPath(click.Path):
    """A path of this machine: a URI would be taken for the name of a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(check_local(str(value)), param, ctx)
        except ValueError as error:
            named = param.opts[0] if param is not None and param.opts else "a path"
            raise ConfigError(f"{error} ({named})") from None


LOCAL_PATH = _LocalPath()
"""Type of every argument and option that names a file or folder."""


overrides = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a config value; may be repeated."
)
"""The option that overrides values of the config."""


def print_error(error: HeadraceError) -> None:
    """Show an error and its hint on stderr."""
    first, *rest = error.message.splitlines() or [""]
    click.echo(click.style("error: ", fg="red", bold=True) + first, err=True)
    for line in rest:
        click.echo(f"       {line}", err=True)
    if error.hint:
        click.echo(click.style("hint:  ", fg="cyan") + error.hint, err=True)


def with_debug(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let `--debug` also stand behind the command's name, where people type it."""

    @click.option("--debug", is_flag=True, hidden=True, expose_value=False)
    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return command(*args, **kwargs)

    return wrapped
