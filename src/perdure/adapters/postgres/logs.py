"""Streams and sessions on PostgreSQL: each write is one call of one function, each read one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.adapters.postgres import log_requests
from perdure.adapters.postgres.audits import audit_json, read_audits
from perdure.adapters.postgres.containers import OfPlane, Place, read_mark
from perdure.adapters.postgres.patience import Calls, Deadline
from perdure.adapters.postgres.session import Row, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.container import Container
from perdure.domain.ids import tenant_uuid
from perdure.domain.kinds import Kind
from perdure.domain.log import (
    SEQUENCE_MAX,
    Appended,
    Entry,
    LogHead,
    LogPage,
    LogSettings,
    NewEntry,
    Position,
)
from perdure.domain.store_audit import StoreAudit
from perdure.errors import Invalid, StaleVersion
from perdure.ports import log_rules
from perdure.ports.environment import Environment
from perdure.ports.logs import PositionLost
from perdure.ports.patience import Sleep

REMOVALS_MAX: Final = 5_000  # entries removed by one transaction, which keeps appends waiting meanwhile


class PostgresLogs:
    """A ``LogStore`` over a session of the app role."""

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

    async def append(
        self,
        log: Container,
        entries: Sequence[NewEntry],
        *,
        expected: int | None = None,
        settings: LogSettings | None = None,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Sequence[Appended]:
        """As the port promises."""
        place = self._plane.place(log)
        log_rules.check_append(entries, expected=expected, settings=settings)
        fresh = log_requests.distinct(entries)
        result = await self._calls.write(
            statement("logs/append"),
            {
                **_named(place),
                "ids": [entry.entry_id for entry in fresh],
                "fingerprints": [entry.fingerprint for entry in fresh],
                "bodies": [entry.body for entry in fresh],
                "expected": expected,
                "settings": log_requests.settings_json(settings),
                "audit": audit_json(audit),
            },
            deadline=self._calls.deadline(timeout_s),
        )
        if "reused" in result:
            raise log_requests.reused(result["reused"])
        if "stale" in result:
            raise _stale("the log's head", result["stale"], expected=expected)
        return _appended(entries, result)

    async def head(self, log: Container, *, timeout_s: float) -> LogHead | None:
        """As the port promises."""
        place = self._plane.place(log)
        ((*rows,),) = await self._calls.read(
            place.tenant_id, [(statement("logs/head"), _keys(place))], deadline=self._calls.deadline(timeout_s)
        )
        return _head(rows[0]) if rows else None

    async def read(
        self,
        log: Container,
        *,
        after: Position | None = None,
        limit: int,
        reverse: bool = False,
        bytes_max: int,
        timeout_s: float,
    ) -> LogPage | None:
        """As the port promises."""
        place = self._plane.place(log)
        log_rules.check_read(after, limit=limit, bytes_max=bytes_max)
        if reverse:
            begin = SEQUENCE_MAX if after is None else after.sequence - 1
        else:
            begin = 1 if after is None else after.sequence + 1
        wanted = _keys(place) | {"from": min(begin, SEQUENCE_MAX), "limit": limit, "bytes_max": bytes_max}
        heads, rows = await self._calls.read(
            place.tenant_id,
            [
                (statement("logs/head"), _keys(place)),
                (statement("logs/page_reverse" if reverse else "logs/page"), wanted),
            ],
            deadline=self._calls.deadline(timeout_s),
        )
        return _page(_head(heads[0]), rows, after=after, reverse=reverse) if heads else None

    async def locate(self, log: Container, entry_id: str, *, timeout_s: float) -> Position | None:
        """As the port promises."""
        place = self._plane.place(log)
        log_rules.check_locate(entry_id)
        ((*rows,),) = await self._calls.read(
            place.tenant_id,
            [(statement("logs/locate"), _keys(place) | {"entry_id": entry_id})],
            deadline=self._calls.deadline(timeout_s),
        )
        return Position(epoch=rows[0]["epoch"], sequence=rows[0]["sequence"]) if rows else None

    async def configure(
        self,
        log: Container,
        settings: LogSettings,
        *,
        if_version: int | None = None,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> LogHead:
        """As the port promises."""
        place = self._plane.place(log)
        log_rules.check_settings(settings)
        log_rules.check_if_version(if_version)
        result = await self._calls.write(
            statement("logs/configure"),
            {
                **_named(place),
                "settings": log_requests.settings_json(settings),
                "if_version": if_version,
                "audit": audit_json(audit),
            },
            deadline=self._calls.deadline(timeout_s),
        )
        if "stale" in result:
            raise _stale("the log's settings", result["stale"], expected=if_version)
        made = result["log"]
        times = {name: datetime.fromisoformat(made[name]) for name in ("created_at", "updated_at")}
        return _head({**made, **times}, settings=settings)

    async def trim(
        self, log: Container, *, before: int | datetime, audit: StoreAudit | None = None, timeout_s: float
    ) -> int:
        """As the port promises."""
        place = self._plane.place(log)
        log_rules.check_trim(before)
        wanted = _keys(place) | {
            "before": None if isinstance(before, datetime) else before,
            "moment": before if isinstance(before, datetime) else None,
            "limit": REMOVALS_MAX,
            "audit": audit_json(audit),
        }
        deadline = self._calls.deadline(timeout_s)
        removed, more = 0, True
        while more:
            result = await self._calls.write(statement("logs/trim"), wanted, deadline=deadline)
            removed += result["removed"]
            more = result["more"]
        return removed

    async def clear(self, log: Container, *, audit: StoreAudit | None = None, timeout_s: float) -> bool:
        """As the port promises."""
        place = self._plane.place(log)
        wanted = _keys(place) | {"audit": audit_json(audit)}
        deadline = self._calls.deadline(timeout_s)
        return bool(await self._calls.write(statement("logs/clear"), wanted, deadline=deadline))

    async def erase(self, log: Container, *, timeout_s: float) -> bool:
        """As the port promises."""
        place = self._plane.place(log)
        deadline = self._calls.deadline(timeout_s)
        erased, more = False, True
        while more:
            result = await self._calls.write(
                statement("logs/erase"), _keys(place) | {"limit": REMOVALS_MAX}, deadline=deadline
            )
            erased = erased or result["erased"]
            more = result["more"]
        return erased

    async def containers(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """As the port promises."""
        log_rules.check_logs_page(limit)
        tenant_id = tenant_uuid(tenant)
        wanted = {"tenant_id": tenant_id, "kind": kind, "user": user, "after": read_mark(after), "limit": limit + 1}
        ((*rows,),) = await self._calls.read(
            tenant_id, [(statement("logs/containers"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        return self._plane.listed(tenant, rows, limit=limit)

    async def restore(self, log: Container, head: LogHead, entries: Sequence[Entry], *, timeout_s: float) -> None:
        """As the port promises."""
        place = self._plane.place(log)
        log_rules.check_restore(head, entries)
        last = await self._calls.write(
            statement("logs/restore"),
            {
                **_named(place),
                "head": log_requests.head_json(head),
                "sequences": [entry.sequence for entry in entries],
                "ids": [entry.entry_id for entry in entries],
                "fingerprints": [entry.fingerprint for entry in entries],
                "times": [entry.recorded_at for entry in entries],
                "bodies": [entry.body for entry in entries],
            },
            deadline=self._calls.deadline(timeout_s),
        )
        if last is not None:
            raise Invalid(
                f"entries to restore begin at {entries[0].sequence}, and the log is at {last}; pages come in order",
                first=entries[0].sequence,
                last=last,
            )

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """As the port promises."""
        log_rules.check_sweep(limit)
        deadline = self._calls.deadline(timeout_s)
        removed, more = 0, True
        while more:
            wanted = {"limit": limit - removed, "entries": REMOVALS_MAX}
            result = await self._calls.write(statement("logs/sweep"), wanted, deadline=deadline)
            removed += result["removed"]
            more = result["more"] and _is_worth_going_on(deadline, timeout_s)
        return removed

    async def audits(
        self, log: Container, *, after: UUID | None = None, limit: int, timeout_s: float
    ) -> Sequence[StoreAudit]:
        """As the port promises."""
        place = self._plane.place(log)
        return await read_audits(self._calls, place, after=after, limit=limit, deadline=self._calls.deadline(timeout_s))


def _keys(place: Place) -> dict[str, Any]:
    return {"tenant_id": place.tenant_id, "log_id": place.container_id}


def _named(place: Place) -> dict[str, Any]:
    return {"tenant_id": place.tenant_id, "tenant": place.tenant, "log": place.name}


def _is_worth_going_on(deadline: Deadline, timeout_s: float) -> bool:
    # What is left is removed by the next sweep; a call that had to be cut off would have done nothing.
    return deadline.left_s > timeout_s / 2


def _stale(what: str, found: int, *, expected: int | None) -> StaleVersion:
    return StaleVersion(
        f"{what} was expected at {expected} and is at {found}; read it again and decide",
        found=found,
        expected=expected,
    )


def _appended(entries: Sequence[NewEntry], result: Mapping[str, Any]) -> Sequence[Appended]:
    numbers: dict[str, int] = dict(result["known"])
    given = result["sequence"]
    appended: list[Appended] = []
    for entry in entries:
        duplicate = entry.entry_id in numbers
        if not duplicate:
            given += 1
            numbers[entry.entry_id] = given
        sequence = numbers[entry.entry_id]
        appended.append(
            Appended(entry_id=entry.entry_id, sequence=sequence, epoch=result["epoch"], duplicate=duplicate)
        )
    return appended


def _head(row: Mapping[str, Any], *, settings: LogSettings | None = None) -> LogHead:
    return LogHead(
        epoch=row["epoch"],
        sequence=row["sequence"],
        earliest=row["earliest"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        settings=settings
        or LogSettings(ttl_s=row["ttl_s"], expires_at=row["expires_at"], attributes=bytes(row["attributes"])),
    )


def _page(head: LogHead, rows: Sequence[Row], *, after: Position | None, reverse: bool) -> LogPage:
    first = head.sequence if reverse else head.earliest
    if after is not None:
        _check_position(head, after, reverse=reverse)
        first = after.sequence - 1 if reverse else after.sequence + 1
    last = head.earliest if reverse else head.sequence
    step = -1 if reverse else 1
    left = max(0, (last - first) * step + 1)
    entries = [msgspec.convert(row, Entry) for row in rows]
    dense = all(entry.sequence == first + place * step for place, entry in enumerate(entries))
    if not dense or (left > 0 and not entries):
        raise _expired(head)
    return LogPage(head=head, entries=entries, more=left > len(entries))


def _check_position(head: LogHead, after: Position, *, reverse: bool) -> None:
    if after.epoch != head.epoch or not 0 <= after.sequence <= head.sequence:
        raise PositionLost(
            "this position is not one of this log as it is now; begin again", reason="unknown", epoch=head.epoch
        )
    # Before the first of all there is nothing that could have been trimmed.
    trimmed = 1 < after.sequence < head.earliest if reverse else after.sequence + 1 < head.earliest
    if trimmed:
        raise _expired(head)


def _expired(head: LogHead) -> PositionLost:
    return PositionLost(
        f"what followed this position was trimmed; the first entry that can be read is {head.earliest}",
        reason="expired",
        epoch=head.epoch,
        earliest=head.earliest,
    )
