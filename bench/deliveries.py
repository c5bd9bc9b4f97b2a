"""From the acknowledged commit of an effect to its delivery, by a relay whose deliverer does nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from bench.report import Row, progress
from bench.rounds import percentile
from bench.server import Server
from bench.settings import Settings
from bench.workload import POOL_AS_SHIPPED, Place, Shape, Workload, fill, open_plane
from perdure import Delivery, Plane
from perdure.adapters.postgres.relay import PostgresOutbox
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.environment import system_environment
from perdure.core.relay import EVERY_TYPE, Relay

TENANTS: Final = 100
WRITERS: Final = 8
_DELIVERY_TIMEOUT_S: Final = 30


class Receiver:
    """Notes when each effect was delivered; effects may be delivered before their writer knows of the commit."""

    def __init__(self) -> None:
        self._delivered: dict[UUID, asyncio.Future[float]] = {}

    async def __call__(self, delivery: Delivery) -> Any:
        """Take a delivery."""
        arrived = self._of(delivery.effect_id)
        if not arrived.done():
            arrived.set_result(time.perf_counter())

    async def delivered_at(self, effect_id: UUID) -> float:
        """When the effect was delivered, waiting for that."""
        return await asyncio.wait_for(self._of(effect_id), _DELIVERY_TIMEOUT_S)

    def _of(self, effect_id: UUID) -> asyncio.Future[float]:
        return self._delivered.setdefault(effect_id, asyncio.get_running_loop().create_future())


async def measure(server: Server, settings: Settings) -> list[Row]:
    """One effect after another while the relay has nothing else to do, and a stream of them from several writers."""
    database = await server.create_database("outbox")
    app, relay_dsn = server.dsn("app", database=database), server.dsn("relay", database=database)
    session = Session(relay_dsn, settings=PoolSettings())
    await session.open()
    store = PostgresOutbox(session, actor="system:relay", source="api:bench", listen_dsn=relay_dsn)
    receiver = Receiver()
    try:
        async with (
            open_plane(app, connections=POOL_AS_SHIPPED, coalesce=True) as plane,
            Relay(store, {EVERY_TYPE: receiver}, environment=system_environment()) as relay,
        ):
            places = await Workload(plane).start_runs("outbox", tenants=TENANTS)
            running = asyncio.create_task(relay.run())
            await _delays_s(plane, places[:10], receiver, writers=1, name="warm")
            progress(f"outbox: {settings.deliveries} effects, one at a time")
            idle = await _delays_s(plane, _cycle(places, settings.deliveries), receiver, writers=1, name="idle")
            progress(f"outbox: {2 * settings.deliveries} effects, {WRITERS} writers")
            began = time.perf_counter()
            busy = await _delays_s(
                plane, _cycle(places, 2 * settings.deliveries), receiver, writers=WRITERS, name="busy"
            )
            elapsed_s = time.perf_counter() - began
            relay.stop()
            await running
    finally:
        await session.close()
    return [
        _row("one effect at a time, relay idle", idle, None),
        _row(f"{WRITERS} writers, each waiting for its delivery", busy, len(busy) / elapsed_s),
    ]


def _row(what: str, delays_s: Sequence[float], rate: float | None) -> Row:
    return Row(
        section="outbox, commit to delivered",
        what=what,
        p50_ms=percentile(delays_s, 0.5) * 1000,
        p95_ms=percentile(delays_s, 0.95) * 1000,
        p99_ms=percentile(delays_s, 0.99) * 1000,
        rate=rate,
    )


async def _delays_s(
    plane: Plane, places: Sequence[Place], receiver: Receiver, *, writers: int, name: str
) -> list[float]:
    """Seconds from each acknowledged commit to its delivery; never negative."""
    waiting = iter(enumerate(places))
    delays: list[float] = []

    async def write() -> None:
        for number, place in waiting:
            acme = plane.scope(place.tenant, actor="agent:bench")
            async with acme.change(place.run) as change:
                fill(change, Shape.THREE, f"{name}-{number}")
                step = change.step("notify", key=f"{name}-{number}-notify", output={})
                effect = change.effect(step, "NOTIFY_USER", {"user_id": "7"}, key="notify")
            committed = time.perf_counter()
            delays.append(max(0.0, await receiver.delivered_at(effect.id) - committed))

    await asyncio.gather(*(write() for _ in range(writers)))
    return delays


def _cycle(places: Sequence[Place], count: int) -> list[Place]:
    return [places[number % len(places)] for number in range(count)]
