"""Memory of one tenant's scope: sessions as one entry a message, and blackboards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.core.blackboards import Blackboards
from perdure.core.list_marks import decode_mark, encode_mark
from perdure.core.memory_owner import owned_by, owner_of
from perdure.core.stores import Call, Stores
from perdure.core.stream_cursors import decode_position, encode_position
from perdure.domain.canonical import JsonObject, exact_json, exact_value
from perdure.domain.change_values import refuse_above
from perdure.domain.container import SESSIONS, Container, session_container
from perdure.domain.kinds import Kind
from perdure.domain.log import (
    APPEND_ENTRIES_MAX,
    READ_BYTES_MAX,
    READ_ENTRIES_MAX,
    TTL_S_MAX,
    LogHead,
    LogPage,
    LogSettings,
    Position,
)
from perdure.domain.memory import Erased, Message, Remembered, Session, Window, message_entry, message_of
from perdure.domain.records import Page
from perdure.domain.scope import Scope
from perdure.domain.store_audit import AUDITS_PAGE_DEFAULT, StoreAudit
from perdure.errors import CursorInvalid, Invalid, NotFound
from perdure.ports.logs import PositionLost

WINDOW_MESSAGES_DEFAULT: Final = 100
ATTRIBUTES_BYTES_MAX: Final = 65_536  # a session's metadata is read with every page of it


class Memory:
    """Agent memory: ``append`` and ``window`` for sessions, ``boards`` for blackboards, ``erase_user`` for both.

    A session belongs to a user: the scope's, or ``user=``, any text. A scope made for a user touches no other user's.
    """

    def __init__(self, scope: Scope, *, stores: Stores) -> None:
        self._scope = scope
        self._stores = stores
        self.boards = Blackboards(scope, stores=stores)

    async def append(
        self,
        session: str,
        *messages: Message,
        user: str | None = None,
        ttl_s: int | None = None,
        expires_at: datetime | None = None,
        timeout_s: float | None = None,
    ) -> Sequence[Remembered]:
        """Append 1 to ``append_entries_max`` (48) messages to a session, all or none, in order; it is made if missing.

        A message whose ``message_id`` is there already is not written again; with other content it is ``KeyReused``.
        ``ttl_s`` (a lifetime that every append renews) and ``expires_at`` are for a session that this call makes; see
        ``configure`` for one that is there. Raises ``Invalid``, ``LimitExceeded`` (a message above 256 KiB),
        ``NoRoute``, ``Unavailable``; after ``OutcomeUnknown`` the same call again is safe if the messages have ids.
        """
        container = self._container(session, user)
        if not messages or not all(isinstance(message, Message) for message in messages):
            raise Invalid('an append has at least one message, each a Message: Message(role="user", content="hi")')
        refuse_above("append_entries_max", APPEND_ENTRIES_MAX, len(messages))
        environment = self._stores.environment
        now = environment.clock.now()
        entries = [
            message_entry(
                message,
                message_id=str(environment.ids.new()) if message.message_id is None else message.message_id,
                now=now,
            )
            for message in messages
        ]
        settings = LogSettings(ttl_s=_lifetime(ttl_s), expires_at=_zoned(expires_at))
        async with self._stores.writing(self._scope, container, "append", timeout_s=timeout_s) as call:
            appended = await call.backend.logs.append(
                container, entries, settings=settings, audit=call.audit, timeout_s=call.timeout_s
            )
        return [
            Remembered(
                message_id=entry.entry_id,
                sequence=entry.sequence,
                cursor=self._cursor(container, Position(epoch=entry.epoch, sequence=entry.sequence)),
                duplicate=entry.duplicate,
            )
            for entry in appended
        ]

    async def window(
        self,
        session: str,
        *,
        user: str | None = None,
        last: int | None = None,
        after: str | None = None,
        limit: int = WINDOW_MESSAGES_DEFAULT,
        bytes_max: int = READ_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Window:
        """Messages of a session, oldest first: the ``last`` n, or up to ``limit`` after a cursor or from the beginning.

        At most ``bytes_max`` bytes of messages either way, but never none: with ``last`` it is the newest that fit.
        Raises ``NotFound`` for a session that is not there (or expired), ``CursorInvalid`` (``memory.cursor_invalid``).
        """
        if last is not None and after is not None:
            raise Invalid("a window is the last messages or those after a cursor, not both")
        wanted = limit if last is None else last
        if wanted < 1 or bytes_max < 1:
            raise Invalid(f"a window of {wanted} messages and {bytes_max} bytes; at least 1 of each is expected")
        refuse_above("read_entries_max", READ_ENTRIES_MAX, wanted)
        refuse_above("read_bytes_max", READ_BYTES_MAX, bytes_max)
        container = self._container(session, user)
        async with self._stores.reading(self._scope, Kind.MEMORY, timeout_s=timeout_s) as call:
            position = None if after is None else self._position(container, after)
            page = await self._read(call, container, position, wanted, bytes_max=bytes_max, reverse=last is not None)
        return self._window(container, page, position, newest=last is not None)

    async def get_session(self, session: str, *, user: str | None = None, timeout_s: float | None = None) -> Session:
        """A session as a whole. Raises ``NotFound``."""
        found = await self.find_session(session, user=user, timeout_s=timeout_s)
        if found is None:
            raise _missing(session)
        return found

    async def find_session(
        self, session: str, *, user: str | None = None, timeout_s: float | None = None
    ) -> Session | None:
        """A session as a whole, or None."""
        container = self._container(session, user)
        async with self._stores.reading(self._scope, Kind.MEMORY, timeout_s=timeout_s) as call:
            head = await call.backend.logs.head(container, timeout_s=call.timeout_s)
        return None if head is None else _session(container, head)

    async def configure(
        self,
        session: str,
        *,
        user: str | None = None,
        ttl_s: int | None = None,
        expires_at: datetime | None = None,
        metadata: JsonObject | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> Session:
        """Set a session's lifetime, end and metadata, all three as given here; it is made if missing.

        ``if_version`` is the version it must have (0: it must not be there), else ``StaleVersion``.
        """
        container = self._container(session, user)
        attributes = exact_json(
            metadata or {},
            what="the metadata of a session",
            bytes_max=ATTRIBUTES_BYTES_MAX,
            limit="attributes_bytes_max",
        )
        settings = LogSettings(ttl_s=_lifetime(ttl_s), expires_at=_zoned(expires_at), attributes=attributes)
        async with self._stores.writing(self._scope, container, "configure", timeout_s=timeout_s) as call:
            head = await call.backend.logs.configure(
                container, settings, if_version=if_version, audit=call.audit, timeout_s=call.timeout_s
            )
        return _session(container, head)

    async def sessions(
        self,
        *,
        user: str | None = None,
        cursor: str | None = None,
        limit: int = WINDOW_MESSAGES_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[str]:
        """Names of a user's sessions in this scope, in an order of the backend's own."""
        owner = owner_of(self._scope, user)
        if limit < 1:
            raise Invalid(f"a page of {limit} sessions; at least 1 is expected")
        refuse_above("read_entries_max", READ_ENTRIES_MAX, limit)
        async with self._stores.reading(self._scope, Kind.MEMORY, timeout_s=timeout_s) as call:
            names: tuple[str, ...] = ()
            mark = decode_mark(call, cursor)
            more = True
            while more and not names:
                found, mark = await call.backend.logs.containers(
                    Kind.MEMORY, self._scope.tenant, user=owner, after=mark, limit=limit, timeout_s=call.timeout_s
                )
                names = tuple(each.name[2] for each in found if self._is_session(each))
                more = mark is not None
            return Page(items=names, next_cursor=encode_mark(call, mark))

    async def audits(
        self, session: str, *, user: str | None = None, after: UUID | None = None, limit: int = AUDITS_PAGE_DEFAULT
    ) -> Sequence[StoreAudit]:
        """Records of writes to a session whose route keeps them (``audit="writes"``), oldest first."""
        container = self._container(session, user)
        async with self._stores.reading(self._scope, Kind.MEMORY) as call:
            return await call.backend.logs.audits(container, after=after, limit=limit, timeout_s=call.timeout_s)

    async def delete_session(self, session: str, *, user: str | None = None, timeout_s: float | None = None) -> bool:
        """Remove a session, its messages and every trace of its name; False if there is none."""
        container = self._container(session, user)
        async with self._stores.writing(self._scope, container, "delete", timeout_s=timeout_s) as call:
            return await call.backend.logs.erase(container, timeout_s=call.timeout_s)

    async def erase_user(self, user: str, *, timeout_s: float | None = None) -> Erased:
        """Remove every session and blackboard of a user in this scope's project, and every trace of the user's name.

        Interrupted, it has removed some; the same call again removes the rest.
        """
        owner = owner_of(self._scope, user)
        sessions = 0
        for container in await self._owned(owner, timeout_s=timeout_s):
            async with self._stores.writing(self._scope, container, "erase", timeout_s=timeout_s) as call:
                sessions += await call.backend.logs.erase(container, timeout_s=call.timeout_s)
        boards = await self.boards.erase_user(owner, timeout_s=timeout_s)
        return Erased(sessions=sessions, blackboards=boards)

    async def export_user(self, user: str, *, timeout_s: float | None = None) -> AsyncIterator[JsonObject]:
        """Everything kept of a user in this scope, as JSON objects with a ``type``: session, message, blackboard."""
        owner = owner_of(self._scope, user)
        for container in await self._owned(owner, timeout_s=timeout_s):
            name = container.name[2]
            after: str | None = None
            first = True
            while True:
                try:
                    page = await self.window(name, user=owner, after=after, limit=READ_ENTRIES_MAX, timeout_s=timeout_s)
                except NotFound:
                    break  # it expired or was deleted while this went on
                if first:
                    yield {"type": "session", "session": name, "user": owner, "metadata": page.session.metadata}
                    first = False
                for message in page.messages:
                    yield _exported(message, session=name)
                after = page.next_cursor
                if not page.has_more:
                    break
        async for board in self.boards.of_user(owner, timeout_s=timeout_s):
            yield {
                "type": "blackboard",
                "scope": board.scope,
                "session": board.session,
                "key": board.key,
                "version": board.version,
                "data": board.data,
                "metadata": board.metadata,
            }

    async def _owned(self, user: str, *, timeout_s: float | None) -> Sequence[Container]:
        return await owned_by(user, self._scope, "session", stores=self._stores, timeout_s=timeout_s)

    def _is_session(self, container: Container) -> bool:
        return container.space == self._scope.space and container.name[0] == SESSIONS

    def _container(self, session: str, user: str | None) -> Container:
        return session_container(self._scope.space, user=owner_of(self._scope, user), session=session)

    def _cursor(self, container: Container, position: Position) -> str:
        return encode_position(self._scope, container, position)

    def _position(self, container: Container, cursor: str) -> Position:
        position = decode_position(self._scope, container, cursor)
        if position is None:
            raise _bad_cursor("unknown")
        return position

    async def _read(
        self,
        call: Call,
        container: Container,
        position: Position | None,
        limit: int,
        *,
        bytes_max: int,
        reverse: bool,
    ) -> LogPage:
        try:
            page = await call.backend.logs.read(
                container,
                after=position,
                limit=limit,
                reverse=reverse,
                bytes_max=bytes_max,
                timeout_s=call.timeout_s,
            )
        except PositionLost as exc:
            raise _bad_cursor(exc.reason) from exc
        if page is None:
            raise _missing(container.name[2])
        return page

    def _window(self, container: Container, page: LogPage, position: Position | None, *, newest: bool) -> Window:
        entries = list(reversed(page.entries)) if newest else list(page.entries)
        last = entries[-1].sequence if entries else position.sequence if position is not None else page.head.sequence
        return Window(
            session=_session(container, page.head),
            messages=tuple(message_of(entry) for entry in entries),
            next_cursor=self._cursor(container, Position(epoch=page.head.epoch, sequence=last)),
            has_more=page.more and not newest,
        )


def _session(container: Container, head: LogHead) -> Session:
    _, user, session = container.name
    metadata = exact_value(head.settings.attributes)
    return Session(
        session=session,
        user=user,
        sequence=head.sequence,
        earliest=head.earliest,
        version=head.version,
        ttl_s=head.settings.ttl_s,
        expires_at=head.settings.expires_at,
        metadata=dict(metadata) if isinstance(metadata, Mapping) else {},
        created_at=head.created_at,
        updated_at=head.updated_at,
    )


def _exported(message: Message, *, session: str) -> JsonObject:
    return {
        "type": "message",
        "session": session,
        "sequence": message.sequence,
        "message_id": message.message_id,
        "role": message.role,
        "content": message.content,
        "metadata": message.metadata,
        "timestamp": None if message.timestamp is None else message.timestamp.isoformat(),
    }


def _lifetime(ttl_s: int | None) -> int | None:
    if ttl_s is not None and not 0 < ttl_s <= TTL_S_MAX:
        raise Invalid(f"ttl_s is {ttl_s}; expected whole seconds from 1 to {TTL_S_MAX} (ttl_s_max)")
    return ttl_s


def _zoned(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise Invalid("expires_at needs a zone, as in datetime.now(UTC)")
    return moment


def _missing(session: str) -> NotFound:
    return NotFound(f"there is no session {session[:80]!r} of that user in this scope; it may have expired")


def _bad_cursor(reason: str) -> CursorInvalid:
    return CursorInvalid(
        "the cursor was not given for this session as it is now; begin again without a cursor",
        code="memory.cursor_invalid",
        reason=reason,
    )
