"""Connections of both profiles: order, bounds, what a client may not do to others, and what is logged."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perdure.adapters.cxdb.server import Profile
from tests.adapters.cxdb.server.conversing import (
    APPEND,
    BLOB,
    ERROR,
    HEAD,
    HELLO,
    LAST,
    WAIT_S,
    append_turn,
    digest,
    frame,
    get_last,
    item,
    served,
    turn_list,
)
from tests.adapters.cxdb.server.interrupting import Interrupted

PAYLOAD_BYTES_MAX = 64 * 1_048_576
both = pytest.mark.parametrize("profile", list(Profile))


@both
def test_requests_that_are_sent_at_once_are_answered_in_their_order(profile: Profile):
    with served(profile=profile) as running, running.client() as client:
        context_id = client.new_context()
        requests = []
        for n in range(300):
            asked = HEAD, struct.pack("<Q", context_id)
            if n % 3 == 0:
                asked = APPEND, append_turn(context_id, b"%d" % n)
            elif n % 3 == 1:
                asked = 0, b"unknown"
            requests.append(frame(*asked, req_id=n))
        client.socket.sendall(b"".join(requests))

        answers = [client.receive() for _ in range(300)]

    assert [answer and answer.req_id for answer in answers] == list(range(300))
    assert [answer and answer.msg_type for answer in answers] == [APPEND, ERROR, HEAD] * 100
    heads = [answer.payload for answer in answers if answer and answer.msg_type == HEAD]
    assert [struct.unpack("<QQI", head)[2] for head in heads] == list(range(100))


def test_a_request_may_come_byte_by_byte():
    with served() as running, running.client() as client:
        for byte in frame(HELLO, struct.pack("<HHI", 1, 0, 0), req_id=5):
            client.socket.sendall(bytes([byte]))

        answer = client.receive()

    assert answer is not None
    assert (answer.msg_type, answer.req_id) == (HELLO, 5)


def test_what_was_sent_before_the_end_is_answered():
    with served() as running, running.client() as client:
        client.send(HELLO)
        client.send(HELLO, req_id=2)
        client.socket.shutdown(socket.SHUT_WR)

        assert [client.receive(), client.receive()] != [None, None]
        assert client.receive() is None


def test_what_a_client_asked_is_not_done_once_it_is_gone():
    with served(wrap=Interrupted) as running:
        store: Any = running.store
        with running.client() as client:
            context_id = client.new_context()
            client.append(context_id, bytes(1_048_576))
            linger = struct.pack("ii", 1, 0)  # a reset, whatever is under way
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.socket.sendall(frame(LAST, get_last(context_id, 1)) * 1_000)
        running.run(until(lambda: running.server.connections == 0))

        assert store.calls["list"] < 1_000
        with running.client() as client:
            assert client.head(context_id)[1] == 0


@both
def test_eight_clients_append_to_one_context_and_to_their_own(profile: Profile):
    with served(profile=profile) as running:
        with running.client() as client:
            shared = client.new_context()

        def converse(number: int) -> list[int]:
            with running.client() as mine:
                own = mine.new_context()
                ids = []
                for n in range(12):
                    ids.append(mine.append(own, b"own %d %d" % (number, n))[0])
                    ids.append(mine.append(shared, b"shared %d %d" % (number, n))[0])
                assert mine.head(own)[1] == 11
                return ids

        with ThreadPoolExecutor(8) as pool:
            ids = [one for found in pool.map(converse, range(8)) for one in found]
        with running.client() as client:
            assert client.head(shared)[1] == 8 * 12 - 1

    assert len(set(ids)) == 8 * 24
    if profile is Profile.STRICT:
        assert sorted(ids) == list(range(1, 8 * 24 + 1))


def test_one_client_more_than_allowed_is_turned_away(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="perdure.cxdb")
    with served(connections_max=2) as running:
        with running.client() as first, running.client() as second:
            first.answer(HELLO)
            second.answer(HELLO)
            for _ in range(3):
                with running.client() as third:
                    assert third.closed()
            assert running.server.connections == 2
        running.run(until(lambda: running.server.connections == 0))
        with running.client() as client:
            assert client.answer(HELLO) == struct.pack("<QH", 3, 1)

    assert caplog.text.count("are turned away") == 1
    assert "3 were turned away" in caplog.text


async def until(true: Any) -> None:
    """Wait for the loop to see to it."""
    while not true():  # noqa: ASYNC110 - the server has no event for it, and no time passes
        await asyncio.sleep(0)


@both
def test_a_connection_without_requests_is_closed_after_a_time(profile: Profile):
    with served(idle_s=0.02, profile=profile) as running, running.client() as client:
        assert client.closed()


def test_a_frame_that_does_not_go_on_is_idle_too():
    with served(idle_s=0.02) as running, running.client() as client:
        client.socket.sendall(frame(HELLO, b"12345678")[:-1])

        assert client.closed()


def test_a_client_that_takes_no_answers_is_cut_off():
    with served(write_s=0.05) as running:
        with running.client() as client:
            context_id = client.new_context()
            client.append(context_id, bytes(32 * 1_048_576))
        with running.client() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.send(LAST, get_last(context_id, 1))
            running.run(until(lambda: running.server.connections == 0))
        with running.client() as client:
            assert client.head(context_id)[1] == 0


@both
def test_the_largest_frame_is_read_and_one_byte_more_is_not(profile: Profile):
    with served(profile=profile, payload_bytes_max=100) as running:
        with running.client() as client:
            code, _ = client.error(0, bytes(100))
            assert code == 422
        with running.client() as client:
            client.send(HELLO, bytes(101), req_id=5)
            answer = client.receive() if profile is Profile.IMPROVED else None
            if answer is not None:
                assert answer.req_id == 5
                code, detail = answer.error
                assert (code, detail.partition(" (")[0]) == (422, "frame size 101 exceeds maximum 100")
            assert (answer is None) == (profile is Profile.STRICT)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.closed()


def test_a_frame_too_large_is_answered_though_its_bytes_still_come():
    with served() as running, running.client() as client:
        sending = threading.Thread(target=send_until_closed, args=(client.socket, PAYLOAD_BYTES_MAX + 1))
        sending.start()
        answer = client.receive()
        assert answer is not None
        assert (answer.req_id, answer.error[0]) == (6, 422)
        client.socket.close()
        sending.join(WAIT_S)
        with running.client() as other:
            other.answer(HELLO)


def send_until_closed(connection: socket.socket, size: int) -> None:
    """A frame of so many bytes, or what of it is taken."""
    try:
        connection.sendall(struct.pack("<IHHQ", size, APPEND, 0, 6))
        for _ in range(size // 1_048_576):
            connection.sendall(bytes(1_048_576))
    except OSError:
        return


def test_an_answer_that_is_too_large_is_refused_and_says_what_to_do():
    with served(payload_bytes_max=1_000) as running, running.client() as client:
        context_id = client.new_context()
        for size in (407, 406, 406):
            client.append(context_id, bytes(size))
        client.put_blob(bytes(900))

        assert len(client.answer(LAST, get_last(context_id, 2))) == 1_000
        assert len(client.answer(LAST, get_last(context_id, 3, payload=0))) == 280
        for limit in (3, 2**32 - 1):
            code, detail = client.error(LAST, get_last(context_id, limit))
            assert (code, "one answer holds 1000 (payload_bytes_max); ask for fewer" in detail) == (422, True)
        client.append(context_id, bytes(407))
        code, detail = client.error(LAST, get_last(context_id, 2))
        assert (code, "1001 bytes or more" in detail) == (422, True)
        assert client.head(context_id)[1] == 3


def test_a_blob_that_no_frame_holds_is_refused():
    with served(payload_bytes_max=1_000) as running, running.client() as client:
        for size in (996, 997):
            running.run(running.store.put_blob(running.space, bytes(size), timeout_s=1))

        assert len(client.answer(BLOB, digest(bytes(996)))) == 1_000
        assert client.error(BLOB, digest(bytes(997))) == (
            422,
            "the answer has 1001 bytes, at most 1000 (payload_bytes_max); ask for less",
        )


def test_an_answer_holds_all_turns_up_to_its_limit():
    with served(answer_turns_max=3) as running, running.client() as client:
        context_id = client.new_context()
        for n in range(3):
            client.append(context_id, b"%d" % n)
        assert client.answer(LAST, get_last(context_id, 2**32 - 1))[:4] == struct.pack("<I", 3)

        client.append(context_id, b"3")

        assert client.answer(LAST, get_last(context_id, 3))[:4] == struct.pack("<I", 3)
        code, detail = client.error(LAST, get_last(context_id, 4))
        assert (code, "3 (answer_turns_max); ask for fewer" in detail) == (422, True)


def test_more_turns_than_a_page_of_the_store_are_one_answer():
    with served() as running, running.client() as client:
        context_id = client.new_context()
        ids = [client.append(context_id, b"%d" % n)[0] for n in range(502)]

        answer = client.answer(LAST, get_last(context_id, 501))

    expected = [item(ids[n], ids[n - 1], n, b"%d" % n) for n in range(1, 502)]
    assert answer == turn_list(*expected)


def test_a_defect_is_answered_and_logged_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture):
    with served(wrap=Interrupted) as running, running.client() as client:
        store: Any = running.store
        context_id = client.new_context()
        store.fail["head"] = RuntimeError("a defect")

        code, detail = client.error(HEAD, struct.pack("<Q", context_id))

        assert (code, detail) == (500, "internal error; the log of the server says more")
        assert client.head(context_id) == (0, 0)
    assert "a defect" in caplog.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    facts: dict[str, Any] = vars(record)["cxdb"]
    assert (facts["msg_type"], facts["error"], facts["answered"]) == (HEAD, "RuntimeError", 500)


def test_a_defect_closes_a_strict_connection_and_no_other():
    with served(wrap=Interrupted, profile=Profile.STRICT) as running, running.client() as client:
        store: Any = running.store
        client.new_context()
        store.fail["list"] = RuntimeError("a defect")
        with running.client() as other:
            assert other.ask(LAST, get_last(1, 1)) is None

        assert client.head(1) == (0, 0)


def test_nothing_that_a_client_sends_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    secret = b"hush-hush"
    with served() as running, running.client() as client:
        context_id = client.new_context()
        client.error(HELLO, struct.pack("<HH", 1, 9) + secret + b"\xff")
        client.error(APPEND, append_turn(context_id, secret, content_hash=bytes(32)))
        client.error(APPEND, append_turn(context_id, secret, compression=1))
        client.append(context_id, secret, key=secret)
        client.error(APPEND, append_turn(context_id, secret + secret, key=secret))
        client.error(BLOB, secret)

    assert "a request failed" in caplog.text
    assert secret.decode() not in caplog.text
    assert repr(secret)[2:-1] not in caplog.text
    assert all(secret.decode() not in repr(vars(record)) for record in caplog.records)


def test_frames_are_sent_without_waiting_for_an_acknowledgement(monkeypatch: pytest.MonkeyPatch):
    written: list[bytes] = []
    delays: list[int] = []
    write = asyncio.StreamWriter.write

    def noted(writer: asyncio.StreamWriter, data: bytes) -> None:
        raw = writer.get_extra_info("socket")
        delays.append(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        written.append(data)
        write(writer, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", noted)
    with served() as running, running.client() as client:
        context_id = client.new_context()
        turn_id, _ = client.append(context_id, b"payload")
        client.answer(LAST, get_last(context_id, 1))

    assert len(written) == 3
    assert written[1][16:] == struct.pack("<QQI", context_id, turn_id, 0) + digest(b"payload")
    assert all(delays)
