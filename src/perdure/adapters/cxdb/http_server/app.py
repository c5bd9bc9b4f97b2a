"""The ASGI application: a request to its route, whatever happens to an answer, and nothing of the inside in it.

It has no accounts: everything in the space that is served is everybody's who can reach it. So it is served on the
loopback interface, or behind a gateway that knows people, or with one token for all.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

from perdure.adapters.cxdb.http_server.answers import (
    BROKEN,
    FORBIDDEN,
    INVALID,
    NO_CONTENT,
    NOT_MODIFIED,
    TOO_SLOW,
    UNAUTHORIZED,
    Answer,
    HttpError,
    HttpRequest,
    as_http_error,
    error_answer,
    too_large,
)
from perdure.adapters.cxdb.http_server.limits import BODY_TIMEOUT_S, QUERY_FIELDS_MAX
from perdure.adapters.cxdb.http_server.routes import Route, Routes
from perdure.adapters.cxdb.http_server.serving_state import Served
from perdure.errors import PerdureError
from perdure.ports.secrets import Secret

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_HOST: Final = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]+)?", re.ASCII)
_log: Final = logging.getLogger("perdure.cxdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who is let in.

    With a ``token`` every route but ``/healthz`` needs it. Without ``hosts`` requests must be addressed to an IP
    address or to localhost, and so must the page be that sends them: another name is that of a site which wants to read
    or write here from its visitor's browser. With ``any_host`` that is for a gateway to say.
    """

    token: Secret | None = None
    hosts: frozenset[str] = frozenset()
    any_host: bool = False

    def check(self, headers: Mapping[str, str], *, is_open: bool) -> None:
        """Raise ``HttpError`` for a request that is not let in."""
        if not self.any_host and not self._is_host(headers.get("host", "")):
            raise HttpError(FORBIDDEN, "the host of the request is not one of this server")
        origin = headers.get("origin")
        if origin is not None and not self.any_host and not self._is_host(origin.partition("://")[2]):
            raise HttpError(FORBIDDEN, "a page of another site may not ask this server")
        if self.token is None or is_open:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        wanted = self.token.reveal().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1", "replace"), wanted):
            raise HttpError(
                UNAUTHORIZED,
                "a token is needed; send Authorization: Bearer",
                headers=((b"www-authenticate", b"Bearer"),),
            )

    def _is_host(self, header: str) -> bool:
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        name = match["bracketed"] or match["name"]
        if name.lower() == "localhost" or name.lower() in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class CxdbHttpApp:
    """CXDB's HTTP interface of one space of a store, for any ASGI server."""

    def __init__(self, served: Served, *, access: Access, body_timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._served = served
        self._access = access
        self._routes = Routes(served)
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except HttpError as exc:
            answer = error_answer(exc)
        except PerdureError as exc:
            answer = error_answer(as_http_error(exc, self._served.profile))
            if answer.status >= BROKEN:
                _log.warning("a request failed: %s", exc.message)
        except Exception:  # noqa: BLE001 - whatever it was, the client gets an answer and the log what it was
            _log.exception("a request failed in a way that nobody thought of")
            answer = error_answer(HttpError(BROKEN, "internal error"))
        self._routes.metrics.count(answer.status)
        await self._send(answer, send)

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        parts = self._parts(scope["raw_path"])
        method = str(scope["method"])
        if method == "HEAD" and not self._served.is_strict:
            method = "GET"
        try:
            route = self._routes.find(method, parts)
        except HttpError:
            self._access.check(headers, is_open=False)  # before anybody is told which routes there are
            raise
        self._access.check(headers, is_open=route.is_open)
        body = await self._body(route, receive) if route.body_bytes_max else b""
        request = HttpRequest(
            method=method, parts=parts, query=_query(scope["query_string"]), headers=headers, body=body
        )
        return await route.handler(request)

    def _parts(self, raw_path: bytes) -> tuple[str, ...]:
        segments = raw_path.removeprefix(b"/").split(b"/")
        try:
            if self._served.is_strict:
                return tuple(segment.decode() for segment in segments)
            return tuple(unquote_to_bytes(segment).decode() for segment in segments)
        except UnicodeDecodeError as exc:
            raise HttpError(INVALID, "the path is not UTF-8") from exc

    async def _body(self, route: Route, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise HttpError(TOO_SLOW, "the connection ended before the body did")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > route.body_bytes_max:
                        raise too_large(route.body_limit, route.body_bytes_max, self._served.profile)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError as exc:
            raise HttpError(TOO_SLOW, "the body did not come in time") from exc

    async def _send(self, answer: Answer, send: Send) -> None:
        headers = [*answer.headers, (b"date", format_datetime(self._served.clock.now(), usegmt=True).encode())]
        if not self._served.is_strict:
            headers.append((b"server", b"perdure"))
        if answer.status not in (NO_CONTENT, NOT_MODIFIED):
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


def _query(raw: bytes) -> Mapping[str, str]:
    """The parameters of an address; of one that is there twice, the last."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as exc:
        raise HttpError(INVALID, "the query of the address is not ASCII; encode other characters with %") from exc
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=QUERY_FIELDS_MAX))
    except ValueError as exc:
        raise HttpError(
            INVALID, f"the query of the address has more than {QUERY_FIELDS_MAX} parameters (query_fields_max)"
        ) from exc
