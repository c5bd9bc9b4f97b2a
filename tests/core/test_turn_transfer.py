"""Contexts out of a store and into one, and two of them compared: nothing is lost, doubled or paid for twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.objectstore import opening
from perdure.core import turn_store, turn_transfer
from perdure.core.turn_transfer import DIFFERENT_TURNS_MAX, TRANSFER_PAGE, compare, export_lines, import_lines
from perdure.core.turns import Turns
from perdure.domain.turn import INLINE_BYTES_MAX, TURNS_PAGE_MAX, Context, Turn
from perdure.errors import Corrupt, Invalid, KeyReused, LimitExceeded, NotFound, OutcomeUnknown
from perdure.testing.environment import fake_environment
from perdure.testing.routed import RoutedPlane, given, routed_plane
from perdure.testing.watched import WatchedBackend

LARGE = b"x" * (INLINE_BYTES_MAX + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A plane on a watched backend that keeps objects as well."""

    plane: RoutedPlane
    watched: WatchedBackend

    @property
    def turns(self) -> Turns:
        """The tenant's turns."""
        return self.plane.tenant("t_acme").turns

    @property
    def elsewhere(self) -> Turns:
        """Those of another tenant."""
        return self.plane.tenant("t_other").turns

    async def reads_of(self, work: Callable[[], object]) -> int:
        """How many reads of logs it takes."""
        mark = len(self.watched.calls)
        await work()  # type: ignore[misc]  # a coroutine
        return self.watched.calls[mark:].count("logs.read")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    environment = fake_environment()
    objects = opening.memory(mode="lab", env="dev", environment=environment)
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment, objects=objects)
    await backend.open()
    watched = WatchedBackend(backend)
    async with routed_plane([given("main", watched)], backend.routes, environment=environment) as plane:
        for tenant in ("t_acme", "t_other"):
            for kind in ("turns", "objects"):
                await plane.tenant(tenant).routes.set(kind, "main")
        yield World(plane=plane, watched=watched)
    await backend.close()


@pytest.fixture
def turns(world: World) -> Turns:
    return world.turns


async def say(turns: Turns, context: Context, *payloads: bytes, keys: bool = False) -> list[str]:
    """Append turns; their ids."""
    return [
        (
            await turns.append(
                context.context_id, payload, type_id="acme.user", idempotency_key=f"k-{number}" if keys else None
            )
        ).turn_id
        for number, payload in enumerate(payloads)
    ]


async def exported(turns: Turns, context: Context) -> list[bytes]:
    return [line async for line in export_lines(turns, context.context_id)]


async def chain(turns: Turns, context: Context) -> list[Turn]:
    """All turns, oldest first."""
    return [turn async for turn in turns.iterate(context.context_id)][::-1]


async def said(turns: Turns, context: Context) -> list[tuple[int, bytes]]:
    return [(turn.depth, turn.payload) for turn in await chain(turns, context)]


async def number_of_contexts(turns: Turns) -> int:
    return len((await turns.contexts()).items)


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


class Died(Exception):
    """The process that imports is gone."""


def dying_after(lines: Iterable[bytes], count: int) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if number == count:
            raise Died
        yield line


@pytest.mark.parametrize("count", [0, 1, 2, TRANSFER_PAGE, TRANSFER_PAGE + 1, TRANSFER_PAGE + 2, 2 * TRANSFER_PAGE + 1])
async def test_an_exported_context_is_imported_as_it_was(turns: Turns, count: int):
    context = await turns.create(labels=["run:7", "zwölf"])
    await say(turns, context, *numbered(count), keys=True)
    lines = await exported(turns, context)
    assert len(lines) == count + 2
    done = await import_lines(turns, lines)
    assert (done.appended, done.replayed) == (count, 0)
    assert done.context.context_id != context.context_id
    assert (done.context.labels, done.context.head_depth) == (("run:7", "zwölf"), count)
    copied = await chain(turns, done.context)
    assert [turn.payload for turn in copied] == numbered(count)
    assert [turn.idempotency_key for turn in copied] == [f"k-{number}" for number in range(count)]


