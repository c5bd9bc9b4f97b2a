"""The routing registry on PostgreSQL. What spans tenants is read as the control plane, which sees all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from perdure.adapters.postgres.containers import OfPlane
from perdure.adapters.postgres.patience import Calls
from perdure.adapters.postgres.session import Row, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.ids import tenant_uuid
from perdure.domain.route import (
    SYSTEM_TENANT,
    HistoryPage,
    Quarantined,
    RegistrySnapshot,
    Route,
    RouteChange,
    RouteEvent,
    RouteHistory,
    RouteKey,
)
from perdure.errors import Corrupt, Invalid, LimitExceeded, StaleVersion
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep
from perdure.ports.routes import EVENTS_RELAYED_MAX

SYSTEM: Final = tenant_uuid(SYSTEM_TENANT)  # the policies of the tables name it too

Record = TypeVar("Record", RouteEvent, RouteHistory)


class PostgresRoutes:
    """A ``RouteStore`` over a session of the app role."""

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

    async def load(self, *, timeout_s: float) -> RegistrySnapshot:
        """As the port promises."""
        versions, rows = await self._calls.read(
            SYSTEM,
            [(statement("routes/version"), {}), (statement("routes/load"), {})],
            deadline=self._calls.deadline(timeout_s),
        )
        read = [self._route(row) for row in rows]
        return RegistrySnapshot(
            version=_version(versions),
            routes=[route for route in read if isinstance(route, Route)],
            quarantined=[route for route in read if isinstance(route, Quarantined)],
        )

    async def version(self, *, timeout_s: float) -> int:
        """As the port promises."""
        (rows,) = await self._calls.read(
            SYSTEM, [(statement("routes/version"), {})], deadline=self._calls.deadline(timeout_s)
        )
        return _version(rows)

    async def commit(self, change: RouteChange, *, timeout_s: float) -> int:
        """As the port promises."""
        route = change.route
        self._plane.check(route.mode, route.env)
        about = {
            "key": _key_text(route.key),
            "route_id": route.route_id,
            "version": route.version,
            "expected": change.expected_version,
            "changed_at": route.updated_at,
            "event_id": change.event.event_id,
        }
        result = await self._calls.write(
            statement("routes/commit"),
            {
                "tenant_id": tenant_uuid(route.tenant),
                "tenant": route.tenant,
                "change": _json(about),
                "route": _json(route),
                "history": _json(change.history),
                "event": _json(change.event),
            },
            deadline=self._calls.deadline(timeout_s),
        )
        if "stale" in result:
            raise StaleVersion(
                f"the route was expected at version {change.expected_version} and is at {result['stale']}; read it "
                "again and decide",
                found=result["stale"],
                expected=change.expected_version,
            )
        return int(result["version"])

    async def history(self, key: RouteKey, *, after: int, limit: int, timeout_s: float) -> HistoryPage:
        """As the port promises."""
        self._plane.check(key.mode, key.env)
        tenant_id = tenant_uuid(key.tenant)
        wanted = {"tenant_id": tenant_id, "route_key": _key_text(key), "after": after, "limit": _positive(limit) + 1}
        (rows,) = await self._calls.read(
            tenant_id, [(statement("routes/history"), wanted)], deadline=self._calls.deadline(timeout_s)
        )
        return HistoryPage(entries=_records(RouteHistory, rows[:limit]), more=len(rows) > limit)

    async def unrelayed(self, *, limit: int, timeout_s: float) -> Sequence[RouteEvent]:
        """As the port promises."""
        (rows,) = await self._calls.read(
            SYSTEM,
            [(statement("routes/unrelayed"), {"limit": _positive(limit)})],
            deadline=self._calls.deadline(timeout_s),
        )
        return _records(RouteEvent, rows)

    async def relayed(self, event_ids: Sequence[str], *, timeout_s: float) -> None:
        """As the port promises."""
        if len(event_ids) > EVENTS_RELAYED_MAX:
            raise LimitExceeded(
                f"{len(event_ids)} events in one acknowledgement; at most {EVENTS_RELAYED_MAX} (events_relayed_max)",
                limit="events_relayed_max",
                allowed=EVENTS_RELAYED_MAX,
                actual=len(event_ids),
            )
        given = {"event_ids": list(event_ids)}
        await self._calls.write(statement("routes/relayed"), given, deadline=self._calls.deadline(timeout_s))

    def _route(self, row: Row) -> Route | Quarantined:
        where = f"perdure.routes, tenant_id {row['tenant_id']}, route_key {row['route_key']}"
        try:
            route = msgspec.json.decode(row["record"], type=Route)
        except msgspec.ValidationError as exc:
            # The error's own text may quote what was read; where it stopped is enough.
            field = str(exc).rpartition(" - at ")[2].strip("`")
            return Quarantined(where=where, problem=f"not a route of this release at {field[:80]}")
        except msgspec.DecodeError:
            return Quarantined(where=where, problem="not JSON")
        if not self._belongs(route, row["tenant_id"], row["route_key"]):
            return Quarantined(where=where, problem="the record is of another route than its row")
        return route

    def _belongs(self, route: Route, tenant_id: UUID, key: str) -> bool:
        try:
            return tenant_uuid(route.tenant) == tenant_id and _key_text(route.key) == key
        except Invalid:
            return False


def _key_text(key: RouteKey) -> str:
    return _json([key.kind, key.project, key.surface])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _version(rows: Sequence[Row]) -> int:
    return int(rows[0]["version"]) if rows else 0


def _positive(limit: int) -> int:
    if limit < 1:
        raise Invalid(f"a page of {limit}; ask for at least 1")
    return limit


def _records(record: type[Record], rows: Sequence[Row]) -> list[Record]:
    try:
        return [msgspec.json.decode(row["record"], type=record) for row in rows]
    except msgspec.MsgspecError as exc:
        raise Corrupt(f"a {record.__name__} cannot be read; was it written by a newer release?") from exc
