"""Which objects are garbage, that nothing else is removed, and that an append at the same moment loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.core.object_collecting import addresses
from perdure.core.objects import GRACE_S_DEFAULT, GRACE_S_MIN
from perdure.core.snapshots import capture
from perdure.domain.object import MEDIA_TYPE_DEFAULT, MEDIA_TYPE_OF_TURNS
from perdure.domain.tree import EntryKind, TreeEntry, decode_tree, encode_tree
from perdure.domain.turn import INLINE_BYTES_MAX, content_hash
from perdure.errors import DigestMismatch, Invalid, LimitExceeded, NotFound, Unavailable
from perdure.testing.environment import SeededRandomness
from tests.contracts.obstore_stores import flip_a_byte
from tests.support.retained import LIFE_S, Data, Desk, new_data, opened_desk, record

READS = {
    "logs.read",
    "logs.head",
    "logs.containers",
    "rows.get",
    "rows.query",
    "objects.get",
    "objects.find",
    "objects.list",
}
CALLS_MAX = 60
SCHEDULES = 20


def large(letter: str) -> bytes:
    """A payload that is kept as an object."""
    return letter.encode() * (INLINE_BYTES_MAX + 1)


async def collected(desk: Desk, *, dry_run: bool = False) -> set[str]:
    """Collect; the addresses of what went."""
    return {ref.digest async for ref in desk.acme.objects.collect(dry_run=dry_run)}


async def kept(desk: Desk) -> set[str]:
    """What is there."""
    return {ref.digest for ref in (await desk.acme.objects.list()).items}


@pytest.fixture
def data() -> Data:
    return new_data()


@pytest.fixture
async def desk(data: Data) -> AsyncIterator[Desk]:
    async with opened_desk(data) as opened:
        yield opened


async def test_what_a_turn_needs_stays_in_whatever_form_it_is_named(desk: Desk) -> None:
    turns = desk.turns
    context = (await turns.create()).context_id
    names = [b"raw", b"hex", b"upper", b"in a large payload", b"not in the chain", b"in an object"]
    blobs = {name: await turns.put_blob(name) for name in names}
    inner = await turns.put_blob(b"refers to " + blobs[b"in an object"].encode())
    for payload in (
        b"\xc4\x20" + bytes.fromhex(blobs[b"raw"]) + b"!",
        b'{"blob": "' + blobs[b"hex"].encode() + b'"}',
        b"ab" + blobs[b"upper"].upper().encode() + b"cd",
        large("x") + blobs[b"in a large payload"].encode() + large("y"),
        inner.encode(),
    ):
        await turns.append(context, payload, type_id="t")
    last = (await turns.head(context)).head_turn_id
    await turns.append(context, blobs[b"not in the chain"].encode(), type_id="t")
    await turns.append(context, b"back", type_id="t", parent_turn_id=last)
    garbage = await turns.put_blob(b"nobody names this")
    before = await kept(desk)
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    assert await collected(desk) == {garbage}
    assert await kept(desk) == before - {garbage}
    assert len([turn async for turn in turns.iterate(context)]) == 6


async def test_what_anybody_put_stays_whoever_put_it_first(desk: Desk) -> None:
    turns, objects = desk.turns, desk.acme.objects
    mine = [await objects.put(b"only mine"), await objects.put(b"mine before", media_type="text/plain")]
    await turns.put_blob(b"mine before")
    await turns.put_blob(b"mine after")
    mine.append(await objects.put(b"mine after"))
    theirs = await turns.put_blob(b"theirs")
    found = [await objects.find(digest) for digest in (*(ref.digest for ref in mine), theirs)]
    assert [ref.media_type for ref in found if ref is not None] == [
        MEDIA_TYPE_DEFAULT,
        "text/plain",
        MEDIA_TYPE_DEFAULT,
        MEDIA_TYPE_OF_TURNS,
    ]
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    assert await collected(desk) == {theirs}
    assert await kept(desk) == {ref.digest for ref in mine}
    with pytest.raises(Invalid):
        await objects.put(b"x", media_type=MEDIA_TYPE_OF_TURNS)


async def test_what_a_purged_context_needed_goes_and_what_a_fork_or_another_needs_stays(desk: Desk) -> None:
    turns = desk.turns
    old, _ = await desk.begin()
    shared, single = large("s"), large("o")
    fork_at = await turns.append(old, shared, type_id="t")
    await turns.append(old, single, type_id="t")
    other, _ = await desk.begin(life_s=None)
    ref = await turns.append(other, shared, type_id="t")
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    assert await collected(desk) == set()
    await desk.purge()
    assert await collected(desk) == {content_hash(single)}
    assert (await turns.get(ref.turn_id)).payload == shared
    with pytest.raises(NotFound):
        await turns.get(fork_at.turn_id)


async def test_a_held_context_and_one_that_is_due_keep_what_they_need(desk: Desk) -> None:
    held, _ = await desk.begin()
    ref = await desk.turns.append(held, large("h"), type_id="t")
    await desk.turns.hold(held, reason="case")
    desk.clock.advance(GRACE_S_DEFAULT + LIFE_S)
    assert await desk.purge() == {held: "hold"}
    assert await collected(desk) == set()
    assert (await desk.turns.get(ref.turn_id)).payload == large("h")


async def test_another_scope_of_the_tenant_loses_nothing(desk: Desk) -> None:
    here = desk.plane.tenant("t_acme", project="here")
    there = desk.plane.tenant("t_acme", project="there")
    digest = await here.turns.put_blob(b"both")
    await there.turns.put_blob(b"both")
    context = await there.turns.create()
    await there.turns.append(context.context_id, digest.encode(), type_id="t")
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    assert [ref.digest async for ref in there.objects.collect()] == []
    assert [ref.digest async for ref in here.objects.collect()] == [digest]
    assert await there.turns.find_blob(digest) == b"both"


async def test_the_files_of_a_snapshot_stay_as_long_as_its_turn(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep").write_bytes(b"deep")
    (tmp_path / "top").write_bytes(b"top")
    (tmp_path / "link").symlink_to("top")
    context, turn = await desk.begin()
    done = await capture(desk.turns, tmp_path, turn_id=turn)
    named = await desk.turns.put_blob(encode_tree([TreeEntry(name="x", hash=bytes.fromhex(content_hash(b"deep")))]))
    before = await kept(desk)
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    assert await collected(desk) == {named}
    top = await desk.turns.find_blob(done.root)
    assert top is not None
    assert [entry.kind for entry in decode_tree(top)] == [EntryKind.DIRECTORY, EntryKind.SYMLINK, EntryKind.FILE]
    await desk.purge()
    assert await collected(desk) == before - {named}
    assert await kept(desk) == set()
    assert await desk.said(context) is None


async def test_a_tree_that_a_record_names_keeps_its_files_whoever_put_the_tree(desk: Desk) -> None:
    file = await desk.turns.put_blob(b"a file")
    root = await desk.acme.objects.put(encode_tree([TreeEntry(name="x", hash=bytes.fromhex(file), size=6)]))
    context = await desk.turns.create()
    await desk.turns.append(context.context_id, root.digest.encode(), type_id="t")
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    assert await collected(desk) == set()


async def test_a_dry_run_removes_nothing_and_tells_what_a_run_does(desk: Desk) -> None:
    for number in range(3):
        await desk.turns.put_blob(b"%d" % number)
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    mark = len(desk.backend.calls)
    told = await collected(desk, dry_run=True)
    assert set(desk.backend.calls[mark:]) <= READS
    assert len(told) == 3
    assert await collected(desk) == told


async def test_what_was_put_within_the_grace_stays(desk: Desk) -> None:
    digest = await desk.turns.put_blob(b"just put")
    desk.clock.advance(GRACE_S_DEFAULT)
    assert await collected(desk) == set()
    assert await desk.turns.put_blob(b"just put") == digest
    desk.clock.advance(GRACE_S_MIN)
    assert [ref.digest async for ref in desk.acme.objects.collect(grace_s=GRACE_S_MIN + 1)] == []
    desk.clock.advance(1)
    assert [ref.digest async for ref in desk.acme.objects.collect(grace_s=GRACE_S_MIN)] == [digest]
    for wrong in (GRACE_S_MIN - 1, 0, -1, float("nan")):
        with pytest.raises(Invalid):
            await anext(desk.acme.objects.collect(grace_s=wrong))


async def test_more_objects_than_are_kept_in_mind_are_refused_and_none_is_removed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await desk.turns.put_blob(b"%d" % number)
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    monkeypatch.setattr("perdure.core.object_collecting.COLLECT_OBJECTS_MAX", 2)
    with pytest.raises(LimitExceeded) as caught:
        await collected(desk)
    assert caught.value.detail["limit"] == "collect_objects_max"
    monkeypatch.setattr("perdure.core.object_collecting.COLLECT_OBJECTS_MAX", 3)
    assert len(await collected(desk)) == 3


async def test_a_damaged_object_that_may_name_others_stops_it(desk: Desk, data: Data) -> None:
    context = await desk.turns.create()
    ref = await desk.turns.append(context.context_id, large("d"), type_id="t")
    garbage = await desk.turns.put_blob(b"garbage")
    await flip_a_byte(data.objects, desk.acme.scope.space, ref.content_hash)
    desk.clock.advance(GRACE_S_DEFAULT + 1)
    with pytest.raises(DigestMismatch):
        await collected(desk)
    assert garbage in await kept(desk)


async def test_whenever_an_append_comes_between_two_calls_of_a_collection_its_payload_is_there() -> None:
    for number in range(1, CALLS_MAX):
        data = new_data()
        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            context = (await ours.turns.create()).context_id
            await ours.turns.append(context, b"first", type_id="t")
            await ours.turns.put_blob(large("x"))
            ours.clock.advance(GRACE_S_DEFAULT + 1)
            done = False
            mark = len(ours.backend.calls)

            async def between(call: str) -> None:
                nonlocal done
                del call
                if len(ours.backend.calls) - mark == number:  # noqa: B023 - called before the next round
                    done = True
                    await theirs.turns.append(context, large("x"), type_id="t")  # noqa: B023 - as above

            ours.backend.before = between
            await collected(ours)
            ours.backend.before = None
            if not done:
                assert number > 5
                return
            assert await theirs.said(context) == [b"first", large("x")]
            theirs.clock.advance(GRACE_S_DEFAULT + 1)
            assert await collected(theirs) == set()
    pytest.fail("it makes more calls than that")


async def test_whenever_a_collection_comes_between_two_calls_of_an_append_its_payload_is_there() -> None:
    for number in range(1, CALLS_MAX):
        data = new_data()
        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            context = (await ours.turns.create()).context_id
            await ours.turns.put_blob(large("x"))
            ours.clock.advance(GRACE_S_DEFAULT + 1)
            done = False
            mark = len(theirs.backend.calls)

            async def between(call: str) -> None:
                nonlocal done
                del call
                if len(theirs.backend.calls) - mark == number:  # noqa: B023 - called before the next round
                    done = True
                    await collected(ours)

            theirs.backend.before = between
            await theirs.turns.append(context, large("x"), type_id="t")
            theirs.backend.before = None
            assert await theirs.said(context) == [large("x")]
            if not done:
                assert number > 1
                return
    pytest.fail("an append makes more calls than that")


async def test_in_any_order_of_their_calls_an_append_keeps_its_payload() -> None:
    for seed in range(SCHEDULES):
        data = new_data()
        chance = SeededRandomness(seed)

        async def dither(call: str) -> None:
            del call
            for _ in range(int(chance.random() * 4)):  # noqa: B023 - called before the next round
                await asyncio.sleep(0)

        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            context = (await ours.turns.create()).context_id
            await ours.turns.put_blob(large("x"))
            ours.clock.advance(GRACE_S_DEFAULT + 1)
            ours.backend.before = theirs.backend.before = dither
            await asyncio.gather(collected(ours), theirs.turns.append(context, large("x"), type_id="t"))
            assert await theirs.said(context) == [large("x")]


async def test_a_collection_that_fails_at_any_call_has_removed_nothing_that_is_needed() -> None:
    for number in range(1, CALLS_MAX):
        async with opened_desk(new_data()) as desk:
            context = (await desk.turns.create()).context_id
            await desk.turns.append(context, large("x"), type_id="t")
            garbage = {await desk.turns.put_blob(b"%d" % index) for index in range(3)}
            desk.clock.advance(GRACE_S_DEFAULT + 1)
            mark = len(desk.backend.calls)

            async def fail(call: str) -> None:
                del call
                if len(desk.backend.calls) - mark == number:  # noqa: B023 - called before the next round
                    raise Unavailable("nothing answered")

            desk.backend.before = fail
            try:
                assert await collected(desk) == garbage
            except Unavailable:
                desk.backend.before = None
                assert await collected(desk) <= garbage
                assert await kept(desk) == {content_hash(large("x"))}
            else:
                desk.backend.before = None
                assert number > 5
                return
            assert await desk.said(context) == [large("x")]
    pytest.fail("it makes more calls than that")


def test_an_address_is_found_wherever_it_stands() -> None:
    digest = bytes(range(32))
    for content in (digest, b"x" + digest, digest + b"x", b"0" * 63 + digest.hex().encode() + b"f", record(None)):
        expected = [] if b"hello" in content else [digest]
        assert list(addresses(content, among={digest})) == expected
    assert list(addresses(digest[:-1], among={digest})) == []