async def test_types_and_large_payloads_come_along_to_another_tenant(world: World):
    context = await world.turns.create()
    await world.turns.append(context.context_id, LARGE, type_id="acme.file", type_version=3)
    await world.turns.append(context.context_id, b"small", type_id="acme.user", type_version=0)
    done = await import_lines(world.elsewhere, await exported(world.turns, context))
    copied = await chain(world.elsewhere, done.context)
    assert [(turn.type_id, turn.type_version, turn.payload) for turn in copied] == [
        ("acme.file", 3, LARGE),
        ("acme.user", 0, b"small"),
    ]
    with pytest.raises(NotFound):
        [line async for line in export_lines(world.elsewhere, "99")]


async def test_a_fork_of_a_fork_is_exported_with_all_that_it_inherited(turns: Turns):
    root = await turns.create()
    first = await say(turns, root, *numbered(TRANSFER_PAGE + 10))
    fork = await turns.fork(first[TRANSFER_PAGE])
    second = await say(turns, fork, b"f0", b"f1", b"f2")
    again = await turns.fork(second[1])
    await say(turns, again, b"g0")
    await say(turns, root, b"unseen")
    done = await import_lines(turns, await exported(turns, again))
    assert await said(turns, done.context) == await said(turns, again)
    assert done.context.head_depth == TRANSFER_PAGE + 1 + 3
    assert done.context.base_turn_id == "0"


async def test_a_fork_that_was_not_appended_to_is_exported_too(turns: Turns):
    root = await turns.create()
    ids = await say(turns, root, b"a", b"b", b"c")
    fork = await turns.fork(ids[1])
    done = await import_lines(turns, await exported(turns, fork))
    assert await said(turns, done.context) == [(1, b"a"), (2, b"b")]


async def test_the_same_key_in_a_context_and_in_its_fork_stays_two_turns(turns: Turns):
    root = await turns.create()
    first = await turns.append(root.context_id, b"hello", type_id="t", idempotency_key="m-1")
    fork = await turns.fork(first.turn_id)
    await turns.append(fork.context_id, b"hello", type_id="t", idempotency_key="m-1")
    lines = await exported(turns, fork)
    for _ in range(2):
        done = await import_lines(turns, lines)
        assert (done.appended, done.replayed) == (2, 0)
        assert await said(turns, done.context) == [(1, b"hello"), (2, b"hello")]
        again = await import_lines(turns, lines, into=done.context.context_id)
        assert (again.appended, again.replayed, again.context) == (0, 2, done.context)


async def test_a_context_that_was_led_back_is_exported_as_it_is_now(turns: Turns):
    context = await turns.create()
    ids = await say(turns, context, b"a", b"wrong", b"wronger")
    await turns.append(context.context_id, b"b", type_id="t", parent_turn_id=ids[0])
    done = await import_lines(turns, await exported(turns, context))
    assert await said(turns, done.context) == [(1, b"a"), (2, b"b")]


async def test_an_export_is_of_the_moment_when_it_began(turns: Turns):
    context = await turns.create()
    await say(turns, context, *numbered(5))
    lines = export_lines(turns, context.context_id)
    kept = [await anext(lines)]
    await say(turns, context, b"later")
    kept += [line async for line in lines]
    done = await import_lines(turns, kept)
    assert done.context.head_depth == 5


@pytest.mark.parametrize("count", range(7))
async def test_an_interrupted_import_goes_on_where_it_was(turns: Turns, count: int):
    context = await turns.create(labels=["l"])
    await say(turns, context, b"a", b"a", keys=True)
    await say(turns, context, b"a", b"a", b"b")
    lines = await exported(turns, context)
    begun: list[Context] = []
    with pytest.raises(Died):
        await import_lines(turns, dying_after(lines, count), begun=begun.append)
    into = begun[0].context_id if begun else None
    done = await import_lines(turns, lines, into=into)
    assert (done.appended, done.replayed) == (5 - max(0, count - 1), max(0, count - 1))
    assert await said(turns, done.context) == await said(turns, context)
    assert await number_of_contexts(turns) == 2


