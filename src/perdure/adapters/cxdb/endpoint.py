"""Where a server is, and whether the way to it may be plain text."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure.errors import Forbidden, Invalid

BINARY_PORT_DEFAULT: Final = 9009
_PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a server proves who it is, and, with ``cert_file``, how the client does.

    ``ca_file`` None trusts what the system trusts. ``server_name`` is what the certificate must name, where that is not
    the address.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """A context that verifies certificate and name. Raises ``Invalid`` for files that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as exc:  # ssl's own errors among them
            raise Invalid(
                f"the files for TLS cannot be used ({type(exc).__name__}); expected PEM files that may be read"
            ) from exc
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The binary protocol's address. ``tls`` None is plain text, which servers speak: a proxy in front has the keys."""

    host: str
    port: int = BINARY_PORT_DEFAULT
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(address: str, *, tls: Tls | None = None, require_tls: bool = True) -> Endpoint:
    """The endpoint of ``host``, ``host:port`` or ``[host]:port``.

    Raises ``Invalid`` for what is none, and ``Forbidden`` for plain text to another machine unless ``require_tls`` is
    false.
    """
    host, port = _split(address)
    if tls is None:
        refuse_plain(host, require_tls=require_tls)
    return Endpoint(host=host, port=port, tls=tls)


def refuse_plain(host: str, *, require_tls: bool) -> None:
    """Raise ``Forbidden`` for plain text to anything but this machine, unless TLS is not required."""
    if require_tls and not is_loopback(host):
        raise Forbidden(
            f"plain text to {ascii(host)[:80]}, which is not this machine: conversations would be read on the way. "
            "Set tls, or require_tls to false where the network itself is private"
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, whatever a resolver says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(address: str) -> tuple[str, int]:
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        wrong = not bracket or colon not in {"", ":"}
    else:
        host, colon, port = address.partition(":")
        wrong = ":" in port
    if wrong or not host or host != host.strip() or (colon and not _is_port(port)):
        raise Invalid(f"{ascii(address)[:80]} is no address; expected host:port, as in 127.0.0.1:{BINARY_PORT_DEFAULT}")
    return host, int(port) if colon else BINARY_PORT_DEFAULT


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(_PORT_MAX)) and 0 < int(text) <= _PORT_MAX
