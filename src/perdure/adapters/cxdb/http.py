"""The HTTP side of a server: what the binary protocol has no message for. Ids come as text or as numbers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import httpx
import msgspec

from perdure.adapters.cxdb.codec.responses import ContextHead
from perdure.adapters.cxdb.codec.turn_lists import TurnItem
from perdure.adapters.cxdb.endpoint import Tls, refuse_plain
from perdure.adapters.cxdb.failures import Lost, Redact, from_status, snippet
from perdure.adapters.cxdb.http_answers import (
    CONTEXTS_FETCH_MAX,
    ID_MAX,
    following,
    read_contexts,
    read_count,
    read_member,
    read_turns,
)
from perdure.errors import (
    BackendDown,
    Invalid,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    TimedOut,
)
from perdure.ports.secrets import Secret

HTTP_BYTES_MAX: Final = 384 * 1_048_576  # of one answer: the payloads of a page (256 MiB) in base64, and a bit
ERROR_BODY_BYTES_MAX: Final = 16_384  # of an answer that says what is wrong; the beginning says it
SEARCH_PAGES_MAX: Final = 100  # answers of one search; each of ours is about the next 1 000 contexts
HTTP_CONNECTIONS_MAX: Final = 4  # servers answer one request at a time
IMPROVED_SERVER: Final = "perdure"  # what our own server calls itself

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")

Generation: TypeAlias = Literal["G0", "G1", "improved"]
_GENERATIONS: Final[dict[int, Generation]] = {404: "G0", 409: "G1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAddress:
    """Where the HTTP side is. ``tls`` None trusts what the system trusts, for an address that is https."""

    base_url: str
    tls: Tls | None = None
    require_tls: bool = True


class CxdbHttp:
    """A client of the HTTP side. It shows its token to the server alone."""

    def __init__(
        self,
        address: HttpAddress,
        *,
        redact: Redact,
        token: Secret | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = _base_url(address)
        if token is not None and _TOKEN.fullmatch(token.reveal()) is None:
            # The HTTP library would show the whole header in its error.
            raise Invalid("the token is empty or has characters that no header may have; is there a line break in it?")
        self._token = token
        self._redact_others = redact
        self._where = f"{url.scheme}://{url.netloc.decode('ascii', errors='replace')}"
        tls = address.tls or Tls()
        self._extensions = {} if tls.server_name is None else {"sni_hostname": tls.server_name}
        self._client = httpx.AsyncClient(
            base_url=url,
            transport=transport
            or httpx.AsyncHTTPTransport(
                verify=tls.context() if url.scheme == "https" else False,
                limits=httpx.Limits(max_connections=HTTP_CONNECTIONS_MAX),
                # A proxy or a .netrc from the environment would see what is sent, or add to it.
                trust_env=False,
            ),
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 - each request has the patience of its caller
        )

    def __repr__(self) -> str:
        return f"CxdbHttp({self._where!r})"

    async def close(self) -> None:
        """Let go of the connections. Safe to call twice."""
        await self._client.aclose()

    async def generation(self, *, timeout_s: float) -> Generation | None:
        """Which kind of server this is, by a request that changes nothing anywhere; None if that cannot be told.

        The oldest servers have no such route, the others know of no such turn.
        """
        response = await self._send(
            "POST", "/v1/contexts", timeout_s=timeout_s, content=_encode({"base_turn_id": str(ID_MAX)})
        )
        if response.headers.get("server", "").partition("/")[0] == IMPROVED_SERVER:
            return "improved"
        return _GENERATIONS.get(response.status)

    async def health(self, *, timeout_s: float) -> None:
        """Ask for a sign of life."""
        await self._fetch("GET", "/healthz", timeout_s=timeout_s)

    async def turns_before(
        self, context_id: int, *, before_turn_id: int, limit: int, timeout_s: float
    ) -> Sequence[TurnItem]:
        """The turns before a turn, oldest first, whatever context that is of. Raises ``NotFound`` if it is unknown."""
        query = {"view": "raw", "limit": str(limit), "before_turn_id": str(before_turn_id)}
        found = await self._json("GET", f"/v1/contexts/{context_id}/turns", query=query, timeout_s=timeout_s)
        return read_turns(found)

    async def search(self, label: str, *, timeout_s: float) -> Sequence[ContextHead]:
        """The contexts whose metadata has a label, in the order of their ids; one request for each 1 000 of our server.

        Raises ``LimitExceeded`` if they are more than ``CONTEXTS_FETCH_MAX``, and for a server that looked at a part of
        its contexts and does not say how to go on.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        found: list[ContextHead] = []
        query = {"q": f"label = {quote_cql(label)}", "limit": str(CONTEXTS_FETCH_MAX + 1)}
        for _ in range(SEARCH_PAGES_MAX):
            page = await self._json("GET", "/v1/contexts/search", query=query, timeout_s=until - loop.time())
            found += read_contexts(page, total=len(found) + read_count(page, "total_count"))
            cursor = following(page)
            if cursor is None:
                return sorted(found, key=lambda head: head.context_id)
            query["cursor"] = cursor
        raise LimitExceeded(
            f"after {SEARCH_PAGES_MAX} answers (search_pages_max) the server had more contexts to look at; "
            "keep what is old on a server of its own",
            limit="search_pages_max",
            allowed=SEARCH_PAGES_MAX,
            actual=SEARCH_PAGES_MAX + 1,
        )

    async def contexts(self, *, timeout_s: float) -> Sequence[ContextHead]:
        """All contexts, in the order of their ids. Raises ``LimitExceeded`` if they are too many to be told at once."""
        query = {"limit": str(CONTEXTS_FETCH_MAX + 1)}
        found = await self._json("GET", "/v1/contexts", query=query, timeout_s=timeout_s)
        return sorted(read_contexts(found, total=read_count(found, "count")), key=lambda head: head.context_id)

    async def put_bundle(self, bundle_id: str, body: bytes, *, timeout_s: float) -> bool:
        """Publish a registry bundle; False if it is there. The server goes by the id in the body, not by this one."""
        path = f"/v1/registry/bundles/{bundle_id}"
        return (await self._fetch("PUT", path, content=body, timeout_s=timeout_s)).status == httpx.codes.CREATED

    async def find_bundle(self, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle as it was put, or None."""
        response = await self._fetch(
            "GET", f"/v1/registry/bundles/{bundle_id}", timeout_s=timeout_s, also=(httpx.codes.NOT_FOUND,)
        )
        return None if response.status == httpx.codes.NOT_FOUND else response.body

    async def fs_root(self, turn_id: int, *, timeout_s: float) -> str | None:
        """The root that is attached to a turn or to its nearest ancestor, or None. Raises ``NotFound`` for the turn."""
        try:
            response = await self._fetch("GET", f"/v1/turns/{turn_id}/fs", timeout_s=timeout_s)
        except NotFound as exc:
            if "no fs snapshot" in exc.message:
                return None
            raise
        return str(read_member(self._decode(response), "fs_root_hash", str))

    async def _json(self, method: str, path: str, *, query: Mapping[str, str], timeout_s: float) -> Any:
        return self._decode(await self._fetch(method, path, query=query, timeout_s=timeout_s))

    def _decode(self, response: _Response) -> Any:
        try:
            return msgspec.json.decode(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise PersistenceError(
                f"{self._where} answered {response.status} with {response.media_type or 'something'} that is no JSON; "
                "is it the HTTP port of a CXDB server, or a gateway's page?",
                status=response.status,
            ) from exc

    async def _fetch(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float,
        also: tuple[int, ...] = (),
    ) -> _Response:
        response = await self._send(method, path, query=query, content=content, timeout_s=timeout_s)
        if httpx.codes.is_success(response.status) or response.status in also:
            return response
        said = f"{method} {self._where}{path} answered {response.status} ({self._snippet(response)})"
        raise from_status(response.status, said, sent=method != "GET")

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float,
    ) -> _Response:
        where = f"{method} {self._where}{path}"
        request = self._client.build_request(
            method,
            path.lstrip("/"),
            params=query,
            content=content,
            headers=self._headers(content),
            extensions=self._extensions,
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as exc:
            raise BackendDown(f"{where}: the server was not reached ({type(exc).__name__}); is it up?") from exc
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise _lost(where, Lost.TIMED_OUT, change=method != "GET") from exc
        except httpx.HTTPError as exc:
            raise _lost(where, Lost.CLOSED, change=method != "GET") from exc

    def _headers(self, content: bytes | None) -> dict[str, str]:
        # What arrives is what is counted: nothing is unpacked, so nothing can unfold beyond the limit.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return headers

    async def _read(self, request: httpx.Request) -> _Response:
        response = await self._client.send(request, stream=True)
        try:
            most = HTTP_BYTES_MAX if response.is_success else ERROR_BODY_BYTES_MAX
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > most:
                    break
        finally:
            await response.aclose()
        if response.is_success and len(body) > most:
            raise LimitExceeded(
                f"{self._where} answered more than {most} bytes (http_bytes_max); ask for fewer turns at once",
                limit="http_bytes_max",
                allowed=most,
                actual=len(body),
            )
        return _Response(status=response.status_code, headers=response.headers, body=bytes(body[:most]))

    def _snippet(self, response: _Response) -> str:
        text = response.body.decode("utf-8", errors="replace")
        if response.media_type == "application/json":
            text = _message(response.body) or text
        return snippet(text, redact=self._redact)

    def _redact(self, text: str) -> str:
        if self._token is not None:
            text = text.replace(self._token.reveal(), "***")
        return self._redact_others(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def media_type(self) -> str:
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()


def quote_cql(text: str) -> str:
    """A text as a value of a search, in quotation marks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _base_url(address: HttpAddress) -> httpx.URL:
    try:
        url = httpx.URL(address.base_url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise Invalid("the HTTP address of the server is none; expected one as in http://127.0.0.1:9010") from exc
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query:
        raise Invalid(
            "the HTTP address of the server is not one of http or https without a user, a password or a query; "
            "give a token by reference"
        )
    if url.scheme == "http":
        if address.tls is not None:
            raise Invalid("the HTTP address of the server is plain http, and tls is set; write https, or leave tls out")
        refuse_plain(url.host, require_tls=address.require_tls)
    return url.copy_with(path=url.path.rstrip("/") + "/")


def _lost(where: str, reason: Lost, *, change: bool) -> PerdureError:
    if change:
        return OutcomeUnknown(f"{where}: no answer came ({reason}), so it may be done", reason=str(reason))
    if reason is Lost.TIMED_OUT:
        return TimedOut(f"{where}: no answer came in time; try again with more of it", reason=str(reason))
    return BackendDown(f"{where}: the connection ended before the answer did", reason=str(reason))


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def _message(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return ""
