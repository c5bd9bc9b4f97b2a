"""A root while a node runs: observed, tuned, trimmed, kept within its budget, and off when it is off."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest

from perdure.core.tasklist_checkpointing import CheckpointOutcome
from perdure.core.tasklist_events import EventName, log_event
from perdure.core.tasklist_root import SnapshotRoot, snapshot_root
from perdure.domain.tasklists.failures import (
    BudgetAtCapacity,
    FrequencyRefused,
    InvalidHostPolicyEnvelope,
    PersistenceNotInitialized,
    SnapshotExceedsBudget,
    StoreLocked,
)
from perdure.domain.tasklists.frequency import CheckpointFrequency
from perdure.domain.tasklists.settings import PersistenceConfig, PersistencePolicy
from perdure.domain.tasklists.snapshot_format import SCHEMA_VERSION, Codec, Snapshot, encode_snapshot
from perdure.domain.tasklists.snapshot_names import snapshot_name
from perdure.errors import Invalid
from perdure.testing.environment import fake_environment
from tests.domain.tasklists.envelopes import previous
from tests.support.frequency_requests import OPEN, REQUESTS, FrequencyRequest
from tests.support.node_files import (
    CODEC,
    LIST,
    Events,
    Opened,
    WanderingClock,
    decode_number,
    encoded,
    initialize,
    number,
    policy,
    put,
    tree,
)
from tests.support.node_files import snapshot_root as make_root

pytestmark = pytest.mark.fast

PERSISTED, DEGRADED = CheckpointOutcome.PERSISTED, CheckpointOutcome.DEGRADED_CONTINUED


class Filler:
    """A list whose payload has the size that a test wants."""

    def __init__(self, root: SnapshotRoot, clock: WanderingClock, entity_id: str) -> None:
        self.root, self.clock, self.entity_id = root, clock, entity_id
        self.size = 0

    async def open(self) -> None:
        opened = await self.root.open_list(
            self.entity_id,
            codec=CODEC,
            decode=lambda payload: payload,
            capture=lambda: lambda size=self.size: bytes(size),  # type: ignore[misc]
        )
        self.checkpoints = opened.checkpoints

    async def write(self, file_size: int) -> CheckpointOutcome:
        """Write a snapshot whose file has this size."""
        kept = self.checkpoints._kept
        self.size = 0
        for _ in range(2):  # the header tells the payload's length, so its own depends on it a little
            header = len(encoded_of(kept.generation + 1, self.size, self.entity_id)) - self.size
            self.size = file_size - header
        self.checkpoints.record_mutation()
        self.clock.advance(2)
        return await self.checkpoints.checkpoint()

    @property
    def health(self) -> dict[str, Any]:
        return self.checkpoints.health.value.as_document()


def encoded_of(generation: int, size: int, entity_id: str) -> bytes:
    moment = 1_767_225_600_000
    snapshot = Snapshot(
        entity_id=entity_id, generation=generation, created_at_ms=moment, codec=CODEC, payload=bytes(size)
    )
    return b"".join(encode_snapshot(snapshot))


@asynccontextmanager
async def filling(
    path: Path, rules: PersistencePolicy, *entity_ids: str
) -> AsyncIterator[tuple[SnapshotRoot, Events, list[Filler]]]:
    clock, events = WanderingClock(), Events()
    root = make_root(path, rules, clock=clock, events=events)
    await root.open()
    fillers = [Filler(root, clock, entity_id) for entity_id in entity_ids or (LIST,)]
    for filler in fillers:
        await filler.open()
    try:
        yield root, events, fillers
    finally:
        for filler in fillers:
            filler.checkpoints._state = type(filler.checkpoints.state)()  # whatever is dirty may stay so
        await root.close()


def used(path: Path) -> int:
    return sum(len(data) for name, data in tree(path).items() if "quarantine" not in name)


async def test_upstream_68_a_full_budget_fails_strict_with_its_own_type(tmp_path: Path):
    rules = policy("strict", storage_budget_bytes=3_000, checkpoints_to_keep=3)
    async with filling(tmp_path, rules) as (root, events, (filler,)):
        assert await filler.write(1_000) is PERSISTED
        with pytest.raises(BudgetAtCapacity) as refused:
            await filler.write(2_000)
        assert refused.value.code == "budget_at_capacity"
        assert (filler.health["state"], filler.health["last_error"]["code"]) == ("failed", "budget_at_capacity")
        assert root.observe().as_document()["health"]["budget_pressure"] == "at_capacity"
        assert events.of(EventName.BUDGET_THRESHOLD)[-1]["budget_pressure"] == "at_capacity"


async def test_fault_14_a_full_budget_is_skipped_in_degraded_and_recovers_when_there_is_room(tmp_path: Path):
    async with filling(tmp_path, policy(storage_budget_bytes=5_000), "a", "b") as (_, events, (a, b)):
        assert await a.write(2_400) is PERSISTED
        assert await b.write(2_400) is DEGRADED
        assert (b.health["state"], b.health["last_error"]["code"]) == ("degraded", "budget_at_capacity")
        assert await b.write(1_000) is PERSISTED
        assert (b.health["state"], b.health["last_error"]) == ("ready", None) or b.health["last_error"]["code"] in {
            "budget_warning",
            "budget_critical",
        }
        levels = [event["budget_pressure"] for event in events.of(EventName.BUDGET_THRESHOLD)]
        assert "at_capacity" in levels
        assert all(one != other for one, other in pairwise(levels)), "only when it changes"


async def test_fault_14_a_list_that_fills_its_budget_alone_goes_on_by_trimming_before_it_writes(tmp_path: Path):
    async with filling(tmp_path, policy("strict", storage_budget_bytes=5_000)) as (_, _, (filler,)):
        for _ in range(12):
            assert await filler.write(1_400) is PERSISTED
        assert used(tmp_path) < 5_000
        assert len(list((tmp_path / LIST).glob("*.snapshot"))) == 3


async def test_fault_14_a_snapshot_larger_than_the_whole_budget_is_another_error_at_once(tmp_path: Path):
    async with filling(tmp_path / "s", policy("strict", storage_budget_bytes=1_000)) as (_, _, (filler,)):
        with pytest.raises(SnapshotExceedsBudget) as refused:
            await filler.write(1_001)
        assert refused.value.code == "snapshot_exceeds_budget"
        assert (refused.value.detail["allowed"], refused.value.detail["actual"]) == (1_000, 1_001)
    async with filling(tmp_path / "d", policy(storage_budget_bytes=1_000)) as (_, _, (filler,)):
        assert await filler.write(1_001) is DEGRADED
        assert filler.health["last_error"]["code"] == "budget_at_capacity"
        assert "snapshot" in filler.health["last_error"]["message"]


@pytest.mark.parametrize(
    ("incoming", "pressure"),
    [
        (7_900, "normal"),
        (8_000, "warning"),
        (8_900, "warning"),
        (9_000, "critical"),
        (9_900, "critical"),
        (9_999, "critical"),
        (10_000, "at_capacity"),
    ],
)
async def test_fault_14_each_edge_of_the_budget_counts_what_comes_in(tmp_path: Path, incoming: int, pressure: str):
    initialize(tmp_path)
    (tmp_path / "foreign").write_bytes(b"")
    with Opened(tmp_path, policy()) as opened:
        opened.writer._record_checkpoint(LIST, 0)  # so that the write below adds nothing but its file
    before = used(tmp_path)
    (tmp_path / "foreign").write_bytes(b"")
    rules = policy("degraded", storage_budget_bytes=10_000)
    async with filling(tmp_path, rules) as (root, _, (filler,)):
        outcome = await filler.write(incoming - before)
        assert root.observe().health.budget_pressure.value == pressure
        assert outcome is (DEGRADED if pressure == "at_capacity" else PERSISTED)


async def test_fault_14_a_flood_in_quarantine_does_not_stop_writing(tmp_path: Path):
    for moment in range(3):
        put(tmp_path, 1_000 + moment, bytes(2_000))
    async with filling(tmp_path, policy(storage_budget_bytes=3_000)) as (_, _, (filler,)):
        assert await filler.write(1_000) is PERSISTED
    assert len(list((tmp_path / LIST / "quarantine").iterdir())) == 3


async def test_upstream_55_the_event_of_a_threshold_carries_the_pressure(tmp_path: Path):
    async with filling(tmp_path, policy(storage_budget_bytes=10_000)) as (_, events, (filler,)):
        await filler.write(8_100)
        (event,) = events.of(EventName.BUDGET_THRESHOLD)
        assert event["decision"] == "Warning80"
        assert (event["budget_pressure"], filler.health["last_error"]["code"]) == ("warning", "budget_warning")
        assert filler.health["state"] == "ready", "a warning stops nothing"


async def test_upstream_71_and_73_a_cycle_keeps_the_newest_and_touches_no_foreign_name(tmp_path: Path):
    for moment in range(1, 5):
        put(tmp_path, moment, encoded(moment))
    foreign = {f"{LIST}/notes.txt", f"{LIST}/5.snapshot"}
    for name in foreign:
        (tmp_path / name).write_text("mine")
    async with filling(tmp_path, policy(checkpoints_to_keep=2)) as (root, _, _):
        result = await root.retain()
        assert (result.deleted_old_snapshots, result.deleted_orphan_entities) == (2, 0)
    assert {name for name in tree(tmp_path) if name.startswith(LIST)} == foreign | {
        f"{LIST}/{snapshot_name(moment)}" for moment in (3, 4)
    }


async def test_fault_13_a_cycle_keeps_the_newest_that_loads_behind_three_that_do_not(tmp_path: Path):
    for moment in range(1, 4):
        put(tmp_path, moment, encoded(moment))
    root = make_root(tmp_path, policy())
    await root.open()
    for moment in range(4, 7):
        put(tmp_path, moment, b"torn")
    result = await root.retain({LIST})
    assert result.deleted_old_snapshots == 2
    await root.close()
    with Opened(tmp_path, policy()) as opened:
        assert opened.recovery.value == 3


async def test_fault_13_nothing_is_deleted_where_nothing_loads(tmp_path: Path):
    for moment in range(1, 7):
        put(tmp_path, moment, b"torn")
    root = make_root(tmp_path, policy())
    await root.open()
    assert (await root.retain({LIST})).deleted_old_snapshots == 0
    await root.close()


async def test_upstream_72_orphans_go_only_if_that_is_asked_for_and_only_lists(tmp_path: Path):
    for entity_id in (LIST, "orphan"):
        put(tmp_path, 1, encoded(1, entity_id=entity_id), entity_id=entity_id)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("mine")
    for asked, orphans in ((False, 0), (True, 1)):
        root = make_root(tmp_path, policy(delete_orphans=asked))
        await root.open()
        result = await root.retain({LIST})
        assert result.deleted_orphan_entities == orphans
        await root.close()
    assert sorted(tree(tmp_path)) == [f"{LIST}/{snapshot_name(1)}", "photos/cat.jpg"]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
async def test_fault_20_the_api_answers_each_request_by_the_table_and_changes_all_or_nothing(
    tmp_path: Path, request_: FrequencyRequest
):
    events = Events()
    root = make_root(tmp_path, replace(policy(), host_policy=request_.envelope), events=events)
    before = root.observe()
    if request_.code is None:
        assert root.update_frequency(request_.fields) == request_.gives
    else:
        with pytest.raises(FrequencyRefused) as refused:
            root.update_frequency(request_.fields)
        assert (refused.value.code, refused.value.message) == (request_.code, request_.message)
        assert root.observe() == before
    assert root.observe().checkpoint_frequency == request_.gives
    assert len(events.of(EventName.FREQUENCY_UPDATED)) == (request_.gives != CheckpointFrequency())


async def test_upstream_49_an_update_holds_from_the_next_decision_and_not_after_a_restart(tmp_path: Path):
    rules = replace(policy(), host_policy=OPEN)
    async with filling(tmp_path, rules) as (root, events, (filler,)):
        assert await filler.checkpoints.mutated(20) is CheckpointOutcome.NOT_DUE
        root.update_frequency({"mutation_threshold": 16})
        assert await filler.checkpoints.tick() is PERSISTED
        assert root.observe().as_document()["checkpoint_frequency"]["mutation_threshold"] == 16
        (event,) = events.of(EventName.FREQUENCY_UPDATED)
        assert event["old"] == CheckpointFrequency().as_document()
    async with filling(tmp_path, rules) as (root, _, _):
        assert root.observe().checkpoint_frequency == CheckpointFrequency()


def test_fault_22_where_snapshots_are_off_no_store_is_even_made():
    def make_store() -> NoReturn:
        pytest.fail("a store was made")

    assert snapshot_root(PersistenceConfig(), make_store=make_store, environment=fake_environment()) is None
    with pytest.raises(InvalidHostPolicyEnvelope):
        snapshot_root(
            PersistenceConfig(checkpoint_mutation_threshold=64), make_store=make_store, environment=fake_environment()
        )


async def test_fault_17_a_list_of_the_previous_schema_is_written_again(tmp_path: Path):
    put(tmp_path, 1_000, previous(number(5), codec_marker=CODEC.marker))
    root = make_root(tmp_path)
    await root.open()
    opened = await root.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: number(5))
    assert opened.checkpoints.state.is_dirty
    assert dict(await root.close()) == {LIST: PERSISTED}
    newest = max((tmp_path / LIST).glob("*.snapshot"))
    assert b'"schema_version":%d' % SCHEMA_VERSION in newest.read_bytes()
    with Opened(tmp_path, policy("strict", initialize=False)) as fresh:
        assert (fresh.recovery.value, fresh.recovery.is_migrated) == (5, False)


async def test_a_root_that_somebody_holds_is_memory_only_in_degraded(tmp_path: Path):
    with Opened(tmp_path, policy("strict")) as holder:
        holder.write(1)
        before = tree(tmp_path)
        async with filling(tmp_path, policy()) as (root, _, (filler,)):
            assert await filler.checkpoints.mutated(64) is CheckpointOutcome.NOT_DUE
            assert await filler.checkpoints.checkpoint() is DEGRADED
            assert await filler.checkpoints.shutdown() is DEGRADED
            assert filler.checkpoints.next_deadline_s() is None
            health = root.observe().health.as_document()
            assert (health["state"], health["last_recovery_outcome"]) == ("degraded", "degraded_fallback")
        strict = make_root(tmp_path, policy("strict"))
        with pytest.raises(StoreLocked):
            await strict.open()
        assert strict.observe().health.as_document()["last_recovery_outcome"] == "strict_init_failure"
        assert tree(tmp_path) == before


async def test_before_it_is_opened_a_root_is_starting_up_and_then_ready(tmp_path: Path):
    root = make_root(tmp_path)
    assert root.observe().health.state.value == "starting_up"
    with pytest.raises(PersistenceNotInitialized):
        await root.retain()
    await root.open()
    assert root.observe().health.state.value == "ready"
    await root.close()
    assert await root.close() == {}


async def test_a_list_is_open_once(tmp_path: Path):
    async with filling(tmp_path, policy()) as (root, _, (filler,)):
        with pytest.raises(Invalid, match="open already"):
            await root.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: b"")
        await filler.write(500)
        await root.close_list(LIST)
        await filler.open()


async def test_a_deleted_list_is_gone_and_may_begin_again_in_strict(tmp_path: Path):
    async with filling(tmp_path, policy("strict")) as (root, _, (filler,)):
        await filler.write(500)
        await root.delete_list(LIST)
        assert not (tmp_path / LIST).exists()
    async with filling(tmp_path, policy("strict", initialize=False)) as (_, _, (filler,)):
        assert filler.health["last_recovery_outcome"] == "empty_store"
        await filler.write(500)


async def test_verifying_tells_what_is_wrong_with_each_snapshot_and_moves_nothing(tmp_path: Path):
    put(tmp_path, 1, encoded(1))
    put(tmp_path, 2, encoded(2)[:-1])
    put(tmp_path, 3, encoded(3, codec=Codec(marker="bincode")))
    initialize(tmp_path, lists=("other",))
    before = tree(tmp_path)
    root = make_root(tmp_path, policy("strict"))
    await root.open()
    found = await root.verify(LIST, codec=CODEC, decode=decode_number)
    assert [(file.timestamp_ms, failure and failure.code) for file, failure in found] == [
        (3, "unexpected_codec"),
        (2, "integrity_mismatch"),
        (1, None),
    ]
    await root.close()
    assert tree(tmp_path) == before


def test_events_are_log_records_with_their_name_and_fields(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="perdure.tasklists"):
        log_event(EventName.CHECKPOINT_SUCCESS, {"list": "a", "bytes": 7})
        log_event(EventName.CHECKPOINT_FAILURE, {"list": "a"})
    one, other = caplog.records

    assert (vars(one)["event"], vars(one)["fields"]) == ("persistence.checkpoint.success", {"list": "a", "bytes": 7})
    assert (one.levelname, other.levelname) == ("INFO", "WARNING")
