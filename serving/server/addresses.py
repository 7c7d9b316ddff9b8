"""Where the doors listen: what a command line says, and whether it can be had, before anything is loaded."""

import errno
import ipaddress
import socket
from dataclasses import dataclass

from headrace.data.errors import ConfigError, EnvironmentProblem

from .flags import FlagValues

__all__ = ["Addresses", "check_free", "read_addresses"]

_DOORS = {"port": "gRPC", "rest_api_port": "REST"}


@dataclass(frozen=True)
class Addresses:
    """Where the doors listen.

    Attributes:
        host: Address that both bind to.
        grpc_port: Port of gRPC; 0 for none.
        rest_port: Port of REST; 0 for none.
        grpc_socket: Path of a UNIX socket for gRPC; empty for none.
    """

    host: str
    grpc_port: int
    rest_port: int
    grpc_socket: str

    @property
    def grpc_is_local(self) -> bool:
        """Whether gRPC can be reached from this machine alone."""
        return not self.grpc_port or all(map(_is_loopback, _resolved(self.host)))


def read_addresses(flags: FlagValues) -> Addresses:
    """Return the addresses of a command line.

    Raises:
        ConfigError: If a port cannot be one, both are the same, or there is none.
    """
    port, grpc_socket = flags["port"], flags["grpc_socket_path"]
    rest_port = flags["rest_api_port"]
    if not flags.rest and "rest_api_port" not in flags.given:
        rest_port = 0
    for name, number in (("port", port), ("rest_api_port", rest_port)):
        if not 0 <= number <= 65535:
            raise ConfigError(f"`--{name}` must be from 0 to 65535. Received: {number}")
    if port and port == rest_port:
        raise ConfigError(f"`--port` and `--rest_api_port` must differ. Received: {port} for both")
    if not port and not rest_port and not grpc_socket:
        raise ConfigError("at least one door must be open. Received: --port=0 and --rest_api_port=0")
    return Addresses(flags["host"], port, rest_port, grpc_socket)


def check_free(addresses: Addresses) -> None:
    """Make sure that the doors can open.

    Somebody may still take a port before they do; then the doors say so.

    Raises:
        ConfigError: If the host is none of this machine.
        EnvironmentProblem: If a port is taken, or not for this user.
    """
    for name, port in (("port", addresses.grpc_port), ("rest_api_port", addresses.rest_port)):
        if port:
            _check_port(name, addresses.host, port)


def _check_port(name: str, host: str, port: int) -> None:
    hint = f"--{name}=N opens another, --{name}=0 no {_DOORS[name]} door"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:  # that a host has no address is one, too
        if error.errno == errno.EADDRINUSE:
            raise EnvironmentProblem(
                f"`--{name}` must be free. Received: {port}, which another program has ({host}:{port})",
                hint,
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise EnvironmentProblem(
                f"`--{name}` must be one that this user may open. Received: {port}", hint
            ) from error
        raise ConfigError(
            f"`--host` must be an address of this machine. Received: {host} ({error.strerror})",
            "--host=127.0.0.1 is this machine alone, --host=0.0.0.0 opens the doors to the network",
        ) from error


def _resolved(host: str) -> list[str]:
    """Return the addresses of a host; the name itself where it has none, which is no loopback."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
    except OSError:
        return [host]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
