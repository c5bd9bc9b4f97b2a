"""The taxonomy, its contracts, and how histories of other releases are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from perdure.domain.event import (
    EVENT_CONTRACTS,
    UPCASTERS,
    Aggregate,
    Event,
    EventType,
    Upcasters,
    check_event_data,
    parse_event_type,
)
from perdure.errors import Corrupt, Invalid, LegacyArtifact

STEP_STARTED_DATA = {
    "step_id": "s",
    "run_id": "r",
    "step_type": "DECISION",
    "name": "classify",
    "step_key": "classify",
    "retry_count": 0,
    "step_index": 3,
}


def row(**changes: object) -> dict[str, object]:
    return {
        "tenant_id": UUID(int=1),
        "id": UUID(int=2),
        "sequence_number": 7,
        "event_type": "STEP_STARTED",
        "aggregate_type": "STEP",
        "aggregate_id": UUID(int=3),
        "event_data": STEP_STARTED_DATA,
        "schema_version": 1,
        "correlation_id": UUID(int=4),
        "causation_id": None,
        "actor": "agent:planner",
        "source": "api:perdure",
        "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "transaction_id": "12345",
        **changes,
    }


def test_there_are_24_types_and_each_has_one_contract():
    assert len(EventType) == 24
    assert set(EVENT_CONTRACTS) == set(EventType)
    assert all(event_type is contract.type for event_type, contract in EVENT_CONTRACTS.items())


@pytest.mark.parametrize("event_type", EventType)
def test_a_type_begins_with_its_aggregate_and_names_it(event_type: EventType):
    contract = EVENT_CONTRACTS[event_type]
    assert event_type.startswith("TOOL_" if contract.aggregate is Aggregate.TOOL_CALL else f"{contract.aggregate}_")
    assert f"{contract.aggregate.lower()}_id" in contract.required
    assert contract.assigned <= contract.required
    assert not contract.required & contract.optional


@pytest.mark.parametrize("event_type", EventType)
def test_data_says_all_it_must_and_nothing_unknown(event_type: EventType):
    contract = EVENT_CONTRACTS[event_type]
    complete: dict[str, object] = dict.fromkeys(contract.required)
    check_event_data(event_type, data=complete)
    check_event_data(event_type, data={**complete, **dict.fromkeys(contract.optional)})
    for field in contract.required:
        lacking = {name: value for name, value in complete.items() if name != field}
        with pytest.raises(Invalid, match=f"missing: {field}"):
            check_event_data(event_type, data=lacking)
    with pytest.raises(Invalid, match="unknown: surprise") as refused:
        check_event_data(event_type, data={**complete, "surprise": 1})
    assert refused.value.detail["unknown"] == ["surprise"]


def test_before_the_commit_what_it_assigns_may_be_missing():
    data = {name: value for name, value in STEP_STARTED_DATA.items() if name != "step_index"}
    check_event_data(EventType.STEP_STARTED, data=data, committed=False)
    with pytest.raises(Invalid, match="missing: step_index"):
        check_event_data(EventType.STEP_STARTED, data=data)
    with pytest.raises(Invalid, match="missing: name"):
        check_event_data(EventType.STEP_STARTED, data={"step_index": 1}, committed=False)


def test_an_old_name_is_read_as_the_current_one_and_an_unknown_name_is_an_error():
    assert parse_event_type("EFFECT_EXECUTED") is EventType.EFFECT_COMPLETED
    assert "EFFECT_EXECUTED" not in set(EventType)
    with pytest.raises(LegacyArtifact, match="RUN_PAUSED"):
        parse_event_type("RUN_PAUSED")


def test_every_version_of_every_type_has_a_path_to_the_current_one():
    assert UPCASTERS.gaps() == ()
    assert UPCASTERS.current == {
        event_type: contract.schema_version for event_type, contract in EVENT_CONTRACTS.items()
    }


def test_old_data_is_led_up_version_by_version_and_left_as_it_was():
    def name_the_key(data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, "step_key": data["name"]}

    def count_retries(data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, "retry_count": 0}

    chain = Upcasters(
        steps=MappingProxyType({(EventType.STEP_STARTED, 1): name_the_key, (EventType.STEP_STARTED, 2): count_retries}),
        current=MappingProxyType({EventType.STEP_STARTED: 3}),
    )
    written = {"name": "classify"}
    assert chain.gaps() == ()
    assert chain.upcast(EventType.STEP_STARTED, schema_version=1, data=written) == {
        "name": "classify",
        "step_key": "classify",
        "retry_count": 0,
    }
    assert chain.upcast(EventType.STEP_STARTED, schema_version=3, data=written) == written
    assert written == {"name": "classify"}


def test_a_gap_in_the_path_is_found_before_and_while_reading():
    chain = Upcasters(
        steps=MappingProxyType({(EventType.STEP_STARTED, 1): dict}),
        current=MappingProxyType({EventType.STEP_STARTED: 3}),
    )
    assert chain.gaps() == ((EventType.STEP_STARTED, 2),)
    with pytest.raises(LegacyArtifact, match="from version 2 to 3"):
        chain.upcast(EventType.STEP_STARTED, schema_version=1, data={})


@pytest.mark.parametrize("version", [0, 2])
def test_a_version_of_another_release_is_refused(version: int):
    with pytest.raises(LegacyArtifact, match=f"has version {version}; this release reads 1 to 1"):
        Event.from_row(row(schema_version=version))


def test_an_event_is_read_from_its_row():
    event = Event.from_row(row())
    assert event.event_type is EventType.STEP_STARTED
    assert event.event_data == STEP_STARTED_DATA
    assert event.occurred_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert Event.from_row(row(event_type="EFFECT_EXECUTED")).event_type is EventType.EFFECT_COMPLETED


def test_a_row_that_is_no_event_is_corrupt():
    with pytest.raises(Corrupt, match="not a Event"):
        Event.from_row({"id": UUID(int=2)})
    with pytest.raises(Corrupt, match="timezone"):
        Event.from_row(row(occurred_at=datetime(2026, 1, 1)))  # noqa: DTZ001 - what must be refused
