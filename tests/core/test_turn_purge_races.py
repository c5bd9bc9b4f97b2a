"""A purge at the same moment as a fork, an append, a hold, another purge, or its own death."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias

import pytest

from perdure.core.turn_retention import UNDECIDED_S_MAX
from perdure.errors import NotFound, OutcomeUnknown, TimedOut, Unavailable
from perdure.ports.documents import DocumentDriver
from perdure.testing.driver_faults import Crash, Crashed, FaultyDriver
from perdure.testing.environment import SeededRandomness
from tests.support.retained import LIFE_S, Data, Desk, new_data, opened_desk

CALLS_MAX: Final = 60  # no purge of these few contexts makes more
OPERATIONS_MAX: Final = 250  # nor more operations of its driver
SCHEDULES: Final = 20

Racer: TypeAlias = Callable[[Desk, str, str, str], Awaitable[str | None]]


async def fork(desk: Desk, root: str, turn: str, other: str) -> str:
    """Go on from the last turn of the context."""
    del root, other
    made = await desk.turns.fork(turn)
    await desk.turns.append(made.context_id, b"fork", type_id="t")
    return made.context_id


async def append(desk: Desk, root: str, turn: str, other: str) -> str:
    """Append to the context."""
    del turn, other
    await desk.turns.append(root, b"late", type_id="t")
    return root


async def rebase(desk: Desk, root: str, turn: str, other: str) -> str:
    """Lead another context there."""
    del root
    await desk.turns.append(other, b"adopted", type_id="t", parent_turn_id=turn, rebase=True)
    return other


async def hold(desk: Desk, root: str, turn: str, other: str) -> str:
    """Hold the context."""
    del turn, other
    await desk.turns.hold(root, reason="case")
    return root


async def hold_class(desk: Desk, root: str, turn: str, other: str) -> str | None:
    """Hold its class; whether the context was gone before is not told."""
    del turn, other
    await desk.turns.hold(retention_class="r", reason="case")
    return root if await desk.said(root) is not None else None


async def purge(desk: Desk, root: str, turn: str, other: str) -> None:
    """Purge, too."""
    del root, turn, other
    await desk.purge()


RACERS: Final[dict[str, Racer]] = {
    "fork": fork,
    "append": append,
    "rebase": rebase,
    "hold": hold,
    "hold a class": hold_class,
    "purge": purge,
}


async def tried(racer: Racer, desk: Desk, root: str, turn: str, other: str) -> str | None:
    """The context that must be whole from now on; None if it was refused, or promises nothing."""
    try:
        return await racer(desk, root, turn, other)
    except (NotFound, TimedOut):
        return None


async def check(desk: Desk, needed: str | None, *contexts: str) -> None:
    """Every context is whole or not there, and what was acknowledged is there, now and after another purge."""
    for _ in range(2):
        for context_id in contexts:
            await desk.said(context_id)
        assert needed is None or await desk.said(needed) is not None
        desk.clock.advance(UNDECIDED_S_MAX + 1)
        # A context that only an append kept is due at the next purge.
        if needed == contexts[0] and (await desk.turns.holds()).items == ():
            needed = None
        await desk.purge()
    for found in (await desk.turns.contexts()).items:
        assert await desk.said(found.context_id) is not None


async def begun(desk: Desk) -> tuple[str, str, str]:
    """A context whose time is over, its last turn, and a context that stays."""
    root, turn = await desk.begin(retention_class="r")
    other, _ = await desk.begin(life_s=None)
    desk.clock.advance(LIFE_S)
    return root, turn, other


@pytest.mark.parametrize("name", RACERS)
async def test_whenever_somebody_comes_between_two_calls_of_a_purge_one_of_both_wins(name: str) -> None:
    won = lost = written = 0
    for number in range(1, CALLS_MAX):
        data = new_data()
        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            root, turn, other = await begun(ours)
            needed: str | None = None
            done = False
            mark = len(ours.backend.calls)

            async def between(call: str) -> None:
                nonlocal needed, done
                del call
                if len(ours.backend.calls) - mark == number:  # noqa: B023 - called before the next round
                    done = True
                    needed = await tried(RACERS[name], theirs, root, turn, other)  # noqa: B023 - as above

            ours.backend.before = between
            try:
                told = await ours.purge()
            except TimedOut:
                told = {}  # it waited for whoever waited for it
            ours.backend.before = None
            if not done:
                assert number > 10
                break
            won += needed is not None
            lost += told.get(root) == "removed"
            # An append before the purge has looked is removed with its context.
            if needed is not None and name != "append":
                assert told.get(root) != "removed"
            elif told.get(root) == "removed":
                needed = None
            await check(theirs, needed, root, other)
            written += told.get(root) == "written"
    else:
        pytest.fail("a purge makes more calls than that")
    assert lost
    assert won or name == "purge"
    assert bool(written) == (name == "append")


@pytest.mark.parametrize("name", RACERS)
async def test_whenever_a_purge_comes_between_two_calls_of_somebody_one_of_both_wins(name: str) -> None:
    for number in range(1, CALLS_MAX):
        data = new_data()
        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            root, turn, other = await begun(ours)
            told: dict[str, str] = {}
            done = False
            mark = len(theirs.backend.calls)

            async def between(call: str) -> None:
                nonlocal told, done
                del call
                if len(theirs.backend.calls) - mark == number:  # noqa: B023 - called before the next round
                    done = True
                    told = await ours.purge()

            theirs.backend.before = between
            needed = await tried(RACERS[name], theirs, root, turn, other)
            theirs.backend.before = None
            if not done:
                assert number > 1
                return
            if needed is not None and name != "append":
                assert told.get(root) != "removed"
            elif told.get(root) == "removed":
                needed = None
            await check(theirs, needed, root, other)
    pytest.fail(f"{name} makes more calls than that")


@pytest.mark.parametrize("name", RACERS)
async def test_in_any_order_of_their_calls_one_of_both_wins(name: str) -> None:
    for seed in range(SCHEDULES):
        data = new_data()
        chance = SeededRandomness(seed)

        async def dither(call: str) -> None:
            del call
            for _ in range(int(chance.random() * 4)):  # noqa: B023 - called before the next round
                await asyncio.sleep(0)

        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            root, turn, other = await begun(ours)
            ours.backend.before = theirs.backend.before = dither
            told, needed = await asyncio.gather(ours.purge(), tried(RACERS[name], theirs, root, turn, other))
            if needed is not None and name != "append":
                assert told.get(root) != "removed"
            elif told.get(root) == "removed":
                needed = None
            await check(theirs, needed, root, other)


async def family(desk: Desk) -> list[str]:
    """Contexts whose time is over: one with a fork, one with a snapshot."""
    root, turn = await desk.begin()
    child, _ = await desk.begin(base=turn)
    single, turn = await desk.begin()
    await desk.turns.attach(turn, await desk.turns.put_blob(b"tree"))
    desk.clock.advance(LIFE_S)
    return [root, child, single]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_purge_that_dies_at_any_step_is_ended_by_the_next_one(moment: str) -> None:
    for number in range(1, OPERATIONS_MAX):
        data = new_data()
        async with opened_desk(data) as theirs:
            contexts = await family(theirs)
            is_dead = await died(data, number, moment)
            for context_id in contexts:
                await theirs.said(context_id)
            theirs.clock.advance(UNDECIDED_S_MAX + 1)
            assert set((await theirs.purge()).values()) <= {"removed"}
            for context_id in contexts:
                assert await theirs.said(context_id) is None
            assert await theirs.purge(dry_run=True) == {}
            assert (await theirs.turns.contexts(label="x")).items == ()
            kinds, _ = await theirs.backend.rows.containers(
                theirs.plane.stores.routing.routes[0].kind.TURNS, "t_acme", limit=100, timeout_s=5
            )
            assert {container.name[0] for container in kinds} == {"numbers", "retention"}
            if not is_dead:
                assert number > 30
                return
    pytest.fail("a purge makes more operations than that")


async def died(data: Data, number: int, moment: str) -> bool:
    """Purge until the process dies; False if it lived to the end."""

    def deadly(driver: DocumentDriver) -> DocumentDriver:
        return FaultyDriver(driver, crash=Crash(at=number, moment=moment, among="commits"))  # type: ignore[arg-type]  # one of the two

    async with opened_desk(data, client=1, driven=deadly) as ours:
        try:
            await ours.purge()
        except Crashed:
            return True
    return False


@pytest.mark.parametrize("error", [OutcomeUnknown("the answer was lost"), Unavailable("nothing answered")])
async def test_a_purge_that_fails_at_any_call_is_ended_by_the_next_one(error: Unavailable) -> None:
    for number in range(1, CALLS_MAX):
        data = new_data()
        async with opened_desk(data) as ours:
            contexts = await family(ours)
            mark = len(ours.backend.calls)

            async def fail(call: str, *, at: int) -> None:
                del call
                if len(ours.backend.calls) - mark == at:  # noqa: B023 - called before the next round
                    raise error

            if isinstance(error, OutcomeUnknown):
                ours.backend.after = partial(fail, at=number)
            else:
                ours.backend.before = partial(fail, at=number)
            failed = True
            with suppress(Unavailable):
                await ours.purge()
                failed = False
            ours.backend.before = ours.backend.after = None
            for context_id in contexts:
                await ours.said(context_id)
            ours.clock.advance(UNDECIDED_S_MAX + 1)
            await ours.purge()
            for context_id in contexts:
                assert await ours.said(context_id) is None
            if not failed:
                assert number > 10
                return
    pytest.fail("a purge makes more calls than that")


async def test_a_fork_that_was_named_and_never_made_does_not_keep_its_base_for_ever() -> None:
    data = new_data()
    async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
        root, turn, _ = await begun(ours)

        async def die(call: str) -> None:
            if call == "logs.configure":
                raise Crashed

        theirs.backend.before = die
        with pytest.raises(Crashed):
            await theirs.turns.fork(turn)
        assert await ours.purge() == {root: "removed"}
        ours.clock.advance(2 * 86_400.0)
        assert await ours.plane.upkeep.sweep() >= 1
        assert len((await ours.turns.contexts()).items) == 1


async def test_who_forks_or_holds_what_a_dead_purge_began_to_remove_does_not_wait_for_ever() -> None:
    for racer in (fork, hold):
        data = new_data()
        async with opened_desk(data) as ours, opened_desk(data, client=1) as theirs:
            root, turn, other = await begun(ours)

            async def die(call: str) -> None:
                if call == "logs.append":
                    raise Crashed

            ours.backend.before = die
            with pytest.raises(Crashed):
                await ours.purge()
            ours.backend.before = None
            with pytest.raises(TimedOut):
                await racer(theirs, root, turn, other)
            assert await theirs.purge() == {root: "busy"}
            theirs.clock.advance(UNDECIDED_S_MAX)
            needed = await racer(theirs, root, turn, other)
            assert await theirs.purge() == {root: "hold" if racer is hold else "fork"}
            assert await theirs.said(needed) is not None
