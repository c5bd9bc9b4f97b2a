"""A server of CXDB's binary protocol over any store of turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from perdure.adapters.cxdb.server.answering import Answering
from perdure.adapters.cxdb.server.connection import CLOSE_S, READ_BYTES, Connection
from perdure.adapters.cxdb.server.improved import ImprovedAnswers
from perdure.adapters.cxdb.server.numbered import NumberedTurns
from perdure.adapters.cxdb.server.numbering import Numbering
from perdure.adapters.cxdb.server.settings import Profile, ServerSettings
from perdure.adapters.cxdb.server.strict import StrictAnswers
from perdure.adapters.cxdb.server.writer import NumberedWriter
from perdure.domain.container import Space
from perdure.errors import Invalid
from perdure.ports.rows import RowStore
from perdure.ports.turns import TurnStore

_log: Final = logging.getLogger("perdure.cxdb")


class CxdbServer:
    """A server that listens. ``serving`` makes one."""

    def __init__(self, answers: Answering, settings: ServerSettings, *, turns: TurnStore) -> None:
        self._answers = answers
        self._turns = turns
        self._settings = settings
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._listening: asyncio.Server | None = None
        self._stopping = False
        self._sessions = 0
        self._turned_away = 0
        self._address = (settings.host, settings.port)

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._address[1]

    @property
    def turns(self) -> TurnStore:
        """What is served, under the ids that clients see: whoever shows it beside this server must go through here."""
        return self._turns

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def start(self) -> None:
        """Begin to listen. Raises ``OSError`` if the address cannot be had."""
        settings = self._settings
        self._listening = await asyncio.start_server(self._accept, settings.host, settings.port, limit=READ_BYTES)
        self._address = self._listening.sockets[0].getsockname()[:2]
        _log.info("CXDB's protocol is served on %s:%d (%s)", self.host, self.port, settings.profile.value)

    async def stop(self) -> None:
        """Accept no one, finish what is under way, for ``shutdown_s`` at most, and close every connection."""
        self._stopping = True
        if self._listening is not None:
            self._listening.close()
        for connection in self._connections.values():
            connection.stop()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=self._settings.shutdown_s)
            for task in late:
                task.cancel()
            if late:
                _log.warning("%d requests took too long to finish and were cut off", len(late))
                await asyncio.wait(late, timeout=CLOSE_S + self._settings.shutdown_s)
        if self._listening is not None:
            await self._listening.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = self._settings
        if self._stopping:
            writer.transport.abort()
            return
        if self.connections >= settings.connections_max:
            if not self._turned_away:
                _log.warning("%d clients are connected (connections_max); others are turned away", self.connections)
            self._turned_away += 1
            writer.transport.abort()
            return
        self._sessions += 1
        connection = Connection(reader, writer, session_id=self._sessions, answers=self._answers, settings=settings)
        task = asyncio.create_task(connection.run(), name=f"cxdb session {self._sessions}")
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if self._turned_away:
            _log.info("clients are accepted again; %d were turned away", self._turned_away)
            self._turned_away = 0
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection broke", exc_info=error)


@asynccontextmanager
async def serving(
    store: TurnStore, space: Space, *, settings: ServerSettings | None = None, rows: RowStore | None = None
) -> AsyncIterator[CxdbServer]:
    """A server of the turns of one space, for as long as the block lasts; then it finishes what is under way.

    The strict profile numbers turns and contexts by itself. It keeps its numbers in ``rows``, which must be as durable
    as the store, and must be the only writer of the space; others in this process write through ``turns``. Raises
    ``OSError`` if the address cannot be had, and, in the strict profile, what the stores raise when they are asked
    which numbers were given.
    """
    settings = settings or ServerSettings()
    answers: Answering
    if settings.profile is Profile.STRICT:
        if rows is None:
            raise Invalid("the strict profile keeps numbers of its own; give it the rows to keep them in")
        numbering = Numbering(rows, space, timeout_s=settings.request_s)
        writer = NumberedWriter(store, space, numbering=numbering, timeout_s=settings.request_s)
        await writer.open()
        answers = StrictAnswers(store, space, settings, writer=writer)
        turns: TurnStore = NumberedTurns(store, space, writer=writer)
    else:
        answers, turns = ImprovedAnswers(store, space, settings), store
    server = CxdbServer(answers, settings, turns=turns)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
