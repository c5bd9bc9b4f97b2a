"""The HTTP side: what each status means, what a gateway may say instead, and that the token stays a secret."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import Sequence
from typing import Any, Final

import httpx
import pytest

from perdure.adapters.cxdb.backend import CxdbAddress, CxdbBackend
from perdure.adapters.cxdb.endpoint import Endpoint, Tls
from perdure.adapters.cxdb.failures import SNIPPET_CHARS_MAX
from perdure.adapters.cxdb.http import (
    ERROR_BODY_BYTES_MAX,
    SEARCH_PAGES_MAX,
    CxdbHttp,
    HttpAddress,
    quote_cql,
)
from perdure.adapters.cxdb.http_answers import CONTEXTS_FETCH_MAX, read_id
from perdure.domain.turn import content_hash
from perdure.errors import (
    BackendDown,
    Conflict,
    Forbidden,
    Invalid,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.secrets import Secret
from perdure.testing.contracts.stores import new_space
from perdure.testing.environment import FakeClock
from tests.adapters.cxdb.client.scripted import SOON_S, WAIT_S, AnswerHttp, Answering

TOKEN: Final = "cxdb_pat_0123456789abcdef"
URL: Final = "http://127.0.0.1:9010"

READ_ERRORS: Final[list[tuple[int, type[PerdureError]]]] = [
    (400, Invalid),
    (401, Forbidden),
    (403, Forbidden),
    (404, NotFound),
    (409, Conflict),
    (413, Invalid),
    (418, PersistenceError),
    (422, Invalid),
    (424, Invalid),
    (429, Throttled),
    (302, PersistenceError),
    (500, PersistenceError),
    (502, BackendDown),
    (503, BackendDown),
    (504, BackendDown),
]
LOST: Final[list[tuple[Exception, type[PerdureError], type[PerdureError]]]] = [
    (httpx.ConnectError("no"), BackendDown, BackendDown),
    (httpx.ConnectTimeout("no"), BackendDown, BackendDown),
    (httpx.ReadTimeout("no"), TimedOut, OutcomeUnknown),
    (httpx.WriteTimeout("no"), TimedOut, OutcomeUnknown),
    (httpx.ReadError("no"), BackendDown, OutcomeUnknown),
    (httpx.RemoteProtocolError("no"), BackendDown, OutcomeUnknown),
]


def client(answer: AnswerHttp, *, token: str | None = TOKEN, url: str = URL) -> CxdbHttp:
    secret = None if token is None else Secret(token)
    return CxdbHttp(HttpAddress(base_url=url), redact=str, token=secret, transport=Answering(answer))


def answering(status: int, body: Any = None, **headers: str) -> AnswerHttp:
    return lambda request: httpx.Response(status, json=body, headers=headers, request=request)


def error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message}}


def turn(number: int, payload: bytes, *, ids: type, **changed: Any) -> dict[str, Any]:
    return {
        "turn_id": ids(number),
        "parent_turn_id": ids(number - 1),
        "depth": number - 1,
        "declared_type": {"type_id": "test.note", "type_version": 1},
        "content_hash_b3": content_hash(payload),
        "encoding": 1,
        "compression": 0,
        "uncompressed_len": len(payload),
        "bytes_b64": base64.b64encode(payload).decode(),
    } | changed


def page(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"meta": {}, "turns": list(turns), "next_before_turn_id": None}


async def before(http: CxdbHttp) -> Sequence[Any]:
    return await http.turns_before(7, before_turn_id=3, limit=2, timeout_s=WAIT_S)


@pytest.mark.parametrize("ids", [str, int])
async def test_ids_come_as_text_or_as_numbers(ids: type) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=page(turn(1, b"\xff\0", ids=ids), turn(2, b"", ids=ids)))

    first, second = await before(client(answer))
    assert (first.turn_id, first.parent_turn_id, first.depth, first.payload) == (1, 0, 0, b"\xff\0")
    assert (second.turn_id, second.payload, second.type_id, second.type_version) == (2, b"", "test.note", 1)
    assert str(asked[0].url) == f"{URL}/v1/contexts/7/turns?view=raw&limit=2&before_turn_id=3"
    assert asked[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("value", [0, 2**64 - 1, "0", str(2**64 - 1)])
def test_any_id_of_64_bits_is_read(value: object) -> None:
    assert read_id(value) == int(value)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "value", [-1, 2**64, str(2**64), "9" * 400, "", "x", "1.0", " 1", "\u0661", 1.0, True, None, []]
)
def test_what_is_no_id_is_none(value: object) -> None:
    with pytest.raises(PersistenceError):
        read_id(value)


STRANGE: Final[list[Any]] = [
    [],
    {},
    {"turns": None},
    {"turns": [7]},
    page(turn(1, b"x", ids=int, bytes_b64="?")),
    page(turn(1, b"x", ids=int, bytes_b64=None)),
    page(turn(1, b"x", ids=int, content_hash_b3="no")),
    page(turn(1, b"x", ids=int, declared_type="x")),
    page(turn(1, b"x", ids=int, depth=-1)),
    page(turn(1, b"x", ids=int, depth=True)),
    page(turn(1, b"x", ids=int, turn_id=1.5)),
]


@pytest.mark.parametrize("body", STRANGE)
async def test_an_answer_that_is_not_of_the_protocol_is_told_so(body: Any) -> None:
    with pytest.raises(PersistenceError):
        await before(client(answering(200, body)))


@pytest.mark.parametrize(("status", "kind"), READ_ERRORS)
async def test_f15_each_status_has_its_error(status: int, kind: type[PerdureError]) -> None:
    http = client(answering(status, error(status, "before turn")))
    with pytest.raises(kind) as caught:
        await before(http)
    assert (type(caught.value), caught.value.detail["status"]) == (kind, status)
    assert f"answered {status} (before turn)" in caught.value.message


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_f15_a_gateway_that_lost_a_change_leaves_it_unknown(status: int) -> None:
    with pytest.raises(OutcomeUnknown):
        await client(answering(status)).put_bundle("b", b"{}", timeout_s=WAIT_S)


@pytest.mark.parametrize(("raised", "of_read", "of_change"), LOST)
async def test_f15_what_breaks_on_the_way_is_mapped(
    raised: Exception, of_read: type[PerdureError], of_change: type[PerdureError]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        del request
        raise raised

    http = client(answer)
    with pytest.raises(of_read) as read:
        await before(http)
    with pytest.raises(of_change) as change:
        await http.put_bundle("b", b"{}", timeout_s=WAIT_S)
    assert (type(read.value), type(change.value)) == (of_read, of_change)


class Never(httpx.AsyncBaseTransport):
    """A server that never answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async def body() -> Any:
            await asyncio.Event().wait()
            yield b""

        return httpx.Response(200, content=body(), request=request)


