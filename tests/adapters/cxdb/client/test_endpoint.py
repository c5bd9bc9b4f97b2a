"""Addresses, and TLS: who is trusted, and where plain text may go."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from perdure.adapters.cxdb.codec.requests import GetHead
from perdure.adapters.cxdb.codec.responses import ContextHead
from perdure.adapters.cxdb.endpoint import Endpoint, Tls, is_loopback, parse_endpoint
from perdure.adapters.cxdb.pool import Pool
from perdure.errors import BackendDown, Forbidden, Invalid
from perdure.testing.environment import FakeClock
from tests.adapters.cxdb.client.scripted import WAIT_S, polite, says, scripted

HEAD = ContextHead(context_id=7, head_turn_id=9, head_depth=2)
NAME = "cxdb.example"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 9009),
        ("localhost:1", "localhost", 1),
        ("[::1]:65535", "::1", 65535),
        ("[::1]", "::1", 9009),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port(address: str, host: str, port: int) -> None:
    endpoint = parse_endpoint(address)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "address", ["", ":1", "h:", "h:0", "h:65536", "h:x", "h:1:2", "::1", "[::1", "[::1]1", " h:1", "h:\u0661", "h:+1"]
)
def test_what_is_no_address_is_invalid(address: str) -> None:
    with pytest.raises(Invalid):
        parse_endpoint(address, require_tls=False)


@pytest.mark.parametrize("host", ["10.0.0.1", "cxdb.example", "0.0.0.0", "[::]", "127.0.0.1.example"])  # noqa: S104 - that is the point
def test_plain_text_to_another_machine_is_forbidden_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(Forbidden, match="require_tls"):
        parse_endpoint(f"{host}:9009")
    assert parse_endpoint(f"{host}:9009", require_tls=False).tls is None
    assert parse_endpoint(f"{host}:9009", tls=Tls()).tls == Tls()


def test_only_this_machine_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.8.9.1", "::1"))
    assert not any(is_loopback(host) for host in ("localhost.example", "::2", "128.0.0.1", ""))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that names a host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    begins = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("::7"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins.replace(year=2120))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


async def _ask(endpoint: Endpoint) -> ContextHead:
    pool = Pool(endpoint, clock=FakeClock(), redact=str)
    try:
        return await pool.ask(GetHead(context_id=7), timeout_s=WAIT_S)
    finally:
        await pool.close()


async def test_over_tls_the_certificate_must_be_trusted_and_name_the_server(files: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    async with scripted(polite(says(HEAD)), ssl=context) as server:
        port = server.endpoint.port
        good = Tls(ca_file=files[0], server_name=NAME)
        assert await _ask(Endpoint(host="127.0.0.1", port=port, tls=good)) == HEAD
        wrong = (Tls(server_name=NAME), Tls(ca_file=files[0]), Tls(ca_file=files[0], server_name="other.example"))
        for tls in wrong:
            with pytest.raises(BackendDown):
                await _ask(Endpoint(host="127.0.0.1", port=port, tls=tls))
        assert len(server.asked) == 1


async def test_files_that_cannot_be_used_are_invalid_at_once(tmp_path: Path, files: tuple[Path, Path]) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for tls in (Tls(ca_file=tmp_path / "none"), Tls(ca_file=broken), Tls(cert_file=files[0], key_file=broken)):
        with pytest.raises(Invalid):
            Pool(Endpoint(host="localhost", tls=tls), clock=FakeClock(), redact=str)