async def test_an_import_that_loses_an_answer_is_repeated_without_doubling(world: World):
    context = await world.turns.create()
    await say(world.turns, context, b"a", b"b", b"c")
    lines = await exported(world.turns, context)
    target = await world.turns.create()
    for step in range(1, 4):
        appends = 0

        async def lose(name: str, *, step: int = step) -> None:
            nonlocal appends
            appends += name == "logs.append"
            if appends == step:
                raise OutcomeUnknown("the answer is lost")

        world.watched.after = lose
        with pytest.raises(OutcomeUnknown):
            await import_lines(world.turns, lines, into=target.context_id)
        world.watched.after = None
        assert (await world.turns.head(target.context_id)).head_depth == step
    done = await import_lines(world.turns, lines, into=target.context_id)
    assert (done.appended, done.replayed, done.context.head_depth) == (0, 3, 3)


async def test_turns_are_imported_after_what_a_context_has_already(turns: Turns):
    context, target = await turns.create(), await turns.create(labels=["mine"])
    await say(turns, context, b"a", b"b")
    await say(turns, target, b"before")
    done = await import_lines(turns, await exported(turns, context), into=target.context_id)
    assert await said(turns, done.context) == [(1, b"before"), (2, b"a"), (3, b"b")]
    assert done.context.labels == ("mine",)


async def test_a_key_with_other_content_in_the_target_is_refused(turns: Turns):
    context, target = await turns.create(), await turns.create()
    await say(turns, context, b"a", keys=True)
    await say(turns, target, b"other", keys=True)
    with pytest.raises(KeyReused):
        await import_lines(turns, await exported(turns, context), into=target.context_id)
    assert await said(turns, target) == [(1, b"other")]


async def test_nothing_is_made_for_a_file_that_does_not_begin_or_a_context_that_is_not_there(turns: Turns):
    context = await turns.create()
    lines = await exported(turns, context)
    for wrong in ([], [b"{}\n"], lines[1:]):
        with pytest.raises(Corrupt):
            await import_lines(turns, wrong)
    with pytest.raises(NotFound):
        await import_lines(turns, lines, into="99")
    with pytest.raises(Invalid):
        await import_lines(turns, lines, into="x")
    assert await number_of_contexts(turns) == 1


async def test_payloads_too_large_for_a_page_are_read_in_smaller_ones(turns: Turns, monkeypatch: pytest.MonkeyPatch):
    context, other = await turns.create(), await turns.create()
    payloads = [bytes([number]) * 100 for number in range(20)]
    await say(turns, context, *payloads)
    await say(turns, other, b"other")
    monkeypatch.setattr(turn_store, "PAGE_PAYLOAD_BYTES_MAX", 250)
    with pytest.raises(LimitExceeded):
        await turns.list(context.context_id, limit=3)
    lines = await exported(turns, context)
    done = await import_lines(turns, lines)
    assert [payload for _, payload in await said(turns, done.context)] == payloads
    assert len((await compare(turns, context.context_id, other.context_id)).ours) == 20
    monkeypatch.setattr(turn_store, "PAGE_PAYLOAD_BYTES_MAX", 99)
    with pytest.raises(LimitExceeded, match="page_payload_bytes_max"):
        await chain(turns, context)


async def test_every_turn_is_iterated_once_whatever_the_page(turns: Turns):
    context = await turns.create()
    ids = await say(turns, context, *numbered(7))
    fork = await turns.fork(ids[4])
    ids = [*ids[:5], *await say(turns, fork, b"x", b"y")]
    for page in (1, 2, 3, 6, 7, 8, TURNS_PAGE_MAX + 1):
        assert [turn.turn_id async for turn in turns.iterate(fork.context_id, page=page)] == ids[::-1]
    empty = await turns.create()
    assert [turn async for turn in turns.iterate(empty.context_id)] == []
    for page in (0, -1):
        with pytest.raises(Invalid, match="at least 1"):
            [turn async for turn in turns.iterate(fork.context_id, page=page)]
    with pytest.raises(NotFound):
        [turn async for turn in turns.iterate("99")]


