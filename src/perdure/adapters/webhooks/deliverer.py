"""Webhooks: effects that are one HTTP request, each with its idempotency key, signed if a secret is named."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import httpx

from perdure.adapters.webhooks.addresses import PublicOnly, Resolve, resolve_host
from perdure.adapters.webhooks.request import Prepared, prepare
from perdure.errors import Invalid
from perdure.ports.environment import Clock
from perdure.ports.relay import Delivery, DeliveryFailed
from perdure.ports.secrets import Secrets

RESPONSE_BYTES_MAX: Final = 16_384  # an answer is recorded to be read by people; a document belongs elsewhere

_RETRYABLE_4XX: Final = frozenset({408, 425, 429})
_SERVER_ERRORS: Final = 500
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SECONDS_DIGITS_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """How webhooks are called.

    ``timeout_s`` bounds the whole call, ``connect_timeout_s`` its first part. At most ``response_bytes_max`` bytes of
    an answer are read and recorded. ``connections_max`` bounds the pool. ``hosts_allowed`` None allows every host;
    ``public_only`` refuses addresses that are not on the open internet.
    """

    timeout_s: float = 20.0
    connect_timeout_s: float = 5.0
    response_bytes_max: int = RESPONSE_BYTES_MAX
    connections_max: int = 100
    hosts_allowed: frozenset[str] | None = None
    public_only: bool = False
    user_agent: str = "perdure"

    def __post_init__(self) -> None:
        if not (0 < self.timeout_s < float("inf") and 0 < self.connect_timeout_s < float("inf")):
            raise Invalid("timeout_s and connect_timeout_s are seconds, more than 0")
        if not 0 <= self.response_bytes_max <= RESPONSE_BYTES_MAX:
            raise Invalid(f"response_bytes_max is {self.response_bytes_max}; expected 0 to {RESPONSE_BYTES_MAX}")
        if self.connections_max < 1:
            raise Invalid(f"connections_max is {self.connections_max}; expected at least 1")


class WebhookDeliverer:
    """Delivers WEBHOOK_CALL and API_CALL effects; an async context manager around its connections.

    The specification is ``{url, method?, headers?, body?, secret_ref?}``. A header's value is text or ``{"secret_ref":
    ..., "prefix": "Bearer "?}``. 2xx is delivered; 408, 425, 429, 5xx and failures of the network are tried again,
    when the receiver says (``Retry-After``) or by the policy of the type; everything else is a dead letter at once.
    Redirects are never followed: the receiver's new address is requested by whoever knows it.
    """

    def __init__(
        self,
        *,
        secrets: Secrets,
        clock: Clock,
        settings: WebhookSettings | None = None,
        verify: ssl.SSLContext | None = None,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._settings = settings or WebhookSettings()
        self._secrets = secrets
        self._clock = clock
        transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(
            verify=verify or ssl.create_default_context(),
            limits=httpx.Limits(max_connections=self._settings.connections_max),
            # A proxy or a .netrc from the environment would see what is sent, or add to it.
            trust_env=False,
        )
        if self._settings.public_only:
            transport = PublicOnly(transport, resolve=resolve)
        self._client = httpx.AsyncClient(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(self._settings.timeout_s, connect=self._settings.connect_timeout_s),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def __call__(self, delivery: Delivery) -> Mapping[str, Any]:
        """Send the request. Returns ``{status, body, truncated}``; raises ``DeliveryFailed``."""
        prepared = await prepare(
            delivery,
            secrets=self._secrets,
            clock=self._clock,
            user_agent=self._settings.user_agent,
            hosts_allowed=self._settings.hosts_allowed,
        )
        limit_s = min(self._settings.timeout_s, delivery.deadline_s)
        try:
            async with asyncio.timeout(limit_s):
                return await self._send(prepared)
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise DeliveryFailed(
                f"{_where(prepared)} did not answer within {limit_s} s; it may have been delivered", code="TIMED_OUT"
            ) from exc
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as exc:
            raise DeliveryFailed(
                f"{_where(prepared)}: the request is not HTTP", code="SPEC_INVALID", retryable=False
            ) from exc
        except httpx.ConnectError as exc:
            raise DeliveryFailed(f"{_where(prepared)} was not reached: {exc}", code="CONNECT_FAILED") from exc
        except httpx.HTTPError as exc:
            raise DeliveryFailed(
                f"{_where(prepared)} broke off ({type(exc).__name__}); it may have been delivered",
                code="NETWORK_FAILED",
            ) from exc

    async def _send(self, prepared: Prepared) -> Mapping[str, Any]:
        request = self._client.build_request(
            prepared.method, prepared.url, headers=dict(prepared.headers), content=prepared.body
        )
        response = await self._client.send(request, stream=True)
        try:
            body, truncated = await self._read(response)
        finally:
            await response.aclose()
        status = response.status_code
        if response.is_success:
            return {"status": status, "body": body, "truncated": truncated}
        raise self._failure(prepared, response)

    async def _read(self, response: httpx.Response) -> tuple[str, bool]:
        """The beginning of the body, and whether there was more; what is beyond the limit is not fetched."""
        most, read = self._settings.response_bytes_max, b""
        async for chunk in response.aiter_raw():
            read += chunk
            if len(read) > most:
                break
        text = self._secrets.redact(read[:most].decode("utf-8", errors="replace"))
        return text.replace("\x00", "\N{REPLACEMENT CHARACTER}"), len(read) > most

    def _failure(self, prepared: Prepared, response: httpx.Response) -> DeliveryFailed:
        status, where = response.status_code, _where(prepared)
        if status in _REDIRECTS:
            return DeliveryFailed(
                f"{where} answered {status}, a redirect; redirects are not followed, request the new address",
                code="REDIRECT_REFUSED",
                retryable=False,
                status=status,
            )
        retryable = status >= _SERVER_ERRORS or status in _RETRYABLE_4XX
        return DeliveryFailed(
            f"{where} answered {status} {response.reason_phrase}".rstrip(),
            code=f"HTTP_{status}",
            retryable=retryable,
            retry_after_s=retry_after_s(response.headers.get("Retry-After"), now=self._clock.now())
            if retryable
            else None,
            status=status,
        )


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, given as seconds or as a date; None if it says neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) <= _SECONDS_DIGITS_MAX:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max((aware - now).total_seconds(), 0.0)


def _where(prepared: Prepared) -> str:
    # Path and query may hold keys of the receiver's own making; the host says enough.
    return f"{prepared.method} {prepared.url.scheme}://{prepared.url.netloc.decode('ascii', errors='replace')}"