async def test_f15_a_server_that_hangs_costs_the_callers_patience() -> None:
    http = CxdbHttp(HttpAddress(base_url=URL), redact=str, transport=Never())
    with pytest.raises(TimedOut):
        await http.turns_before(7, before_turn_id=3, limit=2, timeout_s=SOON_S)
    with pytest.raises(OutcomeUnknown):
        await http.put_bundle("b", b"{}", timeout_s=SOON_S)


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_f15_a_page_of_html_is_told_from_an_answer(status: int) -> None:
    html = f"<html><title>Log in</title>\n<p>{TOKEN}{'x' * 9_000}</html>"

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, html=html, request=request)

    with pytest.raises(PerdureError) as caught:
        await before(client(answer))
    message = caught.value.message
    assert TOKEN not in message
    assert len(message) < SNIPPET_CHARS_MAX + 200
    assert ("text/html" if status == 200 else "<html><title>Log in</title> <p>***xxx") in message


async def test_the_token_is_shown_to_the_server_alone() -> None:
    secret = Secret(TOKEN)
    address = CxdbAddress(binary=Endpoint(host="127.0.0.1", port=1), http=HttpAddress(base_url=URL), token=secret)
    backend = CxdbBackend(address, space=new_space(), clock=FakeClock(), redact=str)
    assert TOKEN not in f"{address!r}{backend!r}{backend._remote.http!r}{vars(backend._remote.http)!r}"
    await backend.close()
    echo = client(answering(403, error(403, f"no such token: {TOKEN}")))
    with pytest.raises(Forbidden) as caught:
        await before(echo)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.detail)
    assert TOKEN not in shown
    assert "no such token: ***" in shown


@pytest.mark.parametrize("token", ["", "two\nlines", "with blank", "Ünicode", "a\r\nX-Evil: 1"])
def test_a_token_that_no_header_may_have_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(Invalid) as caught:
        client(answering(200), token=token)
    assert not token or token not in repr(caught.value)


async def test_an_error_that_is_endless_is_read_to_its_limit() -> None:
    fetched = 0

    async def endless() -> Any:
        nonlocal fetched
        while True:
            fetched += 1_000
            yield b"x" * 1_000

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, content=endless(), request=request)

    with pytest.raises(PersistenceError):
        await before(client(answer))
    assert fetched <= ERROR_BODY_BYTES_MAX + 1_000


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [(404, {}, "G0"), (409, {}, "G1"), (409, {"server": "perdure/1"}, "improved"), (401, {}, None), (200, {}, None)],
)
async def test_the_generation_is_asked_of_the_server_by_what_changes_nothing(
    status: int, headers: dict[str, str], expected: str | None
) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json=error(status, "x"), headers=headers)

    assert await client(answer).generation(timeout_s=WAIT_S) == expected
    (request,) = asked
    assert (request.method, request.url.path) == ("POST", "/v1/contexts")
    assert json.loads(request.content) == {"base_turn_id": "18446744073709551615"}


