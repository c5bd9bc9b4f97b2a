"""Units of work inside somebody else's transaction: with a change of the ledger, and without."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from perdure.domain.work import WorkStatus
from perdure.errors import HashDrift, StaleVersion, Unsupported
from tests.core.work_worlds import make_driver, open_world
from tests.support.databases import Database
from tests.support.stories import ACTOR, plane_on


class GaveUpError(Exception):
    """Whoever owns the transaction gave up."""


async def test_a_save_and_a_change_of_the_ledger_are_committed_together_or_not_at_all(database: Database) -> None:
    async with plane_on(database) as plane, await psycopg.AsyncConnection.connect(database.dsn("app")) as connection:
        acme = plane.scope("t_acme", actor=ACTOR)
        run = await acme.runs.start("triage", signal=("billing", "msg-1"), input={})
        unit = await acme.work.create(instance="i", attributes={"n": 1})

        async def both() -> None:
            """One transaction."""
            async with connection.transaction():
                async with acme.change(run, connection=connection) as change:
                    change.step("classify", output={})
                seen = await acme.work.get(unit, connection=connection)
                await acme.work.save(seen, new_status="ACTIVE", attributes={"n": 2}, connection=connection)
                inside = await acme.work.get(unit, connection=connection)
                assert inside.status is WorkStatus.ACTIVE
                assert (await acme.work.get(unit)).status is WorkStatus.PENDING, "nobody else sees it yet"
                if not steps:
                    raise GaveUpError

        steps: list[str] = []
        with pytest.raises(GaveUpError):
            await both()
        assert await acme.work.get(unit) == unit
        assert len(await acme.work.get_history(unit)) == 1
        assert (await acme.trace(run.correlation_id)).steps == ()

        run = await acme.runs.start("triage", signal=("billing", "msg-1"), input={})
        steps.append("go")
        await both()
        now = await acme.work.get(unit)
        assert (now.status, now.attributes["n"]) == (WorkStatus.ACTIVE, 2)
        assert [step.name for step in (await acme.trace(run.correlation_id)).steps] == ["classify"]
        assert (await acme.work.verify(unit)).ok


async def test_a_transaction_that_is_joined_is_neither_committed_nor_rolled_back(database: Database) -> None:
    async with plane_on(database) as plane, await psycopg.AsyncConnection.connect(database.dsn("app")) as connection:
        acme = plane.scope("t_acme", actor=ACTOR)
        unit = await acme.work.create(instance="i")
        made = await acme.work.create(instance="i", connection=connection)
        with pytest.raises(StaleVersion):
            await acme.work.save(unit, expected_version=9, new_status="ACTIVE", connection=connection)
        assert (await acme.work.save(unit, new_status="ACTIVE", connection=connection)).version == 2
        assert await acme.work.find(made) is None
        await connection.commit()
        assert (await acme.work.get(made)).unit == made.unit
        assert (await acme.work.get(unit)).version == 2


async def test_drift_is_found_inside_a_transaction_too(database: Database) -> None:
    async with plane_on(database) as plane, await psycopg.AsyncConnection.connect(database.dsn("app")) as connection:
        acme = plane.scope("t_acme", actor=ACTOR)
        unit = await acme.work.create(instance="i", attributes={"n": 1})
        database.query(
            "INSERT INTO perdure.work_attributes SELECT tenant_id, space_id, unit_id, key, 2, '5', 1, actor_id, "
            "recorded_at FROM perdure.work_attributes"
        )
        with pytest.raises(HashDrift):
            await acme.work.save(unit, attributes={"n": 2}, connection=connection)


async def test_where_there_is_no_transaction_to_join_nothing_is_done(tmp_path: Path) -> None:
    async with open_world(make_driver("memory", tmp_path)()) as world:
        unit = await world.work.create(instance="i")
        with pytest.raises(Unsupported):
            await world.work.save(unit, new_status="ACTIVE", connection=object())  # type: ignore[arg-type]  # any
        assert await world.work.get(unit) == unit
