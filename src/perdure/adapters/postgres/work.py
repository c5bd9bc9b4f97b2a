"""Units of work on PostgreSQL: each save is one call of one function, each read one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import msgspec

from perdure.adapters.postgres.audits import audit_json
from perdure.adapters.postgres.containers import OfPlane
from perdure.adapters.postgres.patience import Calls
from perdure.adapters.postgres.session import Connection, Row, Session, call_joined
from perdure.adapters.postgres.statements import statement
from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.work import (
    AttributeVersion,
    HistoryEntry,
    StoredWork,
    WorkCommitted,
    WorkStatus,
    WorkUnit,
    WorkWrite,
    unit_container,
)
from perdure.errors import Corrupt, KeyReused, NotFound, StaleVersion
from perdure.ports import work_rules
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep

_BIGINT_MAX: Final = 2**63 - 1

Record = TypeVar("Record", AttributeVersion, WorkUnit)


class PostgresWork:
    """A ``WorkStore`` over a session of the app role."""

    def __init__(
        self,
        session: Session,
        *,
        mode: str,
        env: str,
        environment: Environment,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._calls = Calls(session, environment=environment, sleep=sleep)
        self._plane = OfPlane(mode=mode, env=env)

    async def load(
        self, space: Space, unit_id: UUID, *, connection: object | None = None, timeout_s: float
    ) -> StoredWork | None:
        """As the port promises."""
        place = self._plane.place_of_space(space) | {"unit_id": unit_id}
        if connection is None:
            deadline = self._calls.deadline(timeout_s)
            ((row,),) = await self._calls.read(place["tenant_id"], [(statement("work/load"), place)], deadline=deadline)
            loaded = row["loaded"]
        else:
            loaded = await call_joined(cast("Connection", connection), statement("work/load"), place)
        if loaded is None:
            return None
        attributes = [_record(kept, AttributeVersion) for kept in loaded["attributes"]]
        return StoredWork(
            unit=_record(loaded["unit"], WorkUnit), attributes={version.key: version for version in attributes}
        )

    async def commit(
        self,
        space: Space,
        write: WorkWrite,
        *,
        audit: StoreAudit | None = None,
        connection: object | None = None,
        timeout_s: float,
    ) -> WorkCommitted:
        """As the port promises."""
        work_rules.check_work_write(write)
        unit = write.unit
        deadline = self._calls.deadline(timeout_s)
        given = {
            **self._plane.place_of_space(space),
            "container_id": self._plane.place(unit_container(space, unit.unit_id)).container_id,
            "write": _write_json(write),
            "audit": audit_json(audit),
        }
        if connection is None:
            answer = await self._calls.write(statement("work/commit"), given, deadline=deadline)
        else:
            given["patience_ms"] = deadline.patience_ms
            answer = await call_joined(cast("Connection", connection), statement("work/commit"), given)
        if "reused" in answer:
            raise KeyReused(
                f"request {ascii(write.request_id)[:80]} was done before with other content; nothing was written",
                request_id=write.request_id,
            )
        if "replayed" in answer:
            stored = await self.load(space, unit.unit_id, connection=connection, timeout_s=deadline.left_s)
            if stored is None:
                raise NotFound(f"unit of work {unit.unit_id} was deleted meanwhile", unit_id=str(unit.unit_id))
            return WorkCommitted(unit=stored.unit, replayed=True)
        if "stale" in answer:
            raise _stale(unit.unit_id, answer["stale"])
        return WorkCommitted(unit=replace(unit, **_moved(answer)), replayed=False)

    async def heartbeat(self, space: Space, unit_id: UUID, *, owner: str, now: datetime, timeout_s: float) -> WorkUnit:
        """As the port promises."""
        given = self._plane.place_of_space(space) | {"unit_id": unit_id, "owner": owner, "now": now}
        answer = await self._calls.write(statement("work/beat"), given, deadline=self._calls.deadline(timeout_s))
        if answer is None:
            raise NotFound(f"no unit of work {unit_id} in this space", unit_id=str(unit_id))
        if "stale" in answer:
            raise StaleVersion(
                f"unit of work {unit_id} is not ACTIVE, or its lease is another's; stop working on it",
                unit_id=str(unit_id),
                found=answer["stale"],
            )
        return _record(answer, WorkUnit)

    async def history(
        self, space: Space, unit_id: UUID, *, after: int = 0, limit: int, reverse: bool = False, timeout_s: float
    ) -> Sequence[HistoryEntry]:
        """As the port promises."""
        work_rules.check_history_page(limit)
        wanted = {"unit_id": unit_id, "after": min(after, _BIGINT_MAX), "limit": limit}
        query = statement("work/history_reverse" if reverse else "work/history")
        return [_entry(row) for row in await self._read(space, query, wanted, timeout_s=timeout_s)]

    async def find_history(
        self,
        space: Space,
        *,
        instance_id: str | None = None,
        actor_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> Page[HistoryEntry]:
        """As the port promises."""
        work_rules.check_history_page(limit)
        after_time, after_id = work_rules.read_place_mark(cursor) or (None, None)
        wanted = {
            "instance_id": instance_id,
            "actor_id": actor_id,
            "since": since,
            "until": until,
            "after_time": after_time,
            "after_id": after_id,
            "limit": limit + 1,
        }
        rows = await self._read(space, statement("work/find_history"), wanted, timeout_s=timeout_s)
        found = tuple(_entry(row) for row in rows[:limit])
        more = len(rows) > limit
        mark = work_rules.place_mark(found[-1].transition_timestamp, found[-1].history_id) if more else None
        return Page(items=found, next_cursor=mark)

    async def attribute_versions(
        self, space: Space, unit_id: UUID, *, after: tuple[str, int] | None = None, limit: int, timeout_s: float
    ) -> Sequence[AttributeVersion]:
        """As the port promises."""
        work_rules.check_history_page(limit)
        after_key, after_version = after or (None, None)
        wanted = {"unit_id": unit_id, "after_key": after_key, "after_version": after_version, "limit": limit}
        rows = await self._read(space, statement("work/attribute_versions"), wanted, timeout_s=timeout_s)
        return [_record(row, AttributeVersion) for row in rows]

    async def units(
        self,
        space: Space,
        *,
        status: WorkStatus | None = None,
        instance_id: str | None = None,
        parent_id: UUID | None = None,
        cursor: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> Page[WorkUnit]:
        """As the port promises."""
        work_rules.check_units_page(limit)
        after_time, after_id = work_rules.read_place_mark(cursor) or (None, None)
        wanted = {
            "status": status,
            "instance_id": instance_id,
            "parent_id": parent_id,
            "after_time": after_time,
            "after_id": after_id,
            "limit": limit + 1,
        }
        rows = await self._read(space, statement("work/units"), wanted, timeout_s=timeout_s)
        found = tuple(_record(row, WorkUnit) for row in rows[:limit])
        more = len(rows) > limit
        mark = work_rules.place_mark(found[-1].created_at, found[-1].unit_id) if more else None
        return Page(items=found, next_cursor=mark)

    async def stale(self, space: Space, *, before: datetime, limit: int, timeout_s: float) -> Sequence[WorkUnit]:
        """As the port promises."""
        work_rules.check_units_page(limit)
        wanted = {"before": before, "limit": limit}
        rows = await self._read(space, statement("work/stale"), wanted, timeout_s=timeout_s)
        return [_record(row, WorkUnit) for row in rows]

    async def delete(
        self, space: Space, unit_id: UUID, *, last: WorkWrite, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """As the port promises."""
        work_rules.check_work_write(last)
        given = {
            **self._plane.place_of_space(space),
            "container_id": self._plane.place(unit_container(space, unit_id)).container_id,
            "unit_id": unit_id,
            "version": last.unit.version - 1,
            "entries": msgspec.json.encode([_entry_document(entry) for entry in last.entries]).decode(),
            "audit": audit_json(audit),
        }
        answer = await self._calls.write(statement("work/delete"), given, deadline=self._calls.deadline(timeout_s))
        if "stale" in answer:
            raise _stale(unit_id, answer["stale"])

    async def _read(self, space: Space, query: Any, wanted: Mapping[str, Any], *, timeout_s: float) -> list[Row]:
        place = self._plane.place_of_space(space)
        ((*rows,),) = await self._calls.read(
            place["tenant_id"], [(query, {**place, **wanted})], deadline=self._calls.deadline(timeout_s)
        )
        return rows


def _write_json(write: WorkWrite) -> str:
    return msgspec.json.encode(
        {
            "unit": write.unit,
            "entries": [_entry_document(entry) for entry in write.entries],
            "attributes": write.attributes,
            "expected_beats": write.expected_beats,
            "request_id": write.request_id,
            "fingerprint": write.fingerprint,
            "parent_step": write.parent_step,
        }
    ).decode()


def _entry_document(entry: HistoryEntry) -> dict[str, Any]:
    # Metadata and changes are kept as text: jsonb would write numbers in another way than they were hashed in.
    metadata = entry.transition_metadata
    return {
        **cast("dict[str, Any]", msgspec.to_builtins(entry)),
        "transition_metadata": None if metadata is None else msgspec.json.encode(metadata).decode(),
        "changes": msgspec.json.encode(entry.changes).decode(),
    }


def _entry(row: Row) -> HistoryEntry:
    try:
        metadata = row["transition_metadata"]
        kept = {
            **row,
            "transition_metadata": None if metadata is None else msgspec.json.decode(metadata),
            "changes": msgspec.json.decode(row["changes"]),
        }
        return msgspec.convert(kept, HistoryEntry)
    except msgspec.MsgspecError as exc:
        raise Corrupt(
            f"history entry {row['sequence']} of unit {row['unit_id']} cannot be read; it was changed from outside",
            unit_id=str(row["unit_id"]),
            sequence=row["sequence"],
        ) from exc


def _record(row: Mapping[str, Any], of: type[Record]) -> Record:
    try:
        return msgspec.convert(row, of)
    except msgspec.MsgspecError as exc:
        raise Corrupt("a row of a unit of work cannot be read; it was changed from outside") from exc


def _moved(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the database knows better than whoever saved."""
    beat = answer["heartbeat_at"]
    return {**answer, "heartbeat_at": None if beat is None else datetime.fromisoformat(beat)}


def _stale(unit_id: UUID, found: int) -> StaleVersion:
    there = f"is at version {found}" if found else "is not there"
    return StaleVersion(
        f"unit of work {unit_id} {there}, or moved since it was read; nothing was written. Read it again and decide",
        unit_id=str(unit_id),
        found=found,
    )
