"""Where webhooks may go. Who requests an effect chooses its address, so the relay's own network must be out of reach.

The name is resolved here and the connection made to the address that was judged: a name that answers differently the
second time gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import httpx

from perdure.ports.relay import DeliveryFailed

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

ADDRESS_REFUSED: Final = "ADDRESS_REFUSED"
HOST_REFUSED: Final = "HOST_REFUSED"


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the system knows them. Raises ``OSError``."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is on the open internet: not private, loopback, link-local, reserved or multicast."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    judged = mapped or parsed
    return judged.is_global and not judged.is_multicast


class PublicOnly(httpx.AsyncBaseTransport):
    """A transport that connects to public addresses only."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, resolve: Resolve = resolve_host) -> None:
        self._inner = inner
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Resolve, judge, and pass on to one of the addresses; TLS still checks the certificate of the name."""
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(host, port)
        except OSError as exc:
            raise httpx.ConnectError(f"{host} has no address", request=request) from exc
        if not addresses or not all(is_public(address) for address in addresses):
            raise DeliveryFailed(
                f"{host} leads to an address that is not public; webhooks do not go there in this mode",
                code=ADDRESS_REFUSED,
                retryable=False,
            )
        # The Host header was set from the name when the request was built.
        request.url = request.url.copy_with(host=addresses[0])
        request.extensions = {**request.extensions, "sni_hostname": host}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