async def test_contexts_are_found_by_a_quoted_label_and_come_in_the_order_of_their_ids() -> None:
    asked: list[str] = []
    rows = [{"context_id": number, "head_turn_id": str(number), "head_depth": 0} for number in (30, 4, 200)]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["q"])
        return httpx.Response(200, json={"contexts": rows, "total_count": 3, "count": 3})

    found = await client(answer).search('a "b" \\ or label = "c"', timeout_s=WAIT_S)
    assert [head.context_id for head in found] == [4, 30, 200]
    assert asked == ['label = "a \\"b\\" \\\\ or label = \\"c\\""']
    assert quote_cql("") == '""'


@pytest.mark.parametrize(("total", "fits"), [(CONTEXTS_FETCH_MAX, True), (CONTEXTS_FETCH_MAX + 1, False)])
async def test_more_contexts_than_can_be_told_are_refused(total: int, fits: bool) -> None:  # noqa: FBT001
    http = client(answering(200, {"contexts": [], "total_count": total, "count": total}))
    for asked in (http.search("x", timeout_s=WAIT_S), http.contexts(timeout_s=WAIT_S)):
        if fits:
            assert list(await asked) == []
            continue
        with pytest.raises(LimitExceeded) as caught:
            await asked
        assert caught.value.detail["limit"] == "contexts_fetch_max"


def searched(pages: int) -> AnswerHttp:
    """A server with so many pages to look at, each of which has one context."""

    def answer(request: httpx.Request) -> httpx.Response:
        at = int(request.url.params.get("cursor", "0")) + 1
        body = {"contexts": [{"context_id": at, "head_turn_id": at, "head_depth": 0}], "total_count": 1}
        more = {"truncated": at < pages, "next_cursor": str(at) if at < pages else None}
        return httpx.Response(200, json=body | more)

    return answer


@pytest.mark.parametrize("pages", [1, 2, SEARCH_PAGES_MAX])
async def test_a_search_goes_on_where_the_server_stopped_to_look(pages: int) -> None:
    found = await client(searched(pages)).search("x", timeout_s=WAIT_S)
    assert [head.context_id for head in found] == list(range(1, pages + 1))


async def test_a_search_without_an_end_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="search_pages_max"):
        await client(searched(SEARCH_PAGES_MAX + 1)).search("x", timeout_s=WAIT_S)


async def test_the_contexts_of_all_pages_are_counted_together() -> None:
    half = [{"context_id": 1, "head_turn_id": 1, "head_depth": 0}] * 500
    http = client(answering(200, {"contexts": half, "total_count": 500, "truncated": True, "next_cursor": "7"}))
    with pytest.raises(LimitExceeded) as caught:
        await http.search("x", timeout_s=WAIT_S)
    assert (caught.value.detail["limit"], caught.value.detail["actual"]) == ("contexts_fetch_max", 1_000)


async def test_a_search_of_a_part_that_cannot_go_on_is_not_taken_for_all() -> None:
    http = client(answering(200, {"contexts": [], "total_count": 0, "truncated": True}))
    with pytest.raises(LimitExceeded, match="may be others"):
        await http.search("x", timeout_s=WAIT_S)


async def test_the_pages_of_a_search_have_one_patience() -> None:
    hanging = Never()
    first = answering(200, {"contexts": [], "total_count": 0, "truncated": True, "next_cursor": "7"})

    class Once(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if "cursor" in request.url.params:
                return await hanging.handle_async_request(request)
            return await Answering(first).handle_async_request(request)

    http = CxdbHttp(HttpAddress(base_url=URL), redact=str, transport=Once())
    with pytest.raises(TimedOut):
        await http.search("x", timeout_s=SOON_S)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:9010", "ftp://127.0.0.1", "http://", "http://user:pass@127.0.0.1", "http://127.0.0.1/?a=1"]
)
def test_what_is_no_http_address_is_invalid_and_not_shown(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        client(answering(200), url=url)
    assert "pass@" not in str(caught.value)


def test_plain_http_to_another_machine_is_forbidden_unless_it_is_allowed() -> None:
    with pytest.raises(Forbidden):
        client(answering(200), url="http://cxdb.example")
    allowed = HttpAddress(base_url="http://cxdb.example", require_tls=False)
    assert repr(CxdbHttp(allowed, redact=str)) == "CxdbHttp('http://cxdb.example')"
    client(answering(200), url="https://cxdb.example")


def test_tls_is_not_left_out_silently() -> None:
    with pytest.raises(Invalid, match="https"):
        CxdbHttp(HttpAddress(base_url=URL, tls=Tls()), redact=str)


async def test_a_base_path_is_kept() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, text="ok")

    await client(answer, url=f"{URL}/cxdb/").health(timeout_s=WAIT_S)
    await client(answer, url=f"{URL}/cxdb").health(timeout_s=WAIT_S)
    assert asked == ["/cxdb/healthz"] * 2
