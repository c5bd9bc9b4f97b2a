"""Draining ends when nothing is due, whatever ends while that is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from perdure.adapters.postgres.relay import PostgresOutbox
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.relay import Relay, Surroundings
from perdure.ports.relay import Delivery, DueTenant
from tests.support.databases import Database
from tests.support.relaying import ENVIRONMENT, never, opened, request


class SlowLook(PostgresOutbox):
    """The outbox, whose empty answer arrives only after the delivery that was under way has ended."""

    relay: Relay | None = None

    def __init__(self, session: Session) -> None:
        super().__init__(session, actor="system:relay", source="scheduler:relay", listen_dsn=None)
        self.looked = asyncio.Event()

    async def due_tenants(
        self, *, limit: int, effect_types: Sequence[str], after: UUID | None = None
    ) -> Sequence[DueTenant]:
        """As the outbox answers, when the test lets it arrive."""
        found = await super().due_tenants(limit=limit, effect_types=effect_types, after=after)
        if not found and after is None:  # the second of the two questions of one look
            self.looked.set()
            while self.relay is not None and self.relay.in_hand:  # noqa: ASYNC110 - a relay announces no end of it
                await asyncio.sleep(0)
        return found


async def test_what_became_due_during_the_last_look_is_not_left_behind(database: Database) -> None:
    delivered: list[str] = []
    session = Session(database.dsn("relay"), settings=PoolSettings(connections_max=4, timeout_s=10.0))
    await session.open()
    store = SlowLook(session)

    async def deliver(delivery: Delivery) -> None:
        await store.looked.wait()  # the look for more finds nothing: this one is still under way
        delivered.append(delivery.effect_type)

    async with (
        opened(database) as plane,
        Relay(store, {"*": deliver}, environment=ENVIRONMENT, surroundings=Surroundings(sleep=never)) as relay,
    ):
        store.relay = relay
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", "NOTIFY_USER")
        await relay.drain()
    await session.close()
    assert delivered == ["SEND_EMAIL", "NOTIFY_USER"]
