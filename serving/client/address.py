"""URLs of models."""

from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from headrace.data.errors import ConfigError

__all__ = ["Address", "is_url", "parse_url"]

_FORMS = "http(s)://HOST:8501/v1/models/MODEL or grpc(s)://HOST:8500/MODEL, then /versions/N or /labels/NAME"
_PORTS = {"http": 80, "https": 443, "grpc": 8500, "grpcs": 8500}


@dataclass(frozen=True)
class Address:
    """Where a model is.

    Attributes:
        scheme: `http`, `https`, `grpc` or `grpcs`.
        host: Name or number of the host, IPv6 without brackets.
        port: Its port.
        model: Name of the model.
        version: Version asked for, or None.
        label: Label of the version asked for, or None.
        prefix: What stands before `/v1/models` in the path.
    """

    scheme: str
    host: str
    port: int
    model: str
    version: int | None = None
    label: str | None = None
    prefix: str = ""

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme.endswith("s")

    @property
    def path(self) -> str:
        """Path of the model in the REST API."""
        path = f"{self.prefix}/v1/models/{quote(self.model, safe='')}"
        if self.version is not None:
            return f"{path}/versions/{self.version}"
        return path if self.label is None else f"{path}/labels/{quote(self.label, safe='')}"

    @property
    def url(self) -> str:
        """The URL, as messages show it."""
        if self.scheme.startswith("http"):
            return f"{self.scheme}://{self.netloc}{self.path}"
        return f"{self.scheme}://{self.netloc}/{self.path.partition('/v1/models/')[2]}"

    def pinned(self, version: int | None) -> "Address":
        """Return the address of one version; without a number as it is."""
        return self if version is None else replace(self, version=version, label=None)


def is_url(target: str) -> bool:
    """Tell whether `target` is a URL rather than a path."""
    return "://" in target


def parse_url(url: str, schemes: tuple[str, ...] = ("http", "https", "grpc", "grpcs")) -> Address:
    """Return the address in a URL.

    Args:
        url: Such as `http://localhost:8501/v1/models/flights` or `grpc://localhost:8500/flights/versions/3`.
        schemes: Those that are meant here.

    Raises:
        ConfigError: If it is not of this form.

    Example:
        >>> parse_url("grpc://localhost:8500/flights/labels/stable").label
        'stable'
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _malformed(url, schemes) from error
    if parts.scheme not in schemes or not host or parts.query or parts.fragment:
        raise _malformed(url, schemes)
    prefix, path = "", parts.path.rstrip("/")
    if parts.scheme.startswith("http"):
        prefix, found, path = path.rpartition("/v1/models/")
        if not found:
            raise _malformed(url, schemes)
    name, *rest = path.removeprefix("/").split("/")
    version: int | None = None
    label: str | None = None
    if len(rest) == 2 and rest[0] == "versions" and rest[1].isdecimal():
        version = int(rest[1])
    elif len(rest) == 2 and rest[0] == "labels" and rest[1]:
        label = unquote(rest[1])
    elif rest:
        raise _malformed(url, schemes)
    if not name or ":" in name:
        raise _malformed(url, schemes)
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], unquote(name), version, label, prefix)


def _malformed(url: str, schemes: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        f"a model's URL must begin with {' or '.join(f'{name}://' for name in schemes)} and name host "
        f"and model. Received: {url}",
        _FORMS,
    )
