"""What caused what, also in histories that are damaged or very long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.event import Aggregate, Event, EventType
from perdure.domain.trace import CausalNode, Trace, causal_tree, causes, duration_ms
from perdure.errors import ChainBroken, NotFound

START = datetime(2026, 1, 1, tzinfo=UTC)


def happened(number: int, *, cause: int | None) -> Event:
    return Event(
        tenant_id=UUID(int=1),
        id=UUID(int=number),
        sequence_number=number,
        event_type=EventType.STEP_STARTED,
        aggregate_type=Aggregate.STEP,
        aggregate_id=UUID(int=99),
        event_data={},
        schema_version=1,
        correlation_id=UUID(int=7),
        causation_id=None if cause is None else UUID(int=cause),
        actor="agent:planner",
        source="api:perdure",
        occurred_at=START + timedelta(seconds=number),
    )


def shape(forest: tuple[CausalNode, ...]) -> list[tuple[int, int]]:
    return [(node.event.sequence_number, node.depth) for root in forest for node in root.walk()]


def by_id(*events: Event) -> dict[UUID, Event]:
    return {event.id: event for event in events}


def test_the_tree_shows_what_caused_what_in_order():
    events = [
        happened(1, cause=None),
        happened(2, cause=1),
        happened(5, cause=2),
        happened(3, cause=1),
        happened(4, cause=2),
    ]
    forest = causal_tree(events)
    assert shape(forest) == [(1, 0), (2, 1), (4, 2), (5, 2), (3, 1)]
    assert not any(node.detached for root in forest for node in root.walk())


def test_an_event_whose_cause_is_elsewhere_is_a_detached_root():
    forest = causal_tree([happened(4, cause=2), happened(3, cause=None)])
    assert [(root.event.sequence_number, root.detached) for root in forest] == [(3, False), (4, True)]


def test_a_cycle_is_cut_where_it_begins_and_nothing_is_lost():
    forest = causal_tree([happened(1, cause=None), happened(2, cause=4), happened(3, cause=2), happened(4, cause=3)])
    assert shape(forest) == [(1, 0), (2, 0), (3, 1), (4, 2)]
    assert [root.detached for root in forest] == [False, True]
    assert shape(causal_tree([happened(1, cause=1)])) == [(1, 0)]


@given(st.lists(st.none() | st.integers(1, 14), max_size=12))
def test_whatever_the_causes_every_event_is_in_the_tree_once(named: list[int | None]):
    events = [happened(number, cause=cause) for number, cause in enumerate(named, start=1)]
    seen = [number for number, _ in shape(causal_tree(events))]
    assert sorted(seen) == list(range(1, len(named) + 1))


def test_a_chain_deeper_than_the_stack_is_still_a_tree():
    events = [happened(number, cause=number - 1 or None) for number in range(1, 20_001)]
    forest = causal_tree(events)
    assert len(forest) == 1
    assert shape(forest)[-1] == (20_000, 19_999)
    assert len(causes(by_id(*events), event_id=UUID(int=20_000))) == 20_000
    assert "20000" not in repr(forest[0])


def test_causes_begin_at_the_root_and_end_with_the_event():
    events = by_id(happened(1, cause=None), happened(2, cause=1), happened(3, cause=1), happened(4, cause=3))
    assert [event.sequence_number for event in causes(events, event_id=UUID(int=4))] == [1, 3, 4]
    assert [event.sequence_number for event in causes(events, event_id=UUID(int=1))] == [1]


def test_causes_begin_where_the_history_at_hand_does():
    events = by_id(happened(3, cause=1), happened(4, cause=3))
    assert [event.sequence_number for event in causes(events, event_id=UUID(int=4))] == [3, 4]


def test_an_unknown_event_is_not_found():
    with pytest.raises(NotFound, match=str(UUID(int=9))):
        causes({}, event_id=UUID(int=9))


def test_an_event_that_is_its_own_cause_is_a_broken_chain():
    for cycle in ([happened(1, cause=1)], [happened(1, cause=3), happened(2, cause=1), happened(3, cause=2)]):
        with pytest.raises(ChainBroken, match="its own cause"):
            causes(by_id(*cycle), event_id=UUID(int=1))


def test_a_trace_lasts_from_its_first_event_to_its_last():
    assert Trace(correlation_id=UUID(int=7)).duration_s() is None
    trace = Trace(correlation_id=UUID(int=7), events=(happened(1, cause=None), happened(4, cause=1)))
    assert trace.duration_s() == 3.0
    assert shape(trace.tree()) == [(1, 0), (4, 1)]


def test_what_has_not_ended_has_no_duration():
    assert duration_ms(START, target=None) is None
    assert duration_ms(START, target=START + timedelta(microseconds=1_500)) == 1.5
