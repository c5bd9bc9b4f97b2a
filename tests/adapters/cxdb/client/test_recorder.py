"""A run is recorded to a CXDB server, on a way and through a gateway that fail: what is told is what is kept, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from perdure.adapters.cxdb.codec.frames import MessageType
from perdure.adapters.cxdb.server import Profile
from perdure.core.recorder_health import SUSPENDED
from perdure.core.recorder_limits import RecorderLimits, RecorderMode
from perdure.core.run_journal import RunJournal
from perdure.core.session_journal import SessionJournal
from perdure.domain.turn_records.bundle import bundle
from perdure.domain.turn_records.catalog import BUNDLE_ID, BUNDLE_VERSION, RECORD_TYPES
from perdure.errors import PersistenceError
from perdure.testing.faults import FaultProxy
from tests.adapters.cxdb.client.spoiling import SPOILED, Spoil, SpoilingWay, error, spoiling
from tests.core.test_recorder_redaction import PASSWORD, SECRET_WORDS, SECRETS
from tests.support.recorded_servers import KeptByServer, kept_by_server
from tests.support.recorded_turns import FaultyTurns, Watched, every_context, everything, records_of, watched
from tests.support.scripted_session import Script, Words

RECORDS: Final = 61  # of the whole script
SOON_S: Final = 0.05  # the patience of a recorder that will be disappointed
LIMITS: Final = RecorderLimits(failures_max=3, retry_after_s=5)
APPEND: Final = MessageType.APPEND_TURN
BOTH = pytest.mark.parametrize("mode", ["required", "best_effort"])


@pytest.fixture(params=list(Profile))
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[KeptByServer]:
    """A server of a profile."""
    async with kept_by_server(request.param) as served:
        yield served


@pytest.fixture
async def way(kept: KeptByServer) -> AsyncIterator[SpoilingWay]:
    """A way to its binary port."""
    async with spoiling(kept.address.binary) as made:
        yield made


async def check_once(kept: KeptByServer, told: Watched, *, records: int = RECORDS) -> None:
    """Each record is there, once, and no context is there for nothing."""
    turns = await kept.client()
    own = await everything(turns)
    keys = [turn.idempotency_key for turns_of_one in own.values() for turn in turns_of_one]
    assert len(keys) == len(set(keys)) == told.recorder.status.written == records


async def test_f1_off_opens_no_connection(kept: KeptByServer, way: SpoilingWay) -> None:
    async with FaultProxy("127.0.0.1", way.port) as http:
        told = watched(kept.client_by(way.port, http_port=http.port), mode="off")
        assert (await Script(told.recorder).tell()).outcome == "success"
        assert (way.connections, http.connections) == (0, 0)
    assert not await every_context(await kept.client())


@pytest.mark.parametrize("fault", ["down", "lost"])
async def test_f2_an_operation_that_fails_at_a_server_is_one_warning_at_most_and_the_run_goes_on(
    kept: KeptByServer, fault: Any
) -> None:
    turns = FaultyTurns(await kept.client(), faults=lambda number, _name: fault if number % 9 == 0 else None)
    told = watched(turns, mode="best_effort")
    assert (await Script(told.recorder).tell()).outcome == "success"
    status = told.recorder.status
    assert status.attempted == RECORDS
    assert status.written + status.failed == RECORDS
    assert bool(status.failed) == (fault == "down")
    await check_once(kept, told, records=status.written)


async def test_f3_after_an_outage_of_the_server_the_next_record_tells_what_is_missing(kept: KeptByServer) -> None:
    told = watched(await kept.client(), mode="best_effort", limits=LIMITS)
    session = SessionJournal(told.recorder, session_id="s")
    await session.session_started()
    await kept.stop()
    for number in range(5):
        await session.user_turn_appended(content=f"lost {number}")
    assert {warning.code for warning in told.warnings[:-1]} == {"backend_down"}
    assert told.warnings[-1].code == SUSPENDED
    await kept.start()
    told.clock.advance(5)
    assert await session.user_turn_appended(content="kept") is not None
    (context,) = await every_context(await kept.client())
    first, last = await records_of(await kept.client(), context.context_id)
    assert (first.event_kind, last.values["content"]) == ("session_start", "kept")
    assert last.values["gap"] == {"lost": 5, "first_lost_sequence_no": 1, "last_lost_sequence_no": 5}


async def test_f4_a_server_that_is_not_there_costs_a_run_nothing(kept: KeptByServer) -> None:
    turns = await kept.client()
    await kept.stop()
    told = watched(turns, mode="best_effort", limits=LIMITS)
    assert (await Script(told.recorder).tell()).outcome == "success"
    assert [warning.code for warning in told.warnings] == ["backend_down"] * 3 + [SUSPENDED]
    assert (told.recorder.status.written, told.recorder.status.failed) == (0, RECORDS)


@BOTH
async def test_f7_answers_of_the_server_that_are_lost_leave_one_copy(kept: KeptByServer, mode: RecorderMode) -> None:
    async with FaultProxy("127.0.0.1", kept.address.binary.port) as proxy:
        told = watched(kept.client_by(proxy.port), mode=mode)
        session = SessionJournal(told.recorder, session_id="s")
        await session.session_started()
        for number in range(6):
            (proxy.lose_reply if number % 2 else proxy.lose_request)()
            assert await session.user_turn_appended(content=f"{number}") is not None
        assert not told.warnings
    await check_once(kept, told, records=7)


@BOTH
async def test_f8_a_server_that_starts_again_in_the_middle_is_reached_again(
    kept: KeptByServer, mode: RecorderMode
) -> None:
    restarts = 0

    class Restarting(FaultyTurns):
        async def append(self, context_id: str, payload: bytes, **rest: Any) -> Any:
            nonlocal restarts
            if len(self.calls) % 12 == 0:
                restarts += 1
                await kept.stop()
                await kept.start()
            return await super().append(context_id, payload, **rest)

    told = watched(Restarting(await kept.client()), mode=mode)
    assert (await Script(told.recorder).tell()).outcome == "success"
    assert restarts >= 3
    assert not told.warnings
    await check_once(kept, told)


async def test_f9_a_server_that_hangs_ends_a_required_record_which_is_there_once_when_it_is_retried(
    kept: KeptByServer,
) -> None:
    turns = FaultyTurns(await kept.client())
    told = watched(turns, mode="required")
    session = SessionJournal(told.recorder, session_id="s")
    await session.session_started()
    async with FaultProxy("127.0.0.1", kept.address.binary.port) as proxy:
        proxy.black_hole()
        turns.target = kept.client_by(proxy.port, timeout_s=SOON_S)
        with pytest.raises(PersistenceError) as failed:
            await session.user_turn_appended(content="Hello.")
    assert failed.value.detail["cause"] == "backend_down"  # no connection was had
    turns.target = await kept.client()
    await session.retry()
    await check_once(kept, told, records=2)


async def test_f9_whoever_is_cancelled_while_the_server_hangs_leaves_at_once(kept: KeptByServer) -> None:
    async with FaultProxy("127.0.0.1", kept.address.binary.port) as proxy:
        told = watched(kept.client_by(proxy.port), mode="best_effort")
        session = SessionJournal(told.recorder, session_id="s")
        await session.session_started()
        proxy.black_hole()
        writing = asyncio.create_task(session.user_turn_appended(content="first"))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        proxy.heal()
        await told.recorder.drain()
        await session.user_turn_appended(content="second")
    await check_once(kept, told, records=3)


async def test_f10_a_graph_that_the_server_does_not_take_ends_the_run_before_its_first_stage(
    kept: KeptByServer,
) -> None:
    told = watched(await kept.client(), mode="required", limits=RecorderLimits(inline_text_bytes_max=50))
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    await run.open()
    await kept.stop()
    with pytest.raises(PersistenceError) as ended:
        await run.dot_source_persisted(dot_source="digraph { " + "x;" * 50 + "}")
    assert (ended.value.detail["step"], ended.value.detail["cause"]) == ("put_blob", "backend_down")


@BOTH
async def test_f11_another_bundle_at_the_server_is_told_with_both_versions(
    kept: KeptByServer, mode: RecorderMode
) -> None:
    turns = await kept.client()
    await turns.publish_bundle(BUNDLE_ID, bundle(RECORD_TYPES[:3], bundle_id=BUNDLE_ID, version=BUNDLE_VERSION + 6))
    told = watched(turns, mode=mode)
    run = RunJournal(told.recorder, run_id="run-1", graph_id="g")
    if mode == "required":
        with pytest.raises(PersistenceError) as refused:
            await run.open()
        message = refused.value.message
    else:
        await run.open()
        message = told.warnings[0].message
    assert f"registry_version {BUNDLE_VERSION + 6} " in message
    assert f"registry_version {BUNDLE_VERSION} " in message
    assert not await every_context(turns)


@BOTH
@pytest.mark.parametrize("spoil", [*SPOILED.values()], ids=[*SPOILED])
async def test_f14_a_spoiled_answer_costs_its_connection_and_no_record(
    kept: KeptByServer, way: SpoilingWay, spoil: Spoil, mode: RecorderMode
) -> None:
    told = watched(kept.client_by(way.port), mode=mode)
    way.spoil = lambda kind, number: spoil if kind is APPEND and number % 20 == 0 else None
    assert (await Script(told.recorder).tell()).outcome == "success"
    assert not told.warnings
    assert (way.used_after, way.connections > 3) == (0, True)
    await check_once(kept, told)


async def test_f14_an_error_of_the_server_ends_a_required_run_and_is_said(kept: KeptByServer, way: SpoilingWay) -> None:
    told = watched(kept.client_by(way.port), mode="required")
    way.spoil = lambda kind, number: error(503, "no room") if kind is APPEND and number == 20 else None
    with pytest.raises(PersistenceError, match="no room") as ended:
        await Script(told.recorder).tell()
    assert ended.value.detail["step"] == "append_turn"
    assert way.used_after == 0
    again = watched(await kept.client(), mode="required")
    await Script(again.recorder).tell()
    await check_once(kept, again)


async def test_f14_a_server_that_takes_no_greeting_is_down(kept: KeptByServer, way: SpoilingWay) -> None:
    way.spoil = lambda kind, _number: error(422, "no") if kind is MessageType.HELLO else None
    told = watched(kept.client_by(way.port), mode="best_effort", limits=LIMITS)
    assert (await Script(told.recorder).tell()).outcome == "success"
    assert told.recorder.status.written == 0
    assert {warning.code for warning in told.warnings[:-1]} == {"backend_down"}
    assert set(way.asked) == {MessageType.HELLO}


async def test_d9_five_mebibytes_of_dot_go_to_the_server_and_come_back(kept: KeptByServer) -> None:
    text = 'digraph g { a [label="' + "é" * (5 * 524_288) + '"] }'
    turns = await kept.client()
    run = RunJournal(watched(turns, mode="required").recorder, run_id="run-1", graph_id="g")
    await run.dot_source_persisted(dot_source=text)
    (context,) = await every_context(turns)
    (record,) = await records_of(turns, context.context_id)
    assert await turns.find_blob(record.values["artifact_blob_hash"]) == text.encode()


async def test_d11_no_secret_goes_to_the_server_wherever_it_stood(kept: KeptByServer, way: SpoilingWay) -> None:
    told = watched(kept.client_by(way.port), mode="required")
    await Script(told.recorder, SECRET_WORDS).tell()
    sent = bytes(way.seen) + kept.all_bytes()
    for secret in (PASSWORD, *SECRETS.values()):
        assert secret.encode() not in sent, secret[:4]
    open_words = watched(kept.client_by(way.port), mode="required", redact="off")
    await Script(open_words.recorder, Words(run_id="run-2", session_id="s-2", prompt=PASSWORD)).tell()
    assert PASSWORD.encode() in way.seen


async def test_d12_the_bundle_is_at_the_server_before_the_first_message(kept: KeptByServer, way: SpoilingWay) -> None:
    order: list[str] = []

    class Noting(FaultyTurns):
        async def publish_bundle(self, bundle_id: str, bundle: bytes, **rest: Any) -> bool:
            order.append(f"published after {len([kind for kind in way.asked if kind is not MessageType.HELLO])}")
            return await super().publish_bundle(bundle_id, bundle, **rest)

    told = watched(Noting(kept.client_by(way.port)), mode="required")
    await Script(told.recorder).tell()
    assert order == ["published after 0"]
    assert way.asked.count(APPEND) == RECORDS
