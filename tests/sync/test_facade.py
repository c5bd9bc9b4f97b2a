"""The synchronous facade on a real ledger: everything the asynchronous plane does, without await."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

import perdure.sync
from perdure.domain.handles import Run
from perdure.domain.run import RunStatus, StepStatus
from perdure.errors import Invalid, KeyReused, NotFound, Refused
from perdure.sync import Plane, Tenant
from tests.support.databases import Database

ACTOR = "agent:planner"


@pytest.fixture
def plane(database: Database) -> Iterator[Plane]:
    with perdure.sync.open(
        database.dsn("app"), mode="lab", env="dev", owner_dsn=database.direct_dsn("owner"), connections_max=4
    ) as opened:
        yield opened


@pytest.fixture
def acme(plane: Plane) -> Tenant:
    return plane.scope(tenant="t_acme", actor=ACTOR)


def triage(acme: Tenant, number: int) -> Run:
    """A run with one step, one tool call and one mail, RUNNING."""
    run = acme.runs.start("invoice-triage", signal=("billing", f"msg-{number}"), input={"invoice": number})
    with acme.change(run) as change:
        step = change.step("classify", output={"label": "high"})
        change.tool_call(step, "ocr", args={"page": 1}, result={"text": "..."})
        change.effect(step, "SEND_EMAIL", {"to": "cfo@acme.test"}, key="mail")
    return run


def test_what_is_written_without_await_is_read_back_without_await(acme: Tenant) -> None:
    run = triage(acme, 7)

    story = acme.trace(run.correlation_id)

    assert [found.id for found in story.runs] == [run.id]
    assert [(step.name, step.status) for step in story.steps] == [("classify", StepStatus.COMPLETED)]
    assert [call.tool_name for call in story.tool_calls] == ["ocr"]
    assert [effect.effect_type for effect in story.effects] == ["SEND_EMAIL"]
    assert run.done("classify") == {"label": "high"}


def test_a_change_whose_block_raises_writes_nothing(acme: Tenant) -> None:
    run = acme.runs.start("invoice-triage", signal=("billing", "msg-1"), input={})

    with suppress(LookupError), acme.change(run) as change:
        change.step("classify", output={})
        raise LookupError

    assert acme.trace(run.correlation_id).steps == ()
    with acme.change(run) as change:
        again = change.step("classify", output={})
    assert (again.index, again.key) == (0, "classify")


def test_following_gives_each_event_once_and_in_order(acme: Tenant) -> None:
    triage(acme, 1)
    last = acme.events.last_number()

    events = acme.events.follow(poll_s=0.01)
    first = list(itertools.islice(events, last))
    triage(acme, 2)
    later = next(events)

    assert [event.sequence_number for event in first] == list(range(1, last + 1))
    assert later.sequence_number == last + 1


def test_a_follower_may_be_dropped_in_the_middle(acme: Tenant) -> None:
    triage(acme, 1)

    for event in acme.events.follow():
        assert event.sequence_number == 1
        break
    gc.collect()

    assert acme.events.last_number() > 1


def test_a_claimed_run_is_driven_extended_and_ended(acme: Tenant) -> None:
    started = acme.runs.start("invoice-triage", signal=("billing", "msg-1"), input={})

    (claimed,) = acme.runs.claim(limit=5, lease_s=30)
    assert claimed.id == started.id
    assert acme.runs.claim(limit=5, lease_s=30) == []
    acme.runs.extend(claimed, lease_s=60)
    with acme.change(claimed) as change:
        change.step("classify", output={"label": "low"})
    acme.runs.complete(claimed)

    assert acme.runs.get(started.id).status is RunStatus.COMPLETED


def test_signals_are_kept_before_any_run(acme: Tenant) -> None:
    kept = acme.signals.ingest("billing", "msg-9", {"invoice": 9})

    assert [signal.id for signal in acme.signals.pending()] == [kept.id]
    assert acme.signals.find("billing", "msg-9") == kept
    assert acme.signals.find("billing", "msg-10") is None
    assert acme.runs.start("invoice-triage", signal=kept.id).signal_id == kept.id


def test_the_plane_and_the_tenant_say_what_they_are(plane: Plane, acme: Tenant) -> None:
    assert (plane.mode, plane.env) == ("lab", "dev")
    assert (acme.scope.tenant, acme.scope.actor) == ("t_acme", ACTOR)


def test_tenants_are_administered(plane: Plane) -> None:
    assert plane.tenants.add("t_acme") is True
    assert plane.tenants.add("t_acme") is False
    assert "t_acme" in [tenant.slug for tenant in plane.tenants.list()]


def test_errors_arrive_as_themselves(plane: Plane, acme: Tenant) -> None:
    triage(acme, 7)

    with pytest.raises(NotFound):
        acme.runs.get(UUID(int=1))
    with pytest.raises(KeyReused):
        acme.runs.start("invoice-triage", signal=("billing", "msg-7"), input={"invoice": 8})
    with pytest.raises(Invalid):
        plane.scope(tenant="Acme!", actor=ACTOR)


def test_threads_share_a_plane(acme: Tenant) -> None:
    with ThreadPoolExecutor(max_workers=2) as threads:
        runs = list(threads.map(lambda number: triage(acme, number), range(8)))

    events = acme.events.list(limit=100)
    assert len({run.id for run in runs}) == 8
    assert [event.sequence_number for event in events] == list(range(1, acme.events.last_number() + 1))


def test_a_closed_plane_says_so(database: Database) -> None:
    with perdure.sync.open(database.dsn("app"), mode="lab", env="dev") as plane:
        acme = plane.scope(tenant="t_acme", actor=ACTOR)
        run = triage(acme, 1)

    with pytest.raises(Refused, match="this plane is closed"):
        acme.trace(run.correlation_id)
    with pytest.raises(Refused, match="this plane is closed"), acme.change(run):
        pytest.fail("was entered")
    with pytest.raises(Refused, match="this plane is closed"):
        next(acme.events.follow())


async def test_inside_an_event_loop_it_is_refused(database: Database) -> None:
    with pytest.raises(Refused, match="use the asynchronous API"):
        perdure.sync.open(database.dsn("app"), mode="lab", env="dev").__enter__()


def test_a_wrong_setting_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(Invalid, match="mode and env"):
        perdure.sync.open("postgresql://nobody@127.0.0.1:1/none")


def test_the_embedded_database_opens_without_await(tmp_path: Path) -> None:
    with perdure.sync.open(data_dir=tmp_path / "data") as plane:
        acme = plane.scope(tenant="t_acme", actor=ACTOR)
        run = triage(acme, 1)

        assert [found.id for found in acme.trace(run.correlation_id).runs] == [run.id]
