"""Units of work without await: the same calls, the same guards, on a real database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import perdure.sync
from perdure.core.work_approvals import HighRiskGuard
from perdure.domain.work import WorkStatus
from perdure.errors import StaleVersion
from perdure.sync import Plane
from tests.support.databases import Database


@pytest.fixture
def plane(database: Database) -> Iterator[Plane]:
    with perdure.sync.open(database.dsn("app"), mode="lab", env="dev", connections_max=4) as opened:
        yield opened


def test_a_unit_goes_its_way_without_await(plane: Plane) -> None:
    work = plane.scope("t_acme", actor="agent:booker").work
    unit = work.create(instance="plant-7", attributes={"amount": 1})
    unit = work.checkout(unit, owner="worker-1")
    assert work.heartbeat(unit, owner="worker-1")
    parked = work.save(unit, new_status="COMPLETED", guard=HighRiskGuard())
    assert parked.is_parked
    done = work.approve(parked, actor_id="user:ann")
    assert done.status is WorkStatus.COMPLETED
    with pytest.raises(StaleVersion):
        work.save(unit, new_status="FAILED")
    assert len(work.get_history(done)) == 4
    assert [one.unit_id for one in work.list(status="COMPLETED")] == [done.unit_id]
    assert work.verify(done, anchor=work.anchor(done)).ok
