"""Certificates of a client."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from headrace.data.errors import ConfigError

__all__ = ["ClientTls"]


@dataclass(frozen=True)
class ClientTls:
    """Files in PEM.

    Attributes:
        authority: Certificates that the server's is checked against; empty for the system's.
        certificate: The client's own, with its chain, where the server asks for one; else empty.
        key: Its private key.
    """

    authority: str = ""
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ConfigError(
                "a client's certificate and key must be given together. "
                f"Received: {'only the certificate' if self.certificate else 'only the key'}"
            )

    def context(self) -> ssl.SSLContext:
        """Return the context of HTTPS.

        Raises:
            ConfigError: If a file cannot be read or is no PEM.
        """
        try:
            context = ssl.create_default_context(cafile=self.authority or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"certificates must be PEM files that fit together. Received: {error} "
                f"({', '.join(filter(None, (self.authority, self.certificate, self.key)))})"
            ) from error
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return authority, key and certificate, None for what is not given.

        Raises:
            ConfigError: If a file cannot be read.
        """
        self.context()  # gRPC says nothing of a file that is no PEM
        authority, key, certificate = (
            Path(path).read_bytes() if path else None for path in (self.authority, self.key, self.certificate)
        )
        return authority, key, certificate
