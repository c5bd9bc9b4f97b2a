"""The server itself: who is let in, what it says of itself, and what happens when the store fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from perdure.adapters.cxdb.http_server import serving
from perdure.adapters.cxdb.http_server.answers import as_http_error
from perdure.adapters.cxdb.http_server.app import Access, CxdbHttpApp
from perdure.adapters.cxdb.http_server.limits import HEAD_BYTES_MAX, QUERY_FIELDS_MAX
from perdure.adapters.cxdb.http_server.serving import serving_http
from perdure.adapters.cxdb.http_server.serving_state import Served
from perdure.adapters.cxdb.server.settings import Profile
from perdure.errors import (
    BackendDown,
    ChainBroken,
    Forbidden,
    Invalid,
    KeyReused,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    Throttled,
    TimedOut,
    Unsupported,
)
from perdure.ports.secrets import Secret
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, STRICT, World, bundle, check_error, talking

BOTH = pytest.mark.parametrize("profile", [IMPROVED, STRICT])


class Failing:
    """A store of turns whose every call raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **__: object) -> object:
            raise self._error

        return call


@pytest.mark.parametrize(("profile", "server"), [(IMPROVED, "perdure"), (STRICT, None)])
async def test_it_is_healthy_and_says_what_it_is(profile: Profile, server: str | None) -> None:
    async with talking(profile) as talk:
        answer = await talk.http.get("/healthz")
        assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "ok", "text/plain")
        assert answer.headers.get("server") == server
        assert answer.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"


async def test_a_route_that_is_none_is_not_found_and_one_of_another_method_says_which() -> None:
    async with talking() as talk:
        for path in ("/", "/health", "/v1", "/v1/contexts/", "/v1/contexts/1/2/3", "/v1/blobs/x", "/v1/registry/types"):
            check_error(await talk.http.get(path), 404)
        answer = await talk.http.delete("/v1/contexts")
        check_error(answer, 405)
        assert answer.headers["allow"] == "GET, POST"
        head = await talk.http.head("/healthz")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "2")


async def test_in_the_strict_profile_both_are_not_found() -> None:
    async with talking(STRICT) as talk:
        for method, path in (("GET", "/health"), ("DELETE", "/v1/contexts"), ("OPTIONS", "/v1/contexts")):
            check_error(await talk.http.request(method, path), 404, says="route")


async def test_a_path_is_decoded_but_not_in_the_strict_profile() -> None:
    async with talking() as talk, talking(STRICT) as strict:
        assert (await talk.http.get("/v1/%6detrics")).status_code == 200
        assert (await strict.http.get("/v1/%6detrics")).status_code == 404


async def test_without_the_token_nobody_is_let_in() -> None:
    async with talking(token=Secret("tst-token")) as talk:
        assert (await talk.http.get("/healthz")).status_code == 200
        for path in ("/v1/contexts", "/v1/nothing"):
            for given in (
                None,
                "Bearer",
                "Bearer x",
                "Basic tst-token",
                "Bearer tst-token2",
                "tst-token",
                "Bearer \xe9",
            ):
                headers = {} if given is None else {b"Authorization": given.encode("latin-1")}
                answer = await talk.http.get(path, headers=headers)
                check_error(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "tst-token" not in answer.text
        for given in ("Bearer tst-token", "bearer tst-token"):
            assert (await talk.http.get("/v1/contexts", headers={"Authorization": given})).status_code == 200


@BOTH
async def test_a_site_that_was_led_here_is_not_let_in(profile: Profile) -> None:
    async with talking(profile, hosts=["Cxdb.Example"]) as talk:
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::1].evil.example:80x", ""):
            check_error(await talk.http.get("/v1/contexts", headers={"Host": host}), 403)
        for host in ("127.0.0.1", "localhost:9010", "[::1]:9010", "cxdb.example", "10.0.0.7:80"):
            assert (await talk.http.get("/v1/contexts", headers={"Host": host})).status_code == 200, host
        for origin in ("https://evil.example", "null"):
            check_error(await talk.http.post("/v1/contexts", headers={"Origin": origin}), 403)
        answer = await talk.http.post("/v1/contexts", headers={"Origin": "http://localhost:3000"})
        assert answer.status_code == 201
        assert (await talk.get("/v1/contexts"))["count"] == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104 - none is bound
