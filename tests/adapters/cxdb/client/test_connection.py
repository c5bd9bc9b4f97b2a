"""One connection: what spoils it, what does not, and that a spoiled one is never asked again."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from perdure.adapters.cxdb.codec.frames import HEADER, Frame, MessageType
from perdure.adapters.cxdb.codec.requests import AppendTurn, GetHead, Hello, decode_request
from perdure.adapters.cxdb.codec.responses import ContextHead, TurnAppended
from perdure.adapters.cxdb.connection import ANSWER_BYTES_MAX, Connection, open_connection
from perdure.adapters.cxdb.endpoint import Endpoint
from perdure.adapters.cxdb.failures import Redact
from perdure.adapters.cxdb.pool import Pool, PoolSettings
from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX, content_hash
from perdure.errors import (
    BackendDown,
    Conflict,
    Forbidden,
    Invalid,
    KeyReused,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
    Unsupported,
)
from perdure.testing.environment import FakeClock
from tests.adapters.cxdb.client.scripted import (
    SOON_S,
    WAIT_S,
    Peer,
    Script,
    bare,
    fails,
    leaving,
    polite,
    raw,
    says,
    says_nothing,
    scripted,
)

HEAD = ContextHead(context_id=7, head_turn_id=9, head_depth=2)
ASK = GetHead(context_id=7)
PAYLOAD = b"payload"
HASH = bytes.fromhex(content_hash(PAYLOAD))
APPEND = AppendTurn(
    context_id=7,
    declared_type_id="test.note",
    declared_type_version=1,
    uncompressed_len=len(PAYLOAD),
    content_hash=HASH,
    payload=PAYLOAD,
)
APPENDED = TurnAppended(context_id=7, turn_id=10, depth=3, content_hash=HASH)
GOOD = struct.pack("<QQI", 7, 9, 2)

Step = Callable[[Peer, Frame], None]

SPOILED: dict[str, Step] = {
    "wrong id": raw(lambda frame: bare(frame, GOOD, req_id=frame.req_id + 1)),
    "the id of before": raw(lambda frame: bare(frame, GOOD, req_id=frame.req_id - 1)),
    "wrong type": raw(lambda frame: bare(frame, GOOD, msg_type=MessageType.PUT_BLOB)),
    "unknown type": raw(lambda frame: bare(frame, GOOD, msg_type=200)),
    "too short": raw(lambda frame: bare(frame, GOOD[:11])),
    "empty": raw(lambda frame: bare(frame, b"")),
    "more than asked": raw(lambda frame: bare(frame, GOOD + bytes(40)) + b"\0"),
    "two answers": raw(lambda frame: bare(frame, GOOD + bytes(40)) * 2),
    "oversize": raw(lambda frame: HEADER.pack(ANSWER_BYTES_MAX + 1, frame.msg_type, 0, frame.req_id)),
    "garbage": raw(lambda frame: b"HTTP/1.1 400 Bad Request\r\n\r\n"),  # noqa: ARG005 - whatever was asked
}
CUT: dict[str, Step] = {
    "no answer": says_nothing,
    "half a header": raw(lambda frame: bare(frame, GOOD)[:9]),
    "half an answer": raw(lambda frame: bare(frame, GOOD)[:20]),
    "reset": lambda peer, frame: peer.reset(),  # noqa: ARG005
}
# Code, what it means, and whether the connection may go on.
ERRORS: list[tuple[int, type[PerdureError], bool]] = [
    (404, NotFound, True),
    (409, Conflict, True),
    (422, Invalid, True),
    (429, Throttled, True),
    (403, Forbidden, False),
    (500, PersistenceError, False),
    (501, Unsupported, False),
    (503, BackendDown, False),
    (0, PersistenceError, False),
    (2**32 - 1, PersistenceError, False),
]


_opened: list[Pool] = []


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    while _opened:
        await _opened.pop().close()


def pool_of(endpoint: Endpoint, *, redact: Redact = str, **settings: float) -> Pool:
    pool = Pool(endpoint, clock=FakeClock(), redact=redact, settings=PoolSettings(**settings))  # type: ignore[arg-type]
    _opened.append(pool)
    return pool


async def connect(endpoint: Endpoint, *, timeout_s: float = WAIT_S) -> Connection:
    return await open_connection(endpoint, context=None, redact=str, timeout_s=timeout_s)


async def test_a_connection_greets_with_its_tag_and_is_asked_one_thing_after_another() -> None:
    async with scripted(polite(says(HEAD), says(HEAD), says(HEAD))) as server:
        connection = await connect(server.endpoint)
        assert [await connection.ask(ASK, timeout_s=WAIT_S) for _ in range(3)] == [HEAD] * 3
        sound = [connection.is_sound]
        await connection.close()
        assert [*sound, connection.is_sound] == [True, False]
    assert decode_request(server.frames[0]) == Hello(client_tag="perdure")
    assert [frame.req_id for frame in server.frames] == [1, 2, 3, 4]


@pytest.mark.parametrize("spoil", [*SPOILED.values()], ids=[*SPOILED])
async def test_f14_after_an_answer_that_is_none_the_connection_is_not_used_again(spoil: Step) -> None:
    async with scripted(polite(spoil), polite(says(HEAD))) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(BackendDown):
            await pool.ask(ASK, timeout_s=WAIT_S)
        assert pool.idle_count == 0
        assert await pool.ask(ASK, timeout_s=WAIT_S) == HEAD
        assert (server.accepted, pool.idle_count) == (2, 1)


@pytest.mark.parametrize("spoil", [*SPOILED.values()], ids=[*SPOILED])
async def test_f14_a_change_whose_answer_is_none_has_an_unknown_outcome_and_is_sent_once(spoil: Step) -> None:
    async with scripted(polite(spoil), polite(says(APPENDED))) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(OutcomeUnknown):
            await pool.ask(APPEND, timeout_s=WAIT_S)
        assert server.asked == [MessageType.APPEND_TURN]
        assert (await pool.ask(APPEND, timeout_s=WAIT_S), server.accepted) == (APPENDED, 2)


@pytest.mark.parametrize("cut", [*CUT.values()], ids=[*CUT])
async def test_f14_a_connection_that_ends_early_leaves_a_change_unknown_and_a_read_undone(cut: Step) -> None:
    async with scripted(leaving(cut)) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(OutcomeUnknown):
            await pool.ask(APPEND, timeout_s=WAIT_S)
        assert (server.asked, server.accepted) == ([MessageType.APPEND_TURN], 1)
        with pytest.raises(BackendDown):
            await pool.ask(ASK, timeout_s=WAIT_S)
        assert pool.idle_count == 0


async def test_a_read_whose_connection_was_closed_is_asked_once_more_on_a_new_one() -> None:
    async with scripted(leaving(says(HEAD), says_nothing), polite(says(HEAD))) as server:
        pool = pool_of(server.endpoint)
        assert [await pool.ask(ASK, timeout_s=WAIT_S) for _ in range(2)] == [HEAD] * 2
        assert (server.accepted, len(server.asked)) == (2, 3)


@pytest.mark.parametrize(("code", "kind", "goes_on"), ERRORS)
async def test_f14_an_error_frame_is_a_typed_error(code: int, kind: type[PerdureError], goes_on: bool) -> None:  # noqa: FBT001
    async with scripted(polite(fails(code, "what\nwas wrong"), says(HEAD)), polite(says(HEAD))) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(kind, match=r"GET_HEAD: the server answered \d+ \(what was wrong\)") as caught:
            await pool.ask(ASK, timeout_s=WAIT_S)
        assert (type(caught.value), caught.value.detail["status"]) == (kind, code)
        assert await pool.ask(ASK, timeout_s=WAIT_S) == HEAD
        assert server.accepted == (1 if goes_on else 2)


async def test_an_error_frame_that_says_nothing_readable_is_an_error_all_the_same() -> None:
    async with scripted(polite(raw(lambda frame: bare(frame, b"\x94\x01", msg_type=255)))) as server:
        with pytest.raises(PersistenceError, match="no text"):
            await pool_of(server.endpoint).ask(ASK, timeout_s=WAIT_S)


async def test_a_conflict_of_an_append_is_a_key_that_was_used_and_504_an_unknown_outcome() -> None:
    told = polite(fails(409, "this key is used"), fails(504, "lost"))
    async with scripted(told, polite(fails(409, "moved"))) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(KeyReused):
            await pool.ask(APPEND, timeout_s=WAIT_S)
        with pytest.raises(OutcomeUnknown):
            await pool.ask(APPEND, timeout_s=WAIT_S)
        with pytest.raises(Conflict) as caught:
            await pool.ask(APPEND, timeout_s=WAIT_S)
        assert type(caught.value) is Conflict


async def test_a_servers_text_is_shown_without_secrets_on_one_line_and_not_all_of_it() -> None:
    said = "\x1b[31mtoken hunter2\r\n" + "x" * 5_000
    async with scripted(polite(fails(422, said))) as server:
        pool = pool_of(server.endpoint, redact=lambda text: text.replace("hunter2", "***"))
        with pytest.raises(Invalid) as caught:
            await pool.ask(ASK, timeout_s=WAIT_S)
        message = caught.value.message
        assert "token *** xxx" in message
        assert "hunter2" not in repr(caught.value.detail) + message
        assert message.isprintable()
        assert len(message) < 300


async def _refuse(peer: Peer) -> None:
    frame, _ = await peer.request()
    peer.fail(frame, 422, "client_tag not utf8")
    await peer.hang()


async def _garble(peer: Peer) -> None:
    frame, _ = await peer.request()
    peer.say(bare(frame, b"\0" * 9))


async def _slam(peer: Peer) -> None:
    await peer.frame()


async def _turn_away(peer: Peer) -> None:
    peer.reset()


@pytest.mark.parametrize("script", [_refuse, _garble, _slam, _turn_away])
async def test_f14_a_server_that_takes_no_greeting_is_down_and_was_asked_nothing(script: Script) -> None:
    async with scripted(script) as server:
        for request in (ASK, APPEND):
            with pytest.raises(BackendDown):
                await pool_of(server.endpoint).ask(request, timeout_s=WAIT_S)
        assert server.asked == []


async def test_a_server_that_never_greets_is_down() -> None:
    async with scripted(Peer.hang) as server:
        with pytest.raises(BackendDown):
            await pool_of(server.endpoint).ask(APPEND, timeout_s=SOON_S)


async def test_where_nothing_listens_the_server_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(BackendDown, match=f"127.0.0.1:{port}"):
        await pool_of(Endpoint(host="127.0.0.1", port=port)).ask(APPEND, timeout_s=WAIT_S)


async def test_f9_a_server_that_hangs_costs_no_more_than_the_callers_patience() -> None:
    async with scripted(polite(), polite(), polite(says(HEAD))) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(TimedOut):
            await pool.ask(ASK, timeout_s=SOON_S)
        with pytest.raises(OutcomeUnknown):
            await pool.ask(APPEND, timeout_s=SOON_S)
        assert pool.idle_count == 0
        assert await pool.ask(ASK, timeout_s=WAIT_S) == HEAD
        assert server.accepted == 3


async def test_f9_one_request_has_a_patience_of_its_own() -> None:
    async with scripted(polite()) as server:
        with pytest.raises(OutcomeUnknown):
            await pool_of(server.endpoint, request_timeout_s=SOON_S).ask(APPEND, timeout_s=WAIT_S)


async def test_f9_who_is_cancelled_leaves_no_connection_behind() -> None:
    reached = asyncio.Event()

    async def late(peer: Peer) -> None:
        await peer.hello()
        await peer.frame()
        reached.set()
        await peer.hang()

    async with scripted(late, polite(says(HEAD))) as server:
        pool = pool_of(server.endpoint)
        task = asyncio.create_task(pool.ask(ASK, timeout_s=WAIT_S))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.idle_count == 0
        assert await pool.ask(ASK, timeout_s=WAIT_S) == HEAD
        assert server.accepted == 2


async def test_what_fits_no_frame_is_refused_before_anything_is_sent() -> None:
    payload = bytes(64 * 1_048_576 + 1)
    large = AppendTurn(
        context_id=7,
        declared_type_id="t",
        declared_type_version=1,
        uncompressed_len=len(payload),
        content_hash=HASH,
        payload=payload,
    )
    assert len(payload) > TURN_PAYLOAD_BYTES_MAX
    async with scripted(polite(says(HEAD))) as server:
        pool = pool_of(server.endpoint)
        with pytest.raises(LimitExceeded):
            await pool.ask(large, timeout_s=WAIT_S)
        assert await pool.ask(ASK, timeout_s=WAIT_S) == HEAD
        assert (server.accepted, server.asked) == (1, [MessageType.GET_HEAD])


@pytest.mark.parametrize("size", [20, 21])
async def test_an_answer_up_to_the_limit_is_read_and_one_byte_more_is_not(size: int) -> None:
    async with scripted(polite(raw(lambda frame: bare(frame, GOOD + bytes(size - 20))))) as server:
        pool = pool_of(server.endpoint, answer_bytes_max=20)
        if size == 20:
            assert await pool.ask(ASK, timeout_s=WAIT_S) == HEAD
        else:
            with pytest.raises(BackendDown):
                await pool.ask(ASK, timeout_s=WAIT_S)


class RecordingSocket:
    """A socket that remembers what was set on it."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux acknowledges at once when told to")
async def test_every_request_tells_the_system_to_acknowledge_at_once() -> None:
    async with scripted(polite(says(HEAD), says(HEAD))) as server:
        connection = await connect(server.endpoint)
        assert connection._socket is not None
        assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        recording = RecordingSocket()
        connection._socket = recording  # type: ignore[assignment]
        for _ in range(2):
            await connection.ask(ASK, timeout_s=WAIT_S)
        assert recording.options == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)] * 2
        await connection.close()
