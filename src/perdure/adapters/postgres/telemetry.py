"""Telemetry on PostgreSQL: a batch is one call with one array a column, a page is one read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.adapters.postgres.containers import OfPlane
from perdure.adapters.postgres.patience import Calls
from perdure.adapters.postgres.session import Row, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.container import Space
from perdure.domain.telemetry import (
    LogsQuery,
    LogType,
    TelemetryPage,
    TelemetryRecord,
    check_logs_query,
    check_write,
)
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep


class PostgresTelemetry:
    """A ``TelemetryStore`` over a session of the app role."""

    def __init__(
        self, session: Session, *, mode: str, env: str, environment: Environment, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._calls = Calls(session, environment=environment, sleep=sleep)
        self._plane = OfPlane(mode=mode, env=env)

    async def write(self, space: Space, records: Sequence[TelemetryRecord], *, timeout_s: float) -> None:
        """As the port promises: all of it or nothing, in one call."""
        place = self._plane.place_of_space(space)
        check_write(records)
        if not records:
            return
        parameters = {
            **place,
            "ids": [record.entry_id for record in records],
            "types": [record.log_type.value for record in records],
            "times": [record.timestamp for record in records],
            "instances": [record.instance_id for record in records],
            "units": [record.unit_id for record in records],
            "actors": [record.actor_id for record in records],
            "roles": [record.role_id for record in records],
            "interactions": [record.interaction_id for record in records],
            "details": [_text(record.event_details) for record in records],
            "errors": [_text(record.error_metadata) for record in records],
        }
        deadline = self._calls.deadline(timeout_s)
        await self._calls.write(statement("telemetry/write"), parameters, deadline=deadline)

    async def logs(self, space: Space, query: LogsQuery, *, timeout_s: float) -> TelemetryPage:
        """As the port promises."""
        place = self._plane.place_of_space(space)
        check_logs_query(query)
        wanted = {
            "tenant_id": place["tenant_id"],
            "space_id": place["space_id"],
            "types": [query.log_type.value] if query.log_type is not None else [one.value for one in LogType],
            "instance_id": query.instance_id,
            "unit_id": query.unit_id,
            "after": query.after,
            "limit": query.limit + 1,
        }
        if query.unit_id is not None:
            sql = statement("telemetry/unit_newest") if query.reverse else statement("telemetry/unit_oldest")
        elif query.instance_id is not None:
            sql = statement("telemetry/instance_newest") if query.reverse else statement("telemetry/instance_oldest")
        else:
            sql = statement("telemetry/all_newest") if query.reverse else statement("telemetry/all_oldest")
        ((*rows,),) = await self._calls.read(
            place["tenant_id"], [(sql, wanted)], deadline=self._calls.deadline(timeout_s)
        )
        records = tuple(_record(row) for row in rows[: query.limit])
        next_after = records[-1].entry_id if len(rows) > query.limit else None
        if query.unit_id is not None and query.instance_id is not None:
            records = tuple(record for record in records if record.instance_id == query.instance_id)
        return TelemetryPage(records=records, next_after=next_after)


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _record(row: Row) -> TelemetryRecord:
    return TelemetryRecord(
        entry_id=row["entry_id"],
        instance_id=row["instance_id"],
        log_type=LogType(row["log_type"]),
        unit_id=row["unit_id"],
        actor_id=row["actor_id"],
        role_id=row["role_id"],
        interaction_id=row["interaction_id"],
        event_details=_bytes(row["event_details"]),
        error_metadata=_bytes(row["error_metadata"]),
        timestamp=row["occurred_at"],
    )
