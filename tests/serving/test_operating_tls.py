"""TLS at both doors, with and without certificates of clients."""

import datetime
import ipaddress
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.serving import saved_models
from tests.serving.operated import operated

CODES = grpc.StatusCode


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("tls") / "half"
    saved_models.half_plus_two(root / "123")
    return str(root)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PEM files of an authority, a server, a client and a stranger who signed himself."""
    folder = tmp_path_factory.mktemp("keys")

    def make(name: str, issuer: tuple[str, Any] | None = None) -> tuple[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer[0])]) if issuer else subject
        now = datetime.datetime.now(datetime.UTC)
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .sign(issuer[1] if issuer else key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / f"{name}.key").write_bytes(key.private_bytes(encoding, form, none))
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(encoding))
        return name, key

    authority = make("authority")
    make("server", authority)
    make("client", authority)
    make("stranger")
    return folder


def ssl_config(keys: Path, folder: Path, *, verify: bool) -> str:
    def field(name: str, file: str) -> str:
        return f"{name}: {json.dumps((keys / file).read_text())}\n"

    text = field("server_key", "server.key") + field("server_cert", "server.pem")
    if verify:
        text += field("custom_ca", "authority.pem") + "client_verify: true\n"
    (folder / "ssl.config").write_text(text)
    return f"--ssl_config_file={folder / 'ssl.config'}"


def status_over_https(port: int, keys: Path, client: str = "") -> Any:
    context = ssl.create_default_context(cafile=keys / "authority.pem")
    if client:
        context.load_cert_chain(keys / f"{client}.pem", keys / f"{client}.key")
    with urllib.request.urlopen(f"https://localhost:{port}/v1/models/half", context=context) as reply:
        return json.load(reply)["model_version_status"][0]["state"]


def secure_channel(port: int, keys: Path, client: str = "") -> grpc.Channel:
    pair = [(keys / f"{client}.key").read_bytes(), (keys / f"{client}.pem").read_bytes()] if client else []
    credentials = grpc.ssl_channel_credentials((keys / "authority.pem").read_bytes(), *pair)
    return grpc.secure_channel(f"localhost:{port}", credentials)


def test_tls_at_both_doors(half, keys, tmp_path):
    with operated(half, ssl_config(keys, tmp_path, verify=False)) as server:
        assert status_over_https(server.rest.port, keys) == "AVAILABLE"
        with secure_channel(server.port, keys) as channel:
            assert server.predict(channel).model_spec.version.value == 123
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                server.predict(channel)
            assert caught.value.code() is CODES.UNAVAILABLE
        with pytest.raises((OSError, IndexError)):
            server.rest.raw(b"GET /v1/models/half HTTP/1.1\r\nHost: h\r\n\r\n")


def test_clients_must_show_a_certificate_of_the_authority(half, keys, tmp_path):
    with operated(half, ssl_config(keys, tmp_path, verify=True)) as server:
        assert status_over_https(server.rest.port, keys, "client") == "AVAILABLE"
        with secure_channel(server.port, keys, "client") as channel:
            assert server.predict(channel).model_spec.version.value == 123
        for client in ("", "stranger"):
            with pytest.raises(OSError, match=r"(?i)alert|reset|closed|handshake|broken pipe"):
                status_over_https(server.rest.port, keys, client)
            with secure_channel(server.port, keys, client) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    server.predict(channel)
                assert caught.value.code() is CODES.UNAVAILABLE