async def test_a_context_and_itself_differ_in_nothing(turns: Turns):
    context, empty = await turns.create(), await turns.create()
    ids = await say(turns, context, b"a", b"b")
    found = await compare(turns, context.context_id, context.context_id)
    assert found.common is not None
    assert (found.common.turn_id, found.ours, found.theirs) == (ids[1], (), ())
    for ours, theirs in ((empty, empty), (empty, context), (context, empty)):
        found = await compare(turns, ours.context_id, theirs.context_id)
        assert found.common is None
        assert (len(found.ours), len(found.theirs)) == (ours is context and 2, theirs is context and 2)
    with pytest.raises(NotFound):
        await compare(turns, context.context_id, "99")


async def test_a_context_and_its_ancestor_part_where_the_ancestor_ends(turns: Turns):
    root = await turns.create()
    ids = await say(turns, root, b"a", b"b", b"c")
    ancestor, fork = await turns.fork(ids[1]), await turns.fork(ids[2])
    await say(turns, fork, b"d")
    for swapped in (False, True):
        asked = (fork, ancestor) if swapped else (ancestor, fork)
        found = await compare(turns, *(one.context_id for one in asked))
        assert found.common is not None
        assert (found.common.turn_id, found.common.depth) == (ids[1], 2)
        longer, shorter = (found.ours, found.theirs) if swapped else (found.theirs, found.ours)
        assert ([turn.payload for turn in longer], shorter) == ([b"c", b"d"], ())


async def test_two_forks_part_at_the_last_turn_that_they_share(turns: Turns):
    root = await turns.create()
    ids = await say(turns, root, *numbered(100))
    left, right = await turns.fork(ids[60]), await turns.fork(ids[80])
    await say(turns, left, *(b"l%d" % number for number in range(90)))
    await say(turns, right, b"r0")
    found = await compare(turns, left.context_id, right.context_id)
    assert found.common is not None
    assert found.common.turn_id == ids[60]
    assert [turn.depth for turn in found.ours] == list(range(62, 152))
    assert [turn.payload for turn in found.theirs] == [*numbered(100)[61:81], b"r0"]


async def test_what_shares_no_turn_differs_in_everything(turns: Turns):
    one, other = await turns.create(), await turns.create()
    await say(turns, one, b"same", b"more")
    await say(turns, other, b"same")
    found = await compare(turns, one.context_id, other.context_id)
    assert found.common is None
    assert [turn.payload for turn in found.ours] == [b"same", b"more"]
    assert [turn.payload for turn in found.theirs] == [b"same"]


async def test_comparing_costs_the_same_however_long_the_shared_history_is(world: World):
    costs = []
    for length in (70, 400):
        root = await world.turns.create()
        last = (await say(world.turns, root, *numbered(length)))[-1]
        fork = await world.turns.fork(last)
        await say(world.turns, root, b"a", b"b")
        await say(world.turns, fork, b"c")

        async def asked(ours: str = root.context_id, theirs: str = fork.context_id) -> None:
            found = await compare(world.turns, ours, theirs)
            assert (len(found.ours), len(found.theirs)) == (2, 1)

        costs.append(await world.reads_of(asked))
    assert costs[0] == costs[1]
    assert costs[0] <= 6


@pytest.mark.parametrize("side", ["ours", "theirs"])
async def test_contexts_that_differ_by_more_than_is_looked_at_are_refused(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, side: str
):
    assert DIFFERENT_TURNS_MAX == 10_000
    monkeypatch.setattr(turn_transfer, "DIFFERENT_TURNS_MAX", 3)
    root = await turns.create()
    (base,) = await say(turns, root, b"a")
    fork = await turns.fork(base)
    await say(turns, fork, b"b", b"c", b"d")
    asked = (fork, root) if side == "ours" else (root, fork)
    found = await compare(turns, *(one.context_id for one in asked))
    assert len(found.ours + found.theirs) == 3
    await say(turns, fork, b"e")
    with pytest.raises(LimitExceeded, match="different_turns_max") as caught:
        await compare(turns, *(one.context_id for one in asked))
    assert caught.value.detail == {"limit": "different_turns_max", "allowed": 3, "actual": 4}
