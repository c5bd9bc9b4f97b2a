"""Objects on PostgreSQL: an object of one batch is one call, a larger one is one transaction of several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from perdure.adapters.postgres.containers import OfPlane, read_mark
from perdure.adapters.postgres.patience import Calls, Deadline
from perdure.adapters.postgres.session import Connection, Row, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.container import Space, make_space
from perdure.domain.ids import tenant_uuid
from perdure.domain.object import MEDIA_TYPE_DEFAULT, ObjectPage, ObjectRef, check_digest
from perdure.errors import (
    BackendDown,
    Conflict,
    Corrupt,
    Invalid,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    Throttled,
    TimedOut,
)
from perdure.ports import object_rules
from perdure.ports.environment import Environment
from perdure.ports.object_streams import Spool, verified
from perdure.ports.objects import OpenObject
from perdure.ports.patience import Sleep

CHUNK_BYTES: Final = 262_144  # of a row: far above what a row costs, far below what a row may hold
BATCH_CHUNKS: Final = 16  # sent or read at once: 4 MiB, so that the way to the server and back is the smaller part


class PostgresObjects:
    """An ``ObjectStore`` over a session of the app role."""

    def __init__(
        self,
        session: Session,
        *,
        mode: str,
        env: str,
        environment: Environment,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._session = session
        self._calls = Calls(session, environment=environment, sleep=sleep)
        self._plane = OfPlane(mode=mode, env=env)

    async def put(
        self,
        space: Space,
        chunks: AsyncIterable[bytes] | bytes,
        *,
        expected_digest: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float,
    ) -> ObjectRef:
        """As the port promises."""
        place = self._plane.place_of_space(space)
        object_rules.check_put(expected_digest, media_type)
        deadline = self._calls.deadline(timeout_s)
        patience = asyncio.timeout(deadline.left_s)
        async with Spool() as spool:
            try:
                async with patience:
                    await spool.fill(chunks, expected_digest=expected_digest)
            except TimeoutError as exc:
                if not patience.expired():
                    raise
                raise TimedOut("not all chunks came within timeout_s; nothing was sent") from exc
            parameters = {
                **place,
                "digest": bytes.fromhex(spool.digest),
                "size_bytes": spool.size_bytes,
                "media_type": media_type,
            }
            if spool.size_bytes <= CHUNK_BYTES * BATCH_CHUNKS:
                kept = [chunk async for chunk in spool.pieces(CHUNK_BYTES)]
                created_at = await self._calls.write(
                    statement("objects/put"), {**parameters, "chunks": kept}, deadline=deadline
                )
            else:
                created_at = await self._put_large(spool, parameters, deadline=deadline)
            return ObjectRef(
                digest=spool.digest, size_bytes=spool.size_bytes, media_type=media_type, created_at=created_at
            )

    async def get(self, space: Space, digest: str, *, timeout_s: float) -> OpenObject:
        """As the port promises."""
        wanted = self._plane.place_of_space(space) | {"digest": bytes.fromhex(check_digest(digest))}
        ref, first = await self._batch(wanted, first=0, timeout_s=timeout_s)
        chunks = self._chunks(wanted, first, size_bytes=ref.size_bytes, timeout_s=timeout_s)
        return OpenObject(ref=ref, chunks=verified(chunks, digest=digest, size_bytes=ref.size_bytes))

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> ObjectRef | None:
        """As the port promises."""
        wanted = self._plane.place_of_space(space) | {"digest": bytes.fromhex(check_digest(digest))}
        ((*rows,),) = await self._calls.read(
            wanted["tenant_id"], [(statement("objects/find"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        return _ref(rows[0]) if rows else None

    async def list(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> ObjectPage:
        """As the port promises."""
        place = self._plane.place_of_space(space)
        object_rules.check_list(after, limit)
        wanted = place | {"after": None if after is None else bytes.fromhex(after), "limit": limit + 1}
        ((*rows,),) = await self._calls.read(
            place["tenant_id"], [(statement("objects/list"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        return ObjectPage(objects=tuple(_ref(row) for row in rows[:limit]), more=len(rows) > limit)

    async def delete(self, space: Space, digest: str, *, put_before: datetime | None = None, timeout_s: float) -> bool:
        """As the port promises."""
        place = self._plane.place_of_space(space)
        if put_before is not None and put_before.utcoffset() is None:
            raise Invalid("put_before has no time zone; use an aware time, as in datetime.now(UTC)")
        wanted = place | {"digest": bytes.fromhex(check_digest(digest)), "before": put_before}
        deadline = self._calls.deadline(timeout_s)
        return bool(await self._calls.write(statement("objects/delete"), wanted, deadline=deadline))

    async def spaces(
        self, tenant: str, *, after: str | None = None, limit: int, timeout_s: float
    ) -> tuple[Sequence[Space], str | None]:
        """As the port promises."""
        object_rules.check_spaces_page(tenant, limit)
        tenant_id = tenant_uuid(tenant)
        wanted = {"tenant_id": tenant_id, "after": read_mark(after), "limit": limit + 1}
        ((*rows,),) = await self._calls.read(
            tenant_id, [(statement("objects/spaces"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        found = [self._space(tenant, row["space"]) for row in rows[:limit]]
        return found, rows[limit - 1]["space_id"].hex if len(rows) > limit else None

    async def sweep(self, *, limit: int, timeout_s: float) -> int:  # noqa: ARG002 - the port's, for others
        """As the port promises: a put is one transaction, so that nothing is ever left of one that did not end."""
        return 0

    async def probe(self, *, timeout_s: float) -> None:
        """As the port promises."""
        await self.spaces("t_system", limit=1, timeout_s=timeout_s)

    async def close(self) -> None:
        """As the port promises: the session is its owner's to close."""

    def _space(self, tenant: str, name: str) -> Space:
        try:
            project, surface, app = msgspec.json.decode(name, type=tuple[str, str | None, str | None])
            return make_space(
                tenant=tenant,
                mode=self._plane.mode,
                env=self._plane.env,
                project=project,
                surface=surface,
                app=app,
            )
        except (msgspec.MsgspecError, PerdureError) as exc:
            raise Corrupt("a row names no space; was it written by something else?") from exc

    async def _put_large(self, spool: Spool, parameters: Mapping[str, Any], *, deadline: Deadline) -> datetime:
        while True:
            sent = False
            try:
                async with (
                    asyncio.timeout(deadline.left_s),
                    self._session.connection(writing=True, timeout_s=deadline.left_s) as connection,
                    connection.transaction(),
                ):
                    sent = True
                    return await _send(connection, spool, parameters, deadline=deadline)
            except TimeoutError as exc:
                if not sent:
                    raise TimedOut("no database connection came free within timeout_s; nothing was sent") from exc
                raise OutcomeUnknown(
                    "the database did not answer within timeout_s; the object may be kept. Putting it again is safe"
                ) from exc
            except (BackendDown, Throttled, Conflict):
                # All of it was rolled back, or nothing was sent.
                if not await deadline.pause():
                    raise

    async def _batch(
        self, wanted: Mapping[str, Any], *, first: int, timeout_s: float
    ) -> tuple[ObjectRef, Sequence[bytes]]:
        asked = {**wanted, "first": first, "limit": BATCH_CHUNKS}
        rows, chunks = await self._calls.read(
            wanted["tenant_id"],
            [(statement("objects/find"), asked), (statement("objects/chunks"), asked)],
            deadline=self._calls.deadline(timeout_s),
        )
        if not rows:
            digest = wanted["digest"].hex()
            raise NotFound(f"no object {digest} in this space", digest=digest)
        return _ref(rows[0]), [row["data"] for row in chunks]

    async def _chunks(
        self, wanted: Mapping[str, Any], first: Sequence[bytes], *, size_bytes: int, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        batch, number = first, 0
        while batch:
            for chunk in batch:
                yield chunk
            number += len(batch)
            if number * CHUNK_BYTES >= size_bytes:
                return
            _, batch = await self._batch(wanted, first=number, timeout_s=timeout_s)


async def _send(connection: Connection, spool: Spool, parameters: Mapping[str, Any], *, deadline: Deadline) -> datetime:
    created_at: datetime | None = None
    number = 0
    async for piece in spool.pieces(CHUNK_BYTES * BATCH_CHUNKS):
        chunks = [piece[offset : offset + CHUNK_BYTES] for offset in range(0, len(piece), CHUNK_BYTES)]
        given = {**parameters, "chunks": chunks, "first": number, "patience_ms": deadline.patience_ms}
        if created_at is None:
            cursor = await connection.execute(statement("objects/put"), given)
            row = await cursor.fetchone()
            assert row is not None, "a function call always returns a row"
            created_at = next(iter(row.values()))
        else:
            await connection.execute(statement("objects/add"), given)
        number += len(chunks)
    assert created_at is not None, "what is sent in several calls is not empty"
    return created_at


def _ref(row: Row) -> ObjectRef:
    return ObjectRef(
        digest=row["digest"],
        size_bytes=row["size_bytes"],
        media_type=row["media_type"],
        created_at=row["created_at"],
    )
