"""A run is recorded once, however often it is told: by the same process, by another one, on another backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.adapters.cxdb.server import Profile
from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.core.journal_labels import run_label, session_label
from perdure.domain.turn import NO_TURN, content_hash
from perdure.domain.turn_records import catalog
from perdure.domain.turn_records.bundle import bundle
from perdure.domain.turn_records.keys import agent_key, attractor_key
from perdure.errors import PersistenceError
from tests.contracts.turn_stores import BlobsInMemory
from tests.support.recorded_servers import kept_by_server
from tests.support.recorded_turns import (
    FaultyTurns,
    Kept,
    TurnsOver,
    every_context,
    everything,
    kinds,
    records_of,
    turns_of,
    turns_on,
    watched,
)
from tests.support.scripted_session import BRANCHES, GRAPH, Script, Words

RECORDS = 61  # of the whole script
STRANGE = "rün|1:x\n🚀 '\"\\"


@pytest.fixture(params=["memory", *Profile])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    """Turns in memory, and turns that only our own CXDB server shows, on a socket, in each of its profiles."""
    if request.param == "memory":
        yield Kept()
        return
    async with kept_by_server(request.param) as served:
        yield served


async def told(words: Words | None = None, *, kept: Kept | None = None) -> tuple[Kept, TurnsOver]:
    kept = kept or Kept()
    turns = await kept.client()
    await Script(watched(turns, mode="required").recorder, words).tell()
    return kept, turns


async def test_a_run_told_leaves_its_main_context_its_agents_and_its_branches() -> None:
    _, turns = await told()
    run, session, child, *branches = await every_context(turns)
    assert [context.base_turn_id == NO_TURN for context in (run, session, child)] == [True, True, False]
    of_run = await records_of(turns, run.context_id)
    assert [record.values["sequence_no"] for record in of_run] == [*range(1, 15), *range(24, 41)]
    assert kinds(of_run)["stage_to_agent_link"] == 2
    of_session = await records_of(turns, session.context_id)
    assert [record.values["sequence_no"] for record in of_session] == list(range(17))
    spawn = next(record for record in of_session if record.event_kind == "subagent_spawn")
    assert (child.context_id, child.base_turn_id) == (spawn.values["child_context_id"], spawn.values["parent_turn_id"])
    spawning = next(record for record in of_session if record.turn.turn_id == child.base_turn_id)
    assert (spawning.event_kind, spawning.values["call_id"]) == ("tool_call_start", "call-3")
    fan = next(record for record in of_run if record.event_kind == "parallel_started")
    assert [branch.base_turn_id for branch in branches] == [fan.turn.turn_id] * 3
    fan_in = next(record for record in of_run if record.event_kind == "fan_in_completed")
    assert fan_in.values["sources"] == [
        {
            "branch_id": name,
            "context_id": branch.context_id,
            "terminal_turn_id": branch.head_turn_id,
            "status": "success",
        }
        for name, branch in zip(BRANCHES, branches, strict=True)
    ]


async def test_keys_are_byte_exact_and_stand_in_every_payload() -> None:
    _, turns = await told()
    run, session, *_ = await every_context(turns)
    found = await records_of(turns, run.context_id)
    assert (
        found[0].values["idempotency_key"] == "forge-attractor:v1|5:run-1|7:__run__|7:__run__|20:dot_source_persisted|1"
    )
    assert (
        found[3].values["idempotency_key"] == "forge-attractor:v1|5:run-1|4:plan|14:plan:attempt:1|13:stage_started|4"
    )
    assert found[10].values["idempotency_key"] == attractor_key(
        "run-1",
        node_id="__parallel__",
        stage_attempt_id="__parallel__",
        event_kind="parallel_started",
        sequence_no=11,
    )
    said = await records_of(turns, session.context_id)
    assert said[0].values["idempotency_key"] == "forge-agent:v1|9:session-1|0|13:session_start"
    for record in [*found, *said]:
        assert record.turn.idempotency_key == record.values["idempotency_key"]


async def test_p2_the_payloads_are_the_same_bytes_on_two_backends(tmp_path: Path) -> None:
    _, first = await told()
    second = await turns_on(SqliteDriver(tmp_path / "turns.db"), BlobsInMemory())
    await Script(watched(second, mode="required").recorder).tell()
    one, other = await everything(first), await everything(second)
    assert one.keys() == other.keys()
    for context_id, turns in one.items():
        assert [turn.payload for turn in turns] == [turn.payload for turn in other[context_id]]
        assert [turn.content_hash for turn in turns] == [turn.content_hash for turn in other[context_id]]


async def test_p2_the_payloads_are_the_same_bytes_behind_a_server() -> None:
    _, first = await told()
    async with kept_by_server(Profile.IMPROVED) as served:
        _, second = await told(kept=served)
        one, other = await everything(first), await everything(second)
    assert [[turn.payload for turn in own] for own in one.values()] == [
        [turn.payload for turn in own] for own in other.values()
    ]


async def test_p6_telling_a_run_again_is_no_change(kept: Kept) -> None:
    _, turns = await told(kept=kept)
    before = await everything(turns)
    again = watched(turns, mode="required")
    await Script(again.recorder).tell()
    assert await everything(turns) == before
    assert (again.recorder.status.written, again.recorder.status.replayed) == (RECORDS, RECORDS)


async def test_p7_telling_a_run_again_through_another_client_is_no_change(kept: Kept) -> None:
    _, turns = await told(kept=kept)
    before, bytes_before = await everything(turns), kept.all_bytes()
    other = await kept.client()
    await Script(watched(other, mode="required").recorder).tell()
    assert await everything(other) == before
    assert kept.all_bytes() == bytes_before


async def test_p7_a_run_that_stopped_half_way_is_completed_by_telling_all_of_it(kept: Kept) -> None:
    turns = await kept.client()
    await Script(watched(turns, mode="required").recorder).tell(stops_at_checkpoint=True)
    other = await kept.client()
    await Script(watched(other, mode="required").recorder).tell()
    _, whole = await told()
    found, expected = await everything(other), await everything(whole)
    # Another process takes other numbers for new contexts; all else is as if it had been told at once.
    assert [[turn.idempotency_key for turn in own] for own in found.values()] == [
        [turn.idempotency_key for turn in own] for own in expected.values()
    ]


async def test_p8_another_payload_under_a_key_is_refused_and_changes_nothing(kept: Kept) -> None:
    _, turns = await told(kept=kept)
    before = kept.all_bytes()
    with pytest.raises(PersistenceError) as refused:
        await Script(watched(await kept.client(), mode="required").recorder, Words(prompt="Another plan.")).tell()
    assert refused.value.detail["cause"] == "key_reused"
    assert refused.value.detail["idempotency_key"] == agent_key("session-1", index=2, event_kind="turn_appended")
    assert kept.all_bytes() == before
    assert len(await every_context(turns)) == 6


async def test_p8_in_best_effort_it_is_a_warning_and_the_run_goes_on(kept: Kept) -> None:
    await told(kept=kept)
    before = kept.all_bytes()
    other = watched(await kept.client(), mode="best_effort")
    story = await Script(other.recorder, Words(prompt="Another plan.")).tell()
    assert story.outcome == "success"
    assert [(warning.code, warning.sequence_no) for warning in other.warnings] == [("key_reused", 2)]
    assert (other.recorder.status.failed, other.recorder.status.replayed) == (1, RECORDS - 1)
    assert kept.all_bytes() == before


async def test_p8_another_first_record_is_a_warning_too_and_one_for_each_that_refers_to_it(kept: Kept) -> None:
    await told(kept=kept)
    before = kept.all_bytes()
    other = watched(await kept.client(), mode="best_effort")
    await Script(other.recorder, Words(title="Another title")).tell()
    # Its text, the record of the run that says where that is, the session that says where it began, the checkpoint.
    assert {warning.code for warning in other.warnings} == {"key_reused"}
    assert [warning.sequence_no for warning in other.warnings] == [1, 3, 0, 9]
    assert kept.all_bytes() == before


async def test_a_run_with_gaps_that_is_told_again_gets_what_it_lacked_and_keeps_what_it_had() -> None:
    kept = Kept()
    turns = FaultyTurns(await kept.client(), faults={20: "down"})
    first = watched(turns, mode="best_effort")
    await Script(first.recorder).tell()
    other = watched(await kept.client(), mode="best_effort")
    await Script(other.recorder).tell()
    (lost,) = first.warnings
    # What tells of the gap stays as it is, and what names the last turn before another came: nobody changes a turn.
    assert {warning.code for warning in other.warnings} == {"key_reused"}
    assert other.recorder.status.failed == len(other.warnings) == 3
    keys = [turn.idempotency_key for own in (await everything(turns.target)).values() for turn in own]
    assert len(keys) == len(set(keys)) == RECORDS
    assert lost.idempotency_key in keys


@pytest.mark.parametrize("messages", [300, 600])
async def test_p11_sessions_of_more_than_256_and_512_turns_are_whole(messages: int, kept: Kept) -> None:
    _, turns = await told(Words(messages=messages), kept=kept)
    _, session, *_ = await every_context(turns)
    found = await turns_of(turns, session.context_id)
    assert len(found) == 17 + messages == session.head_depth
    other = watched(await kept.client(), mode="required")
    await Script(other.recorder, Words(messages=messages)).tell()
    assert other.recorder.status.replayed == RECORDS + messages


async def test_p12_any_characters_are_fine_in_ids_prompts_and_nodes(kept: Kept) -> None:
    words = Words(run_id=STRANGE, session_id=STRANGE, node=STRANGE, prompt=STRANGE, dot=STRANGE, title=None)
    _, turns = await told(words, kept=kept)
    (run,) = await turns.contexts(label=run_label(STRANGE))
    (session,) = await turns.contexts(label=session_label(STRANGE))
    started = (await records_of(turns, run.context_id))[3]
    assert started.values["node_id"] == STRANGE
    said = await records_of(turns, session.context_id)
    assert said[2].values["content"] == STRANGE
    size = len(STRANGE.encode())
    assert said[2].values["idempotency_key"] == f"forge-agent:v1|{size}:{STRANGE}|2|13:turn_appended"
    other = watched(await kept.client(), mode="required")
    await Script(other.recorder, words).tell()
    assert other.recorder.status.replayed == RECORDS


async def test_d12_the_bundle_is_published_before_anything_is_written_and_has_every_type(kept: Kept) -> None:
    turns = FaultyTurns(await kept.client())
    await Script(watched(turns, mode="best_effort").recorder).tell()
    writes = [call for call in turns.calls if call in {"publish_bundle", "create", "fork", "append", "put_blob"}]
    assert (writes[0], writes.count("publish_bundle")) == ("publish_bundle", 1)
    kept_bundle = await turns.target.find_bundle(catalog.BUNDLE_ID)
    expected = bundle(catalog.RECORD_TYPES, bundle_id=catalog.BUNDLE_ID, version=catalog.BUNDLE_VERSION)
    assert kept_bundle == expected
    written = {turn.type_id for own in (await everything(turns.target)).values() for turn in own}
    assert written == {record_type.type_id for record_type in catalog.RECORD_TYPES}
    for type_id in written:
        assert f'"{type_id}"'.encode() in expected


async def test_a_published_bundle_is_only_looked_at(kept: Kept) -> None:
    await told(kept=kept)
    turns = FaultyTurns(await kept.client())
    await Script(watched(turns, mode="required").recorder).tell()
    assert (turns.calls[0], turns.calls.count("publish_bundle")) == ("find_bundle", 0)


async def test_a_new_run_costs_one_call_for_each_record_and_few_more() -> None:
    turns = FaultyTurns(await Kept().client())
    await Script(watched(turns, mode="required").recorder).tell()
    assert turns.calls.count("append") == RECORDS
    # The bundle; the contexts of the run and the session, each looked for; the fork of the subagent and three branches.
    assert len(turns.calls) - RECORDS == 2 + 2 * 2 + 4


async def test_labels_and_metadata_stand_on_the_first_turn_of_a_context() -> None:
    _, turns = await told()
    for context in await every_context(turns):
        first, *others = await records_of(turns, context.context_id)
        assert set(first.values["context_metadata"]["labels"]) <= set(context.labels)
        assert not any("context_metadata" in record.values for record in others)
    run, *_ = await every_context(turns)
    first = (await records_of(turns, run.context_id))[0]
    assert first.values["context_metadata"]["title"] == "A plan"
    assert (first.values["retention_class"], first.values["expires_at"]) == ("short", 1_802_217_600_000)


async def test_the_graph_is_kept_as_canonical_json_and_its_hash_is_of_those_bytes() -> None:
    _, turns = await told()
    run, *_ = await every_context(turns)
    _, graph, initialized, *_ = await records_of(turns, run.context_id)
    text = '{"edges":4,"id":"g","nodes":["start","plan","fan","review","exit"]}'
    assert (graph.values["graph_snapshot"], GRAPH["edges"]) == (text, 4)
    assert graph.values["content_hash"] == content_hash(text.encode()) == initialized.values["graph_snapshot_hash"]
    assert initialized.values["graph_snapshot_ref"] == f"turnstore://{run.context_id}/{graph.turn.turn_id}"