async def test_an_address_that_others_reach_is_forbidden(host: str) -> None:
    world = World()
    with pytest.raises(Forbidden, match="allow_remote"):
        async with serving_http(await world.open_store(), world.space, clock=world.clock, host=host, port=0):
            raise AssertionError("it listens")


async def test_behind_a_gateway_any_address_and_name_is_fine() -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - that is the point
    async with talking(host=everywhere, allow_remote=True) as talk:
        for headers in ({"Host": "cxdb.example"}, {"Origin": "https://ui.example"}):
            assert (await talk.http.get("/v1/contexts", headers=headers)).status_code == 200
    async with talking(host=everywhere, allow_remote=True, hosts=["cxdb.example"]) as talk:
        check_error(await talk.http.get("/v1/contexts", headers={"Host": "evil.example"}), 403)


async def test_a_port_that_is_taken_is_an_error_and_one_that_was_given_back_is_not() -> None:
    async with talking() as talk:
        world = talk.world
        with pytest.raises(OSError, match="in use"):
            async with serving_http(talk.store, world.space, clock=world.clock, port=talk.port):
                raise AssertionError("it listens")
    async with talking(world=world) as later:
        assert (await later.http.get("/healthz")).text == "ok"


ERRORS = [
    (NotFound("x", resource="turn", id="1"), 404, 404),
    (Forbidden("x"), 403, 422),
    (Invalid("x"), 422, 422),
    (LimitExceeded("x", limit="y_max", allowed=1, actual=2), 422, 422),
    (Unsupported("x"), 422, 422),
    (KeyReused("x"), 409, 422),
    (Throttled("x", retry_after_s=2.4), 429, 500),
    (TimedOut("x"), 504, 500),
    (OutcomeUnknown("x"), 504, 500),
    (BackendDown("x"), 503, 500),
    (ChainBroken("x"), 500, 500),
    (PerdureError("x"), 500, 500),
]


@pytest.mark.parametrize(("error", "improved", "strict"), ERRORS, ids=lambda value: type(value).__name__)
async def test_what_a_store_raises_has_its_status(error: PerdureError, improved: int, strict: int) -> None:
    for profile, status in ((IMPROVED, improved), (STRICT, strict)):
        async with talking(profile, store=Failing(error)) as talk:
            answer = await talk.http.get("/v1/contexts")
            check_error(answer, status)
            found = as_http_error(error, profile)
            assert (found.status, found.message) == (status, answer.json()["error"]["message"])
            is_throttled = isinstance(error, Throttled) and profile is IMPROVED
            assert answer.headers.get("retry-after") == ("2" if is_throttled else None)


async def test_an_error_that_nobody_thought_of_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with talking(store=Failing(ZeroDivisionError("secret"))) as talk:
        with caplog.at_level(logging.ERROR, "perdure.cxdb"):
            answer = await talk.http.get("/v1/contexts")
        check_error(answer, 500, says="internal error")
        assert "secret" not in answer.text
        assert [record.name for record in caplog.records] == ["perdure.cxdb"]
        assert (await talk.http.get("/healthz")).text == "ok"


async def test_an_address_has_so_many_parameters_and_no_more() -> None:
    async with talking() as talk:
        many = {f"p{number}": "1" for number in range(QUERY_FIELDS_MAX)}
        assert (await talk.http.get("/v1/contexts", params=many)).status_code == 200
        check_error(await talk.http.get("/v1/contexts", params=many | {"more": "1"}), 422, says="query_fields_max")


async def test_a_query_is_a_form_and_the_last_of_two_counts() -> None:
    async with talking() as talk:
        await talk.begin(labels=("a b",))
        assert (await talk.http.get("/v1/contexts?label=a+b")).json()["count"] == 1
        assert (await talk.http.get("/v1/contexts?limit=x&limit=0")).json()["count"] == 0


async def test_answers_are_counted() -> None:
    async with talking() as talk:
        await talk.http.put("/v1/registry/bundles/b", content=bundle({}))
        await talk.http.get("/nothing")
        talk.world.clock.advance(65)
        assert await talk.get("/v1/metrics") == {
            "ts": 1_767_225_665_000,
            "uptime_seconds": 65,
            "objects": {
                "registry_bundles_total": 1,
                "registry_bundles_refused_total": 0,
                "registry_types_total": 1,
            },
            "http": {"requests_total": 2},
            "errors": {"total": 1, "by_type": {"404": 1}},
        }


