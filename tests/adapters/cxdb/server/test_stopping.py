"""A server that stops finishes what is under way, for a time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.adapters.cxdb.server.conversing import (
    APPEND,
    ERROR,
    HELLO,
    WAIT_S,
    Client,
    append_turn,
    served,
)
from tests.adapters.cxdb.server.interrupting import Interrupted


class Held(Interrupted):
    """A store whose appends wait until a test lets them go on."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.begun = threading.Event()
        self.free = asyncio.Event()

    async def append(self, *args: Any, **kwargs: Any) -> Any:
        """An append, later."""
        self.begun.set()
        await self.free.wait()
        return await self._store.append(*args, **kwargs)


def test_a_server_that_stops_finishes_what_is_under_way():
    with served(wrap=Held) as running, running.client() as client, running.client() as idle:
        store: Any = running.store
        context_id = client.new_context()
        idle.answer(HELLO)
        client.send(APPEND, append_turn(context_id, b"x"))
        client.send(HELLO)
        assert store.begun.wait(WAIT_S)

        stopping = asyncio.run_coroutine_threadsafe(running.server.stop(), running.loop)
        assert idle.closed()
        running.loop.call_soon_threadsafe(store.free.set)

        answer = client.receive()
        assert answer is not None
        assert answer.msg_type == APPEND
        assert client.closed()
        stopping.result(WAIT_S)
        with pytest.raises(OSError, match="refused"):
            Client(running.server.port)


def test_a_server_that_stops_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture):
    with served(wrap=Held, shutdown_s=0.02) as running, running.client() as client:
        store: Any = running.store
        context_id = client.new_context()
        client.send(APPEND, append_turn(context_id, b"x"))
        assert store.begun.wait(WAIT_S)

        running.run(running.server.stop())

        assert client.closed()
    assert "1 requests took too long" in caplog.text


def test_a_connection_whose_request_takes_longer_than_it_may_be_idle_is_answered_and_then_idle():
    with served(wrap=Held, idle_s=0.25) as running, running.client() as client:
        store: Any = running.store
        client.send(APPEND, append_turn(1, b"x"))
        assert store.begun.wait(WAIT_S)
        with running.client() as other:
            assert other.closed()  # so the time of an idle connection is over, for the first one too
        running.loop.call_soon_threadsafe(store.free.set)

        answer = client.receive()

        assert answer is not None
        assert answer.msg_type == ERROR  # there is no such context
        assert client.closed()
