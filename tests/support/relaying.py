"""Effects that were requested, relays that deliver them, and nobody who waits for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from perdure.adapters.postgres.relay import PostgresOutbox
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.compose import open_plane
from perdure.core.environment import SystemClock, SystemIds
from perdure.core.plane import Plane, Tenant
from perdure.core.relay import Relay, RelaySettings, Surroundings
from perdure.domain.handles import EffectRef, Run
from perdure.ports.environment import Environment
from perdure.ports.relay import DeadLetterHook, Deliverer, Delivery
from tests.support.databases import Database

__all__ = [
    "Deliveries",
    "at_once",
    "never",
    "opened",
    "relaying",
    "request",
    "statuses",
    "store_of",
]


async def never(seconds: float) -> None:
    """A pause that only an event ends: nothing happens by itself."""
    del seconds
    await asyncio.Event().wait()


async def at_once(seconds: float) -> None:
    """A pause that is over."""
    del seconds
    await asyncio.sleep(0)


class Fair:
    """Chance that never moves a delay."""

    def random(self) -> float:
        """The middle."""
        return 0.5


ENVIRONMENT = Environment(clock=SystemClock(), randomness=Fair(), ids=SystemIds())


@dataclass
class Deliveries:
    """A deliverer that remembers, and fails as often as it is told to."""

    failures: list[Exception] = field(default_factory=list)
    result: Any = None
    made: list[Delivery] = field(default_factory=list)

    async def __call__(self, delivery: Delivery) -> Any:
        """Note the delivery, then fail or succeed."""
        self.made.append(delivery)
        if self.failures:
            raise self.failures.pop(0)
        return self.result

    @property
    def keys(self) -> list[str]:
        """The idempotency keys, in the order of their deliveries."""
        return [delivery.idempotency_key for delivery in self.made]

    @property
    def types(self) -> list[str]:
        """The effect types, in the order of their deliveries."""
        return [delivery.effect_type for delivery in self.made]


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Plane]:
    """The plane on a test's database."""
    async with open_plane(database.dsn("app"), mode="lab", env="dev") as plane:
        yield plane


@asynccontextmanager
async def store_of(
    dsn: str, *, listen_dsn: str | None = None, timeout_s: float = 10.0
) -> AsyncIterator[PostgresOutbox]:
    """The outbox as the relay's role sees it."""
    session = Session(dsn, settings=PoolSettings(connections_max=4, timeout_s=timeout_s))
    await session.open()
    try:
        yield PostgresOutbox(session, actor="system:relay", source="scheduler:relay", listen_dsn=listen_dsn)
    finally:
        await session.close()


@asynccontextmanager
async def relaying(
    database: Database,
    deliverers: Mapping[str, Deliverer] | Deliverer,
    *,
    settings: RelaySettings | None = None,
    surroundings: Surroundings | None = None,
    on_dead_letter: DeadLetterHook | None = None,
    dsn: str | None = None,
    listen_dsn: str | None = None,
    timeout_s: float = 10.0,
) -> AsyncIterator[Relay]:
    """A relay in whose life nothing happens by itself; a deliverer alone is that of every type."""
    by_type = deliverers if isinstance(deliverers, Mapping) else {"*": deliverers}
    async with (
        store_of(dsn or database.dsn("relay"), listen_dsn=listen_dsn, timeout_s=timeout_s) as store,
        Relay(
            store,
            by_type,
            environment=ENVIRONMENT,
            settings=settings,
            surroundings=surroundings or Surroundings(sleep=never),
            on_dead_letter=on_dead_letter,
        ) as relay,
    ):
        yield relay


async def request(
    tenant: Tenant,
    *effect_types: str,
    source_id: str = "1",
    independent: bool = False,
    complete: bool = False,
    max_retries: int | None = None,
) -> tuple[Run, list[EffectRef]]:
    """A run with one step that requests these effects, in this order."""
    run = await tenant.runs.start("triage", signal=("test", source_id), input={"n": source_id})
    async with tenant.change(run) as change:
        step = change.step("decide", output={"to": "act"})
        effects = [
            change.effect(step, each, SPECS.get(each, {}), independent=independent, max_retries=max_retries)
            for each in effect_types
        ]
        if complete:
            change.complete_run()
    return run, effects


SPECS: dict[str, dict[str, Any]] = {
    "SEND_EMAIL": {"to": "ann@acme.test"},
    "NOTIFY_USER": {"user_id": "ann"},
    "WEBHOOK_CALL": {"url": "http://127.0.0.1:9/hook"},
    "SOR_UPDATE": {"entity_type": "invoice", "entity_id": "42", "change": {"paid": True}},
}


def statuses(database: Database) -> list[tuple[str, str, str]]:
    """Type, status of the effect and status of its outbox entry, in the order of their request."""
    rows: list[tuple[str, str, str]] = database.query(
        "SELECT entry.event_type::text, effect.status::text, entry.status::text FROM perdure.outbox_events AS entry "
        "JOIN perdure.effects AS effect ON effect.tenant_id = entry.tenant_id AND effect.id = entry.aggregate_id "
        "ORDER BY entry.created_at, entry.ordering_seq"
    )
    return rows
