"""What every contract of the ledger stands on: a plane that the backend opens, one tenant, and a few words about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import pytest

from perdure.core.plane import Plane, Tenant
from perdure.domain.event import Event, EventType
from perdure.domain.handles import Run
from perdure.domain.trace import Trace

ACTOR = "agent:tester"
MAIL = {"to": "cfo@acme.test"}


class LedgerClock(Protocol):
    """The time that the ledger goes by, in the hands of a test."""

    async def advance(self, seconds: float) -> None:
        """Move it forward."""
        ...


class LedgerContract:
    """The ledger's contracts need two fixtures of the backend: ``plane`` (lab) and, where time matters, ``clock``.

    ``plane`` is an open ``Plane`` on a ledger in which nothing happened yet; ``clock`` is a ``LedgerClock`` for it.
    """

    @pytest.fixture
    def acme(self, plane: Plane) -> Tenant:
        """The tenant that most tests are about."""
        return plane.scope("t_acme", actor=ACTOR)

    @pytest.fixture
    def other(self, plane: Plane) -> Tenant:
        """Another tenant, which must notice nothing."""
        return plane.scope("t_other", actor=ACTOR)


async def begin(tenant: Tenant, source_id: str = "msg-1", *, name: str = "triage", **values: Any) -> Run:
    """Start a run on a signal of its own."""
    return await tenant.runs.start(name, signal=("inbox", source_id), input={"about": source_id}, **values)


async def story(tenant: Tenant, run: Run) -> Trace:
    """Everything that came of the run's signal."""
    return await tenant.trace(run.correlation_id)


async def everything(tenant: Tenant) -> tuple[Event, ...]:
    """Every event of the tenant, in order."""
    events: list[Event] = []
    while page := await tenant.events.after(len(events), limit=1_000):
        events += page
    return tuple(events)


def types(events: Iterable[Event]) -> list[EventType]:
    """What the events say happened, in their order."""
    return [event.event_type for event in events]


def types_after(events: Iterable[Event], number: int) -> list[EventType]:
    """What happened after an event's number."""
    return types(event for event in events if event.sequence_number > number)
