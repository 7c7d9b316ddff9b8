"""A metadata URL as ML Metadata's own connection settings."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from headrace.data.errors import ConfigError, EnvironmentProblem

from .cluster import MetadataConfig

__all__ = ["connection_config", "server_address"]

_PORTS = {"mysql": 3306, "postgresql": 5432}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def connection_config(config: MetadataConfig, database: str) -> Any:
    """Return MLMD's `ConnectionConfig`.

    Args:
        config: The `metadata` section.
        database: SQLite file, used where the section names no database server.

    Raises:
        ConfigError: If the URL names a mode of encryption that there is not.
        EnvironmentProblem: If the file with the password cannot be read.
    """
    from ml_metadata.proto import metadata_store_pb2

    found = metadata_store_pb2.ConnectionConfig()
    if config.url is None:
        os.makedirs(os.path.dirname(database), exist_ok=True)
        found.sqlite.filename_uri = database
        found.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return found
    url = urlsplit(config.url)
    host, port = server_address(url)
    address = {"host": host, "user": unquote(url.username or ""), "password": _password(config)}
    name = url.path.lstrip("/")
    if url.scheme == "mysql":
        found.mysql.MergeFrom(metadata_store_pb2.MySQLDatabaseConfig(**address, port=port, database=name))
        return found
    mode = parse_qs(url.query).get("sslmode", ["prefer"])[0]
    if mode not in _SSL_MODES:
        raise ConfigError(
            f"`sslmode` must be one of {', '.join(_SSL_MODES)}. Received: {mode} (metadata.url)"
        )
    found.postgresql.MergeFrom(
        metadata_store_pb2.PostgreSQLDatabaseConfig(**address, port=str(port), dbname=name)
    )
    # ml-metadata 1.21 connects only where a mode is set.
    found.postgresql.ssloption.sslmode = mode
    return found


def server_address(url: SplitResult) -> tuple[str, int]:
    """Return host and port of a metadata URL, with the engine's own port where it names none."""
    host = url.hostname or "localhost"
    # MySQL's client takes `localhost` for its socket file.
    return "127.0.0.1" if host == "localhost" else host, url.port or _PORTS[url.scheme]


def _password(config: MetadataConfig) -> str:
    if config.password_file is None:
        return os.environ.get(config.password_env, "")
    try:
        return Path(config.password_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise EnvironmentProblem(
            f"`metadata.password_file` must be readable. Received: {config.password_file} ({error.strerror})"
        ) from error
