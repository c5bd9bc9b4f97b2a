"""Rows become records, records and scopes keep their promises."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any, Literal, get_args, get_type_hints
from uuid import UUID

import pytest

from perdure.domain import records
from perdure.domain.records import Checkpoint, Effect, Lease, OutboxEntry, Page, RunRecord, Signal, Step, ToolCall
from perdure.domain.row import FromRow
from perdure.domain.run import RunStatus
from perdure.domain.scope import make_scope
from perdure.domain.trace import Trace
from perdure.errors import Corrupt, Invalid, LimitExceeded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = [
    kind
    for kind in vars(records).values()
    if isinstance(kind, type) and issubclass(kind, FromRow) and kind is not FromRow
]
SAMPLES: dict[object, object] = {
    UUID: UUID(int=5),
    str: "x",
    int: 3,
    bool: True,
    datetime: NOW,
    dict: {"a": 1},
    Any: [1],
}


def row_of(kind: type[Any], **changes: object) -> dict[str, object]:
    hints = get_type_hints(kind)
    row = {field.name: sample(hints[field.name]) for field in dataclasses.fields(kind)}
    assert row.keys() >= changes.keys()
    return row | changes


def sample(hint: Any) -> object:
    options = [option for option in get_args(hint) if option is not type(None)]
    if hint not in SAMPLES and options:
        hint = dict if options == [str, Any] else options[0]
    if hint not in SAMPLES:
        return str(next(iter(hint)))
    return SAMPLES[hint]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_record_is_read_from_a_row_with_more_columns(kind: type[Any]):
    row = row_of(kind)
    record = kind.from_row({**row, "transaction_id": "9", "some_later_column": object})
    assert {name: getattr(record, name) for name in row} == row
    assert kind.from_row(dataclasses.asdict(record)) == record


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_record_is_frozen_slotted_and_named_by_keyword(kind: type[Any]):
    record = kind.from_row(row_of(kind))
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.id = UUID(int=1)
    assert not hasattr(record, "__dict__")
    with pytest.raises(TypeError):
        kind(UUID(int=1))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_row_that_lacks_a_column_or_has_another_type_is_corrupt(kind: type[Any]):
    row = row_of(kind)
    with pytest.raises(Corrupt, match=kind.__name__):
        kind.from_row({name: value for name, value in row.items() if name != "tenant_id"})
    with pytest.raises(Corrupt, match=r"\$\.id"):
        kind.from_row({**row, "id": "not a uuid"})


def test_ids_and_times_are_read_from_json_too_and_times_have_a_zone():
    row = row_of(RunRecord, id=str(UUID(int=9)), started_at="2026-01-01T00:00:00.5Z", status="FAILED")
    run = RunRecord.from_row(row)
    assert (run.id, run.status) == (UUID(int=9), RunStatus.FAILED)
    assert run.started_at == datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    with pytest.raises(Corrupt, match="timezone"):
        RunRecord.from_row({**row, "started_at": "2026-01-01T00:00:00"})
    with pytest.raises(Corrupt, match="status"):
        RunRecord.from_row({**row, "status": "PAUSED"})


@pytest.mark.parametrize("kind", [Signal, Step, ToolCall, Effect, OutboxEntry, Checkpoint])
def test_what_may_be_private_is_not_in_a_repr(kind: type[Any]):
    shown = repr(kind.from_row(row_of(kind)))
    for name in ("payload", "effect_spec", "input_context", "output_result", "checkpoint_data", "tool_args", "result"):
        assert f"{name}=" not in shown


def test_the_fence_of_a_lease_is_not_in_its_repr():
    lease = Lease.from_row(row_of(Lease, lock_token=UUID(int=77)))
    assert str(UUID(int=77)) not in repr(lease)


def test_a_page_is_its_items():
    page = Page(items=(1, 2), next_cursor="c")
    assert (list(page), len(page), page.next_cursor) == ([1, 2], 2, "c")


def test_a_trace_finds_what_belongs_to_a_step_in_order():
    run, step = UUID(int=1), UUID(int=2)
    steps = tuple(Step.from_row(row_of(Step, run_id=run, step_index=index)) for index in (2, 0, 1))
    calls = tuple(ToolCall.from_row(row_of(ToolCall, step_id=step, call_index=index)) for index in (1, 0))
    effect = Effect.from_row(row_of(Effect, step_id=step, id=UUID(int=6)))
    entry = OutboxEntry.from_row(row_of(OutboxEntry, aggregate_id=UUID(int=6)))
    other = Step.from_row(row_of(Step, run_id=UUID(int=3)))
    trace = Trace(
        correlation_id=UUID(int=7), steps=(*steps, other), tool_calls=calls, effects=(effect,), outbox=(entry,)
    )
    assert [found.step_index for found in trace.steps_of(run)] == [0, 1, 2]
    assert [found.call_index for found in trace.tool_calls_of(step)] == [0, 1]
    assert trace.effects_of(step) == (effect,)
    assert trace.outbox_of(UUID(int=6)) is entry
    assert trace.outbox_of(UUID(int=8)) is None


def test_a_scope_is_made_of_checked_parts():
    user = UUID("0190f3c4-8a6e-7c1b-9d55-3f2e1a0b4c6d")
    scope = make_scope("t_acme", actor="agent:planner", mode="lab", env="dev", user=str(user).upper())
    assert (scope.tenant, scope.user_id, scope.source) == ("t_acme", user, "api:perdure")
    assert scope.tenant_id == UUID("46a42543-83d8-508c-a74e-d4fa1e936fbd")
    assert make_scope("t_acme", actor="user:1", mode="lab", env="dev", user=user).user_id == user
    assert make_scope("t_acme", actor="user:1", mode="lab", env="dev").user_id is None


Part = Literal["tenant", "actor", "mode", "env", "user", "source"]


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("tenant", "acme"),
        ("actor", "planner"),
        ("mode", "prod"),
        ("env", ""),
        ("user", "bob"),
        ("user", "{0190f3c4-8a6e-7c1b-9d55-3f2e1a0b4c6d}"),
        ("source", "perdure"),
        ("actor", "agent:" + "x" * 95),
    ],
)
def test_a_scope_with_one_wrong_part_is_not_made(part: Part, wrong: str):
    parts = {"tenant": "t_acme", "actor": "agent:planner", "mode": "lab", "env": "dev", "source": "api:x"}
    parts[part] = wrong
    tenant = parts.pop("tenant")
    with pytest.raises((Invalid, LimitExceeded)):
        make_scope(tenant, **parts)
