"""The thread between synchronous callers and the plane: what it carries over, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from perdure.errors import Invalid, OutcomeUnknown, PerdureError, Refused
from perdure.sync.portal import Opened, Portal

pytestmark = pytest.mark.fast


@pytest.fixture
def portal() -> Iterator[Portal]:
    made = Portal()
    yield made
    made.close()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests were started in the background and it would be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Endless:
    """A function that ends only when it is cancelled, and says so."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # as if it had something to put away
            self.cancelled.set()
            raise


def interrupt_when(started: threading.Event) -> None:
    """Do what Ctrl-C does, to the thread that a terminal would choose."""
    started.wait()
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def raising(exc: BaseException) -> None:
    await asyncio.sleep(0)
    raise exc


def test_a_call_returns_what_the_function_returns(portal: Portal) -> None:
    assert portal.call(double, 21) == 42


@pytest.mark.parametrize("exc", [Invalid("no"), StopAsyncIteration(), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_what_a_function_raises_arrives_as_it_is_and_the_next_call_works(portal: Portal, exc: BaseException) -> None:
    with pytest.raises(type(exc)) as caught:
        portal.call(raising, exc)

    assert caught.value is exc
    assert portal.call(double, 1) == 2


def test_threads_call_at_the_same_time(portal: Portal) -> None:
    async def meet(barrier: asyncio.Barrier) -> int:
        return await barrier.wait()

    barrier = asyncio.Barrier(2)  # passed only by two that are there together
    with ThreadPoolExecutor(max_workers=2) as threads:
        met = list(threads.map(lambda _: portal.call(meet, barrier), range(2)))

    assert sorted(met) == [0, 1]


def test_a_closed_portal_says_that_it_is_closed(portal: Portal) -> None:
    portal.close()
    portal.close()

    with pytest.raises(Refused, match="this plane is closed") as refused:
        portal.call(double, 1)

    assert refused.value.code == "plane_closed"


def test_closing_ends_the_thread_and_what_runs_on_it(portal: Portal) -> None:
    endless = Endless()
    with ThreadPoolExecutor(max_workers=1) as other:
        waiting = other.submit(portal.call, endless)
        endless.started.wait()
        portal.close()

        assert endless.cancelled.is_set()
        with pytest.raises(OutcomeUnknown, match="closed by another thread"):
            waiting.result()
    assert "perdure-sync" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_call_is_cancelled_before_the_interruption_goes_on(portal: Portal) -> None:
    endless = Endless()
    killer = threading.Thread(target=interrupt_when, args=(endless.started,))
    killer.start()

    with pytest.raises(KeyboardInterrupt):
        portal.call(endless)

    killer.join()
    assert endless.cancelled.is_set()
    assert portal.call(double, 2) == 4


async def test_inside_a_running_loop_it_is_refused_with_the_way_out() -> None:
    with pytest.raises(Refused, match="use the asynchronous API") as refused:
        Portal()

    assert refused.value.code == "inside_event_loop"


async def test_a_portal_made_elsewhere_is_refused_inside_a_running_loop_too() -> None:
    portal = await asyncio.to_thread(Portal)

    with pytest.raises(Refused, match="use the asynchronous API"):
        portal.call(double, 1)

    await asyncio.to_thread(portal.close)


def test_a_forked_process_is_told_that_the_thread_stayed_behind() -> None:
    program = """
import os, warnings
from perdure.errors import Refused
from perdure.sync.portal import Portal

async def nothing():
    pass

warnings.simplefilter("ignore", DeprecationWarning)  # newer releases of Python warn of just this
portal = Portal()
if os.fork() == 0:
    try:
        portal.call(nothing)
    except Refused as exc:
        print(exc.code, flush=True)
    portal.close()
    os._exit(0)
os.wait()
portal.close()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert (ran.stdout, ran.stderr) == ("plane_forked\n", "")


class Numbers:
    """Counts from 1 to 3 and notes when it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def __call__(self) -> AsyncIterator[int]:
        try:
            for number in (1, 2, 3):
                await asyncio.sleep(0)
                yield number
        finally:
            self.closed.set()


def test_an_iterator_is_pulled_one_item_at_a_time(portal: Portal) -> None:
    numbers = Numbers()
    items = portal.iterate(numbers())

    assert [next(items), next(items)] == [1, 2]
    assert not numbers.closed.is_set()
    assert (list(items), numbers.closed.is_set()) == ([3], True)


def test_an_iterator_that_is_dropped_half_way_is_closed(portal: Portal) -> None:
    numbers = Numbers()
    for number in portal.iterate(numbers()):
        assert number == 1
        break
    gc.collect()

    assert numbers.closed.is_set()


def test_closing_the_portal_closes_the_iterators_that_are_left(portal: Portal) -> None:
    numbers = Numbers()
    items = portal.iterate(numbers())
    next(items)

    portal.close()

    assert numbers.closed.is_set()
    with pytest.raises(Refused, match="closed"):
        next(items)


class Resource:
    """What is opened: notes which task entered and left it, and with what."""

    def __init__(self, *, refuses: PerdureError | None = None, swallows: bool = False) -> None:
        self.refuses = refuses
        self.swallows = swallows
        self.tasks: list[asyncio.Task[object] | None] = []
        self.left_with: BaseException | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        if self.refuses is not None:
            raise self.refuses
        self.tasks.append(asyncio.current_task())
        try:
            yield "resource"
        except BaseException as exc:
            self.left_with = exc
            if not self.swallows:
                raise
        finally:
            self.tasks.append(asyncio.current_task())


def facade(value: str, portal: Portal) -> tuple[str, Portal]:
    return value, portal


def test_a_context_manager_is_entered_and_left_by_one_task() -> None:
    resource = Resource()

    with Opened(resource.open(), facade) as (value, portal):
        assert value == "resource"
        assert portal.call(double, 3) == 6

    assert resource.tasks[0] is resource.tasks[1] is not None
    with pytest.raises(Refused, match="closed"):
        portal.call(double, 3)


@pytest.mark.parametrize("exc", [Invalid("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_what_the_block_raises_reaches_the_context_manager_and_goes_on(exc: BaseException) -> None:
    resource = Resource()

    with pytest.raises(type(exc)) as caught, Opened(resource.open(), facade):
        raise exc

    assert caught.value is exc
    assert resource.left_with is exc


def test_a_context_manager_may_swallow_what_the_block_raises() -> None:
    with Opened(Resource(swallows=True).open(), facade):
        raise Invalid("no")


def test_what_cannot_be_entered_leaves_no_thread() -> None:
    refusal = Refused("another plane")

    with pytest.raises(Refused) as caught, Opened(Resource(refuses=refusal).open(), facade):
        pytest.fail("was entered")

    assert caught.value is refusal
    assert "perdure-sync" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_opening_is_cancelled_and_leaves_no_thread() -> None:
    endless = Endless()

    @asynccontextmanager
    async def opening() -> AsyncIterator[str]:
        await endless()
        yield "never"

    killer = threading.Thread(target=interrupt_when, args=(endless.started,))
    killer.start()
    with pytest.raises(KeyboardInterrupt), Opened(opening(), facade):
        pytest.fail("was entered")

    killer.join()
    assert endless.cancelled.is_set()
    assert "perdure-sync" not in {thread.name for thread in threading.enumerate()}


def test_opening_twice_is_refused() -> None:
    opened = Opened(Resource().open(), facade)
    with opened:
        pass

    with pytest.raises(Refused, match="opened before"), opened:
        pytest.fail("was entered")