async def test_requests_of_many_clients_at_once_are_answered() -> None:
    async with talking() as talk:
        context = await talk.begin()
        body = {"type_id": "t", "type_version": 1, "data": {"a": 1}}
        path = f"/v1/contexts/{context.context_id}/append"
        answers = await asyncio.gather(*(talk.http.post(path, json=body) for _ in range(20)))
        assert sorted(answer.json()["depth"] for answer in answers) == list(range(20))


@contextlib.asynccontextmanager
async def asking(app: CxdbHttpApp, messages: list[dict[str, Any]], *, query: bytes = b"") -> AsyncIterator[int]:
    """The status that a client gets who sends these messages and then nothing."""
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "raw_path": b"/v1/contexts", "query_string": query}
    await app({**scope, "headers": [(b"host", b"localhost")]}, receive, send)
    yield sent[0]["status"]


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    world = World()
    served = Served(store=await world.open_store(), space=world.space, clock=world.clock)
    app = CxdbHttpApp(served, access=Access(), body_timeout_s=0.0)
    async with asking(app, [{"type": "http.request", "body": b"{", "more_body": True}]) as status:
        assert status == 408
    async with asking(CxdbHttpApp(served, access=Access()), [{"type": "http.disconnect"}]) as status:
        assert status == 408


async def test_a_query_is_ascii_whatever_server_it_came_through() -> None:
    world = World()
    app = CxdbHttpApp(
        Served(store=await world.open_store(), space=world.space, clock=world.clock), access=Access(any_host=True)
    )
    for query, expected in ((b"\xff", 422), (b"q=%ff", 201)):
        async with asking(app, [{"type": "http.request"}], query=query) as status:
            assert status == expected


async def test_a_request_has_a_deadline() -> None:
    async with talking() as talk:
        deadline = Served(store=talk.store, space=talk.world.space, clock=talk.world.clock, timeout_s=5.0).deadline()
        talk.world.clock.advance(4.0)
        assert deadline.left_s == 1.0
        talk.world.clock.advance(1.0)
        with pytest.raises(TimedOut):
            _ = deadline.left_s


async def test_localhost_is_an_address_of_its_own() -> None:
    world = World()
    async with serving_http(
        await world.open_store(), world.space, clock=world.clock, host="localhost", port=0
    ) as server:
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert await first_line(server.port, request, host=server.host) == b"HTTP/1.1 200 OK"


async def test_what_is_no_request_is_left_alone() -> None:
    world = World()
    app = CxdbHttpApp(Served(store=await world.open_store(), space=world.space, clock=world.clock), access=Access())
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asks")

    await app({"type": "lifespan"}, receive, send)
    assert sent == []


async def test_other_protocols_are_left_alone() -> None:
    async with talking() as talk:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        answer = await talk.http.get("/healthz", headers=upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert answer.text == "ok"


async def test_a_head_of_the_longest_length_is_read_and_one_that_goes_on_refused() -> None:
    async with talking() as talk:
        head = b"GET /healthz?%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        longest = head % (b"q" * (HEAD_BYTES_MAX - len(head) + 2))
        assert await first_line(talk.port, longest) == b"HTTP/1.1 200 OK"
        assert await first_line(talk.port, head % b"\xff") == b"HTTP/1.1 400 Bad Request"
        endless = b"GET /healthz?".ljust(HEAD_BYTES_MAX + 1, b"q")
        assert await first_line(talk.port, endless) == b"HTTP/1.1 400 Bad Request"
        assert (await talk.http.get("/healthz")).text == "ok"


async def test_so_many_connections_are_answered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 2)
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with talking() as talk, contextlib.AsyncExitStack() as stack:
        for expected in (200, 200, 503):
            reader, writer = await asyncio.open_connection("127.0.0.1", talk.port)
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            writer.write(request)
            assert (await reader.readline()).startswith(b"HTTP/1.1 %d" % expected)


async def first_line(port: int, sent: bytes, *, host: str = "127.0.0.1") -> bytes:
    """How a server begins to answer."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(sent)
    line = (await reader.readline()).rstrip()
    writer.close()
    await writer.wait_closed()
    return line


@pytest.mark.parametrize("profile", [IMPROVED, STRICT])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/errors", "/v1/contexts/1/append-batch", "/v1/blobs/x"])
async def test_what_the_page_says_is_not_offered_is_not_found(profile: Profile, path: str) -> None:
    async with talking(profile) as talk:
        check_error(await talk.http.get(path), 404, says="route")
