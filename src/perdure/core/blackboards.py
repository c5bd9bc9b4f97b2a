"""Blackboards of one tenant's scope: working data that agents share, with versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from perdure.core.memory_owner import owned_by, owner_of
from perdure.core.paging import Paging
from perdure.core.stores import Stores
from perdure.core.tables import expiry
from perdure.domain.canonical import JsonValue
from perdure.domain.change_values import refuse_above
from perdure.domain.container import Container, board_container
from perdure.domain.kinds import Kind
from perdure.domain.memory import Blackboard, board_of, board_value, merge_patch
from perdure.domain.records import Page
from perdure.domain.scope import Scope
from perdure.domain.table import expected_version
from perdure.domain.versioned import ROWS_PAGE_MAX, DeleteRow, PutRow, RowVersion, check_row_key
from perdure.errors import NotFound, StaleVersion

BOARDS_PAGE_DEFAULT: Final = 100
PATCH_ATTEMPTS_MAX: Final = 20  # of a patch that meets other writers; each attempt is a read and a write


class Blackboards:
    """Blackboards: the project's; with ``user=`` that user's; with ``user=`` and ``session=`` that session's."""

    def __init__(self, scope: Scope, *, stores: Stores) -> None:
        self._scope = scope
        self._stores = stores

    async def put(
        self,
        key: str,
        data: Mapping[str, JsonValue],
        *,
        user: str | None = None,
        session: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        if_version: int | None = None,
        ttl_s: float | None = None,
        expires_at: datetime | None = None,
        timeout_s: float | None = None,
    ) -> Blackboard:
        """Write a blackboard whole; the blackboard as it is now.

        ``if_version`` is the version that must be there (0: none), else ``StaleVersion``. It is gone ``ttl_s`` seconds
        from now, or at ``expires_at``. Raises ``Invalid``, ``LimitExceeded`` (above 256 KiB), ``NoRoute``,
        ``Unavailable``.
        """
        container = self._container(user, session)
        write = PutRow(
            key=check_row_key(key),
            value=board_value(data, metadata or {}, key=key),
            expected=expected_version(if_version),
            expires_at=expiry(self._stores.environment.clock.now(), ttl_s=ttl_s, expires_at=expires_at),
        )
        return await self._write(container, write, "put", timeout_s=timeout_s)

    async def find(
        self, key: str, *, user: str | None = None, session: str | None = None, timeout_s: float | None = None
    ) -> Blackboard | None:
        """The blackboard under a key, or None."""
        container = self._container(user, session)
        async with self._stores.reading(self._scope, Kind.MEMORY, timeout_s=timeout_s) as call:
            rows = await call.backend.rows.get(container, [check_row_key(key)], timeout_s=call.timeout_s)
        return None if key not in rows else board_of(rows[key], **_owner(container))

    async def get(
        self, key: str, *, user: str | None = None, session: str | None = None, timeout_s: float | None = None
    ) -> Blackboard:
        """The blackboard under a key. Raises ``NotFound``."""
        board = await self.find(key, user=user, session=session, timeout_s=timeout_s)
        if board is None:
            raise NotFound(f"there is no blackboard {key[:80]!r} here; it may have expired")
        return board

    async def patch(
        self,
        key: str,
        patch: Mapping[str, JsonValue],
        *,
        user: str | None = None,
        session: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> Blackboard:
        """Merge into a blackboard's data (RFC 7396): objects merge deeply, None removes, all else replaces.

        Its lifetime and metadata stay. Without ``if_version`` other writers' changes are kept: what they wrote
        meanwhile is read again and merged into. Raises ``NotFound``, ``StaleVersion``.
        """
        container = self._container(user, session)
        for attempt in range(1, PATCH_ATTEMPTS_MAX + 1):
            board = await self.get(key, user=user, session=session, timeout_s=timeout_s)
            if if_version is not None and board.version != if_version:
                raise StaleVersion(
                    f"blackboard {key[:80]!r} is at version {board.version}, not {if_version}; read it again",
                    found=board.version,
                )
            merged = merge_patch(board.data, dict(patch))
            assert isinstance(merged, dict), "an object patched with an object is an object"
            write = PutRow(
                key=key,
                value=board_value(merged, board.metadata, key=key),
                expected=RowVersion(version=board.version, incarnation=board.incarnation),
                expires_at=board.expires_at,
            )
            try:
                return await self._write(container, write, "patch", timeout_s=timeout_s)
            except StaleVersion:
                if if_version is not None or attempt == PATCH_ATTEMPTS_MAX:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def delete(
        self,
        key: str,
        *,
        user: str | None = None,
        session: str | None = None,
        if_version: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Remove a blackboard; it is fine that there is none, unless ``if_version`` is given (``StaleVersion``)."""
        container = self._container(user, session)
        write = DeleteRow(key=check_row_key(key), expected=expected_version(if_version))
        async with self._stores.writing(self._scope, container, "delete", timeout_s=timeout_s) as call:
            await call.backend.rows.write(container, [write], audit=call.audit, timeout_s=call.timeout_s)

    async def list(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        prefix: str = "",
        cursor: str | None = None,
        limit: int = BOARDS_PAGE_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[Blackboard]:
        """Blackboards whose keys begin with ``prefix``, in the byte order of their keys."""
        container = self._container(user, session)
        refuse_above("rows_page_max", ROWS_PAGE_MAX, limit)
        paging = Paging(self._scope, "boards", container, prefix, cursor=cursor, limit=limit)
        async with self._stores.reading(self._scope, Kind.MEMORY, timeout_s=timeout_s) as call:
            page = await call.backend.rows.query(
                container, prefix=prefix, after=paging.text(), limit=limit, timeout_s=call.timeout_s
            )
        boards = tuple(board_of(row, **_owner(container)) for row in page.rows)
        following = paging.cursor_after((boards[-1].key,)) if page.more and boards else None
        return Page(items=boards, next_cursor=following)

    async def erase_user(self, user: str, *, timeout_s: float | None = None) -> int:
        """Remove every blackboard of a user and of the user's sessions in this scope; returns how many."""
        erased = 0
        for container in await self._owned(owner_of(self._scope, user), timeout_s=timeout_s):
            async with self._stores.writing(self._scope, container, "erase", timeout_s=timeout_s) as call:
                erased += await call.backend.rows.erase(container, timeout_s=call.timeout_s)
        return erased

    async def of_user(self, user: str, *, timeout_s: float | None = None) -> AsyncIterator[Blackboard]:
        """Every blackboard of a user and of the user's sessions in this scope."""
        for container in await self._owned(owner_of(self._scope, user), timeout_s=timeout_s):
            after: str | None = None
            more = True
            while more:
                async with self._stores.reading(self._scope, Kind.MEMORY, timeout_s=timeout_s) as call:
                    page = await call.backend.rows.query(
                        container, after=after, limit=ROWS_PAGE_MAX, timeout_s=call.timeout_s
                    )
                for row in page.rows:
                    yield board_of(row, **_owner(container))
                    after = row.key
                more = page.more

    async def _write(
        self, container: Container, write: PutRow, operation: str, *, timeout_s: float | None
    ) -> Blackboard:
        async with self._stores.writing(self._scope, container, operation, timeout_s=timeout_s) as call:
            (row,) = await call.backend.rows.write(container, [write], audit=call.audit, timeout_s=call.timeout_s)
        assert row is not None, "a put returns its row"
        return board_of(row, **_owner(container))

    async def _owned(self, user: str, *, timeout_s: float | None) -> Sequence[Container]:
        return await owned_by(user, self._scope, "board", stores=self._stores, timeout_s=timeout_s)

    def _container(self, user: str | None, session: str | None) -> Container:
        # A scope made for a user has that user's memory and the project's, and must not name another.
        owner = None if user is None else owner_of(self._scope, user)
        return board_container(self._scope.space, user=owner, session=session)


def _owner(container: Container) -> dict[str, str | None]:
    match container.name:
        case (_, "user", user):
            return {"user": user, "session": None}
        case (_, "session", user, session):
            return {"user": user, "session": session}
        case _:
            return {"user": None, "session": None}
