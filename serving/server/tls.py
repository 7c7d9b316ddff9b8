"""TLS for both doors from one set of keys."""

import os
import ssl
import tempfile

import grpc

from headrace.data.errors import ConfigError

from .text_protos import Tls

__all__ = ["grpc_credentials", "http_context"]


def grpc_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return the credentials of the gRPC door."""
    return grpc.ssl_server_credentials(
        [(tls.key.encode(), tls.certificate.encode())],
        root_certificates=tls.authority.encode() if tls.authority else None,
        require_client_auth=tls.verify_clients,
    )


def http_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of the REST door.

    Raises:
        ConfigError: If key and certificate are no PEM, or do not belong to each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The ssl module takes a key only from a file: it is readable by this user alone, and gone at once.
    handle, path = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{tls.certificate}\n{tls.key}\n")
        context.load_cert_chain(path)
        if tls.verify_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            if tls.authority:
                context.load_verify_locations(cadata=tls.authority)
            else:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (ssl.SSLError, UnicodeEncodeError) as error:
        raise ConfigError(f"an SSL config must hold PEM that fits together. Received: {error}") from error
    finally:
        os.unlink(path)
    return context
