"""What is wrong where the metadata's database does not answer, in one line that names it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from headrace.data.errors import EnvironmentProblem, HeadraceError

from .cluster import MetadataConfig
from .metadata_file import check_database, explain_database
from .metadata_url import server_address

__all__ = ["check_reachable", "database_named"]

_CONNECT_S = 5.0
_NOT_CONNECTED = (
    "mysql_real_connect failed", "PostgreSQL metadata source error: connection pointer",
    "Cannot connect sqlite3 database", "Error when executing query", "MLMD database version",
)  # fmt: skip
_RULE = "`metadata.url` must name a database that answers for as long as a run goes on."


def check_reachable(config: MetadataConfig, database: str) -> None:
    """Make sure that something listens where the database should, before anything heavy starts.

    Args:
        config: The `metadata` section.
        database: The SQLite file, where the section names no other; it is looked into.

    Raises:
        EnvironmentProblem: If not.
    """
    if config.url is None:
        check_database(database)
        return
    reason = _unreachable(config.url)
    if reason is not None:
        raise EnvironmentProblem(f"{_RULE} Received: {reason} ({config.url})", "start the database")


@contextmanager
def database_named(config: MetadataConfig, run_id: str, database: str = "") -> Iterator[None]:
    """Turn what ML Metadata raises where its database fails into an error that names the database.

    ML Metadata's own messages are empty for a refused connection as for a wrong password, and name neither
    host nor database.

    Args:
        config: The `metadata` section.
        run_id: Id of the run, for the hint.
        database: The SQLite file, where the section names no other.

    Raises:
        EnvironmentProblem: Instead of an error of the database.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_database(error):
            raise
        if config.url is None:
            raise explain_database(database, _said(error), run_id) from error
        raise _explained(config.url, str(error), run_id) from error


def _explained(url: str, text: str, run_id: str) -> EnvironmentProblem:
    found = " ".join(text.split())
    reason = _unreachable(url)
    if reason is not None:
        return EnvironmentProblem(
            f"{_RULE} Received: {reason} ({url})", f"start the database, then: headrace resume {run_id}"
        )
    if _never_connected(text):
        return EnvironmentProblem(
            f"{_RULE} Received: it listens, but refuses the user, the password or the database ({url})",
            "the password comes from `metadata.password_env` or `metadata.password_file`",
        )
    return EnvironmentProblem(
        f"{_RULE} Received: {found[:200]} ({url})",
        f"its log says more; once it answers: headrace resume {run_id}",
    )


def _is_of_database(error: BaseException) -> bool:
    """Return whether ML Metadata raised `error`, or it came while such an error was handled."""
    from ml_metadata import errors

    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, HeadraceError):
            return False
        if isinstance(chain, errors.InternalError | errors.UnavailableError | errors.AbortedError):
            return True
        if isinstance(chain, RuntimeError) and _never_connected(str(chain)):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _said(error: BaseException) -> str:
    """Return what everything in the chain of `error` says."""
    before = error.__cause__ or error.__context__
    return str(error) if before is None else f"{error}; {_said(before)}"


def _never_connected(text: str) -> bool:
    """Tell whether a message is what ml-metadata 1.21, or TFX around it, says where it cannot connect."""
    return "connection to Metadata storage" in text or any(text.startswith(start) for start in _NOT_CONNECTED)


def _unreachable(url: str) -> str | None:
    """Say why nothing listens at the address of `url`; None where something does."""
    host, port = server_address(urlsplit(url))
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except TimeoutError:
        return f"no answer from {host}:{port} in {_CONNECT_S:.0f} s"
    except OSError as error:
        return f"{(error.strerror or str(error)).lower()} at {host}:{port}"
    return None
