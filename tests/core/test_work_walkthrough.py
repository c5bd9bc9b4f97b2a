"""An invoice from its arrival to the archive, with everything that happens to work on the way."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from perdure.core.work_approvals import HighRiskGuard
from perdure.domain.work import HistoryEvent, WorkStatus
from perdure.domain.work_results import WorkCheck
from perdure.errors import HashDrift, LeaseLost, StaleVersion
from tests.core.work_worlds import make_driver, open_world


async def test_the_walkthrough(tmp_path: Path) -> None:
    async with open_world(make_driver("sqlite", tmp_path)()) as world:
        work = world.work
        batch = await work.create(instance="plant-7", schema="batch/1")
        invoice = await work.create(
            instance="plant-7",
            schema="invoice/1",
            parent=batch,
            interaction="intake",
            interactions_max=5,
            attributes={"amount": Decimal("1250.00"), "supplier": "Acme"},
            request_id="mail-4711",
        )
        first = await work.checkout(invoice, owner="worker-1")
        with pytest.raises(StaleVersion):
            await work.checkout(invoice, owner="worker-2")

        world.clock.advance(200)
        assert await work.heartbeat(first, owner="worker-1")
        world.clock.advance(200)
        assert (await work.sweep()).zombied == ()
        world.clock.advance(101)
        assert (await work.sweep()).zombied == (invoice.unit_id,)
        with pytest.raises(LeaseLost):
            await work.heartbeat(first, owner="worker-1")
        with pytest.raises(StaleVersion):
            await work.save(first, attributes={"amount": Decimal("1.00")})

        second = await work.checkout(await work.get(invoice), owner="worker-2")
        second = await work.save(
            second,
            attributes={"account": "4400"},
            new_interaction_id="booking",
            actor_id="agent:booker",
            reasoning="the supplier has one account",
            metadata={"confidence": 0.97},
        )
        parked = await work.save(second, new_status="COMPLETED", guard=HighRiskGuard(approvers=("user:cfo",)))
        assert parked.is_parked
        done = await work.approve(parked, actor_id="user:cfo", reasoning="seen")
        assert done.status is WorkStatus.COMPLETED
        assert (await work.get(batch)).unit.finished_child_count == 1

        kept_elsewhere = str((await work.verify(done)).anchor)
        await world.replace_text(done, "v", b"1250.00", b"9250.00")
        found = await work.verify(done, anchor=kept_elsewhere)
        assert (found.check, [drift.key for drift in found.attributes]) == (WorkCheck.DRIFT, ["amount"])
        with pytest.raises(HashDrift):
            await work.save(done, new_status="ARCHIVED")
        repaired = await work.save(done, attributes={"amount": Decimal("1250.00")}, waive="restored from the mail")
        repaired = await work.save(repaired, new_status="ARCHIVED")
        assert (await work.verify(repaired, anchor=kept_elsewhere)).ok

        assert [entry.event for entry in await work.get_history(invoice)] == [
            HistoryEvent.WORK_CREATED,
            *[HistoryEvent.STATE_TRANSITION] * 5,
            HistoryEvent.PILOT_OVERRIDE,
            HistoryEvent.DRIFT_FOUND,
            HistoryEvent.CONSTITUTIONAL_WAIVER,
            HistoryEvent.ATTRIBUTES_CHANGED,
            HistoryEvent.STATE_TRANSITION,
        ]
        await work.delete(repaired, reasoning="the retention period ended")
        assert (await work.verify(invoice, anchor=kept_elsewhere)).ok
        assert len(await work.history(instance="plant-7", actor="agent:booker")) == 1
