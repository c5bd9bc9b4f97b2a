"""Large texts: in the record or beside it, decided by size and capability alone, and refused above one limit."""

from __future__ import annotations

import pytest

from perdure.core.recorder_limits import INLINE_TEXT_BYTES_MAX, TEXT_BYTES_MAX, RecorderLimits
from perdure.core.run_journal import RunJournal
from perdure.core.session_journal import SessionJournal
from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX, content_hash
from perdure.errors import Invalid, PersistenceError
from tests.support.recorded_turns import FaultyTurns, Kept, Record, TurnsOver, every_context, records_of, watched

MEBIBYTE = 1_048_576


def dot_of(size: int) -> str:
    return 'digraph g { a [label="' + "é" * ((size - 27) // 2) + "x" * ((size - 27) % 2) + '"] }\n'


async def persisted(text: str, turns: TurnsOver | FaultyTurns, **rest: object) -> RunJournal:
    run = RunJournal(watched(turns, mode="required", **rest).recorder, run_id="run-1", graph_id="g")  # type: ignore[arg-type]  # passed on
    await run.dot_source_persisted(dot_source=text)
    return run


async def first(turns: TurnsOver) -> Record:
    context, *_ = await every_context(turns)
    record, *_ = await records_of(turns, context.context_id)
    return record


@pytest.mark.parametrize(("size", "is_blob"), [(INLINE_TEXT_BYTES_MAX, False), (INLINE_TEXT_BYTES_MAX + 1, True)])
async def test_a_text_is_an_object_above_the_limit_and_in_its_record_up_to_it(size: int, *, is_blob: bool) -> None:
    text = dot_of(size)
    assert len(text.encode()) == size
    turns = FaultyTurns(await Kept().client())
    await persisted(text, turns)
    values = (await first(turns.target)).values
    digest = content_hash(text.encode())
    assert (values["content_hash"], values["size_bytes"], values["source_hash"]) == (digest, size, digest)
    assert (values.get("artifact_blob_hash"), values.get("dot_source")) == ((digest, None) if is_blob else (None, text))
    writes = [call for call in turns.calls if call in {"put_blob", "append"}]
    assert writes == (["put_blob", "append"] if is_blob else ["append"])
    if is_blob:
        assert await turns.target.find_blob(digest) == text.encode()


async def test_d9_five_mebibytes_of_dot_are_an_object_the_same_every_time() -> None:
    text = dot_of(5 * MEBIBYTE)
    kept, other = Kept(), Kept()
    for place in (kept, other):
        turns = await place.client()
        await persisted(text, turns)
        record = await first(turns)
        assert await turns.find_blob(record.values["artifact_blob_hash"]) == text.encode()
    one, two = await first(await kept.client()), await first(await other.client())
    assert one.turn.payload == two.turn.payload
    assert len(one.turn.payload) < 1_000


async def test_d9_where_no_objects_are_kept_they_are_in_the_record() -> None:
    text = dot_of(5 * MEBIBYTE)
    turns = FaultyTurns(await Kept().client())
    run = await persisted(text, turns, keeps_blobs=False)
    record = await first(turns.target)
    assert record.values["dot_source"] == text
    assert "put_blob" not in turns.calls
    assert run.context_id == record.turn.context_id


async def test_d9_above_what_every_backend_carries_there_is_one_error_and_no_call() -> None:
    assert TEXT_BYTES_MAX == TURN_PAYLOAD_BYTES_MAX < 64 * MEBIBYTE
    for keeps_blobs in (True, False):
        turns = FaultyTurns(await Kept().client())
        with pytest.raises(PersistenceError, match="text_bytes_max") as refused:
            await persisted("x" * (TEXT_BYTES_MAX + 1), turns, keeps_blobs=keeps_blobs)
        assert (refused.value.detail["cause"], refused.value.detail["step"]) == ("limit_exceeded", "encode")
        assert not turns.calls


@pytest.mark.parametrize(("size", "is_refused"), [(1_000, False), (1_001, True)])
async def test_the_limit_counts_bytes_not_characters(size: int, *, is_refused: bool) -> None:
    limits = RecorderLimits(text_bytes_max=1_000)
    turns = FaultyTurns(await Kept().client())
    told = watched(turns, mode="best_effort", limits=limits)
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    kept = await run.dot_source_persisted(dot_source=dot_of(size))
    assert (kept is None) == is_refused
    assert [warning.code for warning in told.warnings] == (["limit_exceeded"] if is_refused else [])
    assert bool(turns.calls) != is_refused


def test_no_recorder_takes_more_than_every_backend_carries() -> None:
    with pytest.raises(Invalid, match="text_bytes_max"):
        RecorderLimits(text_bytes_max=TEXT_BYTES_MAX + 1)


async def test_an_object_that_cannot_be_kept_is_the_failure_of_its_record_and_nothing_is_inlined() -> None:
    turns = FaultyTurns(await Kept().client(), faults=lambda _, name: "down" if name == "put_blob" else None)
    told = watched(turns, mode="best_effort")
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    assert await run.dot_source_persisted(dot_source=dot_of(40_000)) is None
    assert await run.run_initialized() is not None
    record = await first(turns.target)
    assert record.event_kind == "run_initialized"
    assert record.values["gap"]["lost"] == 1
    assert "dot_source_ref" not in record.values


async def test_an_object_that_is_kept_under_another_address_is_not_referred_to() -> None:
    class Damaging(FaultyTurns):
        async def put_blob(self, payload: bytes, *, timeout_s: float | None = None) -> str:
            return await super().put_blob(payload[:-1], timeout_s=timeout_s)

    turns = Damaging(await Kept().client())
    with pytest.raises(PersistenceError) as damaged:
        await persisted(dot_of(40_000), turns)
    assert (damaged.value.detail["step"], damaged.value.detail["cause"]) == ("put_blob", "digest_mismatch")
    assert "append" not in turns.calls


async def test_references_say_where_a_text_is() -> None:
    turns = await Kept().client()
    run = RunJournal(watched(turns, mode="required").recorder, run_id="run-1", graph_id="g")
    large = await run.dot_source_persisted(dot_source=dot_of(40_000))
    small = await run.graph_snapshot_persisted(graph_snapshot={"id": "g", "b": 1, "a": 2})
    await run.run_initialized()
    assert large is not None
    assert small is not None
    context, *_ = await every_context(turns)
    _, graph, initialized = await records_of(turns, context.context_id)
    assert large.ref == f"blob://{large.content_hash}" == initialized.values["dot_source_ref"]
    assert small.ref == f"turnstore://{context.context_id}/{graph.turn.turn_id}"
    assert graph.values["graph_snapshot"] == '{"a":2,"b":1,"id":"g"}'
    assert initialized.values["graph_snapshot_ref"] == small.ref


async def ended(output: str, shown: str | None = None, **rest: object) -> tuple[Record, TurnsOver]:
    turns = await Kept().client()
    told = watched(turns, mode="required", **rest)  # type: ignore[arg-type]  # passed on
    session = SessionJournal(told.recorder, session_id="s")
    await session.tool_call_ended(call_id="c", tool_name="t", output=output, shown=shown, duration_ms=1)
    return await first(turns), turns


async def test_an_output_that_was_shortened_is_kept_whole_as_an_object() -> None:
    record, turns = await ended("one two three", shown="one ...")
    values = record.values
    assert (values["output"], values["truncated"], values["output_full_bytes"]) == ("one ...", True, 13)
    assert await turns.find_blob(values["output_full_hash"]) == b"one two three"


async def test_an_output_that_was_shown_whole_and_is_small_is_in_its_record_alone() -> None:
    record, turns = await ended("é" * 10)
    values = record.values
    assert (values["output"], values["truncated"], values["output_full_bytes"]) == ("é" * 10, False, 20)
    assert values["output_full_hash"] == content_hash(("é" * 10).encode())
    assert await turns.find_blob(values["output_full_hash"]) is None


async def test_an_output_that_was_shown_whole_and_is_large_has_its_beginning_in_the_record() -> None:
    text = "x" + "é" * INLINE_TEXT_BYTES_MAX
    record, turns = await ended(text)
    values = record.values
    assert values["output"] == text[: INLINE_TEXT_BYTES_MAX // 2]
    assert (values["truncated"], values["output_full_bytes"]) == (False, len(text.encode()))
    assert await turns.find_blob(values["output_full_hash"]) == text.encode()


async def test_where_no_objects_are_kept_the_record_says_what_the_whole_output_was() -> None:
    record, turns = await ended("one two three", shown="one ...", keeps_blobs=False)
    values = record.values
    assert (values["output"], values["output_full_hash"]) == ("one ...", content_hash(b"one two three"))
    assert await turns.find_blob(values["output_full_hash"]) is None
