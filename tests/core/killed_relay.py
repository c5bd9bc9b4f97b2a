"""A relay that dies by SIGKILL at a given step: python -m tests.core.killed_relay STEP DSN FILE."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from perdure.adapters.postgres.relay import PostgresOutbox
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.environment import system_environment
from perdure.core.relay import Relay
from perdure.ports.relay import Answer, Delivery, DueTenant, LeasedEntry, Outcome


def die() -> None:
    """End without any chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(PostgresOutbox):
    """A store after some of whose answers the process dies."""

    step = ""

    async def claim(
        self, tenant: DueTenant, *, worker: str, limit: int, lease_s: float, effect_types: Sequence[str]
    ) -> Sequence[LeasedEntry]:
        """Claim, and perhaps die with the leases."""
        claimed = await super().claim(tenant, worker=worker, limit=limit, lease_s=lease_s, effect_types=effect_types)
        if self.step == "claimed":
            die()
        return claimed

    async def finish(self, tenant_id: UUID, outcomes: Sequence[Outcome]) -> Sequence[Answer]:
        """Record, and perhaps die before or after it."""
        if self.step == "delivered":
            die()
        answers = await super().finish(tenant_id, outcomes)
        if self.step == "recorded":
            die()
        return answers


async def main(step: str, dsn: str, file: Path) -> None:
    """Deliver into a file until death."""

    async def deliver(delivery: Delivery) -> None:
        if step == "delivering":
            die()
        with file.open("a") as lines:
            lines.write(delivery.idempotency_key + "\n")

    session = Session(dsn, settings=PoolSettings())
    await session.open()
    store = Mortal(session, actor="system:relay", source="scheduler:relay")
    store.step = step
    async with Relay(store, {"*": deliver}, environment=system_environment()) as relay:
        await relay.drain()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
