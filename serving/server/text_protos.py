"""The monitoring and TLS files of tensorflow_model_server, whose messages no Python package carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from headrace.data.errors import ConfigError

__all__ = ["Monitoring", "Tls", "read_monitoring", "read_tls"]

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "headrace.serving.text"
_MESSAGES: Mapping[str, Mapping[str, tuple[int, int, str]]] = {
    # message -> field -> (number, type, message type)
    "PrometheusConfig": {"enable": (1, _Field.TYPE_BOOL, ""), "path": (2, _Field.TYPE_STRING, "")},
    "MonitoringConfig": {"prometheus_config": (1, _Field.TYPE_MESSAGE, "PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, _Field.TYPE_STRING, ""),
        "server_cert": (2, _Field.TYPE_STRING, ""),
        "custom_ca": (3, _Field.TYPE_STRING, ""),
        "client_verify": (4, _Field.TYPE_BOOL, ""),
    },
}


@dataclass(frozen=True)
class Monitoring:
    """Where metrics are.

    Attributes:
        enabled: Whether there are any.
        path: Path of the page.
    """

    enabled: bool = True
    path: str = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class Tls:
    """Keys and certificates, in PEM.

    Attributes:
        key: Private key of the server.
        certificate: Its certificate, with the chain.
        authority: Certificates that clients' certificates are checked against; empty for the system's.
        verify_clients: Whether clients must show a certificate.
    """

    key: str
    certificate: str
    authority: str = ""
    verify_clients: bool = False


def read_monitoring(path: str) -> Monitoring:
    """Return the MonitoringConfig in the text file `path`.

    Raises:
        ConfigError: If there is none.
    """
    found = _read("MonitoringConfig", path).prometheus_config
    return Monitoring(found.enable, found.path or Monitoring.path)


def read_tls(path: str) -> Tls:
    """Return the SSLConfig in the text file `path`.

    Raises:
        ConfigError: If there is none, or it has no key or certificate.
    """
    found = _read("SSLConfig", path)
    if not found.server_key or not found.server_cert:
        raise ConfigError(
            f"an SSL config must have server_key and server_cert. Received: neither or one ({path})"
        )
    return Tls(found.server_key, found.server_cert, found.custom_ca, found.client_verify)


def _read(name: str, path: str) -> Any:
    message = _classes()[name]()
    try:
        text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ConfigError(f"the file must be a {name} text. Received: {error} ({path})") from error
    return message


@cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="headrace/serving/text.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, of) in fields.items():
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=_Field.LABEL_OPTIONAL,
                type_name=f".{_PACKAGE}.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }
