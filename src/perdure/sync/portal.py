"""Where the synchronous facade meets the asynchronous plane: one thread with one event loop.

A call is a task on that loop, and the calling thread waits for it; any number of threads may call at once. Whatever
ends the waiting early (Ctrl-C first of all) cancels the task and waits until it has ended, so that nothing goes on
behind the caller's back. Nothing here relies on context variables, and an asynchronous context manager is entered and
left by the same task, as cancel scopes demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent import futures
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from perdure.errors import OutcomeUnknown, Refused

P = ParamSpec("P")
T = TypeVar("T")
Async = TypeVar("Async")
Sync = TypeVar("Sync")

Reason: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Portal:
    """Runs asynchronous functions for threads that have no event loop, from its construction until ``close``.

    Raises ``Refused`` when it is made or used inside a running event loop, used after ``close``, or used in a process
    that was forked from the one it was made in.
    """

    def __init__(self) -> None:
        _refuse_inside_loop()
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._closing = asyncio.Event()
        self._closed = False
        started: futures.Future[asyncio.AbstractEventLoop] = futures.Future()
        # A daemon, so that a plane that nobody closes does not keep the program from ending.
        self._thread = threading.Thread(target=self._serve, args=(started,), name="perdure-sync", daemon=True)
        self._thread.start()
        self._loop = started.result()

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` on the loop and return what it returns; what it raises arrives as it is.

        Raises ``OutcomeUnknown`` if another thread closes the portal before the function has ended.
        """
        _refuse_inside_loop()
        call = Call(lambda: function(*args, **kwargs), self._loop)
        return call.result(start=self._start)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator, pulled one at a time; closing the iterator closes that one too."""
        try:
            while True:
                try:
                    item = self.call(_pull, items)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._discard(items)

    def begin(self, function: Callable[[], Coroutine[Any, Any, T]]) -> Call[T]:
        """Start ``function`` on the loop without waiting for it."""
        _refuse_inside_loop()
        call = Call(function, self._loop)
        self._start(call)
        return call

    def close(self) -> None:
        """Cancel what still runs, wait for its end and for that of the thread. Closing twice does nothing."""
        if os.getpid() != self._process:
            return  # the thread belongs to the parent, which closes it
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _start(self, call: Call[Any]) -> None:
        """Put a call on the loop; one that cannot be put there ends as refused."""
        if os.getpid() != self._process:
            refusal = Refused(
                "this plane was opened before the process forked, and its thread stayed in the parent; open one in "
                "each process",
                code="plane_forked",
            )
            call.outcome.set_exception(refusal)
            return
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(call.start)
                return
        refusal = Refused(
            "this plane is closed; use it inside its block: `with perdure.sync.open() as plane`", code="plane_closed"
        )
        call.outcome.set_exception(refusal)

    def _discard(self, items: AsyncIterator[Any]) -> None:
        """Close an iterator that is not wanted any more; closing the portal has closed those that are left."""
        if not isinstance(items, AsyncGenerator):
            return
        call = Call(items.aclose, self._loop)
        # The garbage collector may bring us here on a thread with a running loop, which must not wait.
        if _is_inside_loop():
            self._start(call)
        else:
            with contextlib.suppress(Refused, OutcomeUnknown):
                call.result(start=self._start)

    def _serve(self, started: futures.Future[asyncio.AbstractEventLoop]) -> None:
        try:
            # Leaving the runner cancels every task, waits for them and closes asynchronous generators.
            with asyncio.Runner() as runner:
                runner.run(self._wait(started))
        except BaseException as exc:  # the constructor waits for an answer and raises it
            if started.done():
                raise
            started.set_exception(exc)

    async def _wait(self, started: futures.Future[asyncio.AbstractEventLoop]) -> None:
        started.set_result(asyncio.get_running_loop())
        await self._closing.wait()


class Call(Generic[T]):
    """A function that was given to the loop, and its outcome."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]], loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: futures.Future[T] = futures.Future()
        self._function = function
        self._loop = loop
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the loop's own thread."""
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def result(self, *, start: Callable[[Call[T]], None] | None = None) -> T:
        """Wait for the outcome: return it, or raise it.

        With ``start`` it is put on the loop first, so that no interruption falls between the two.
        """
        try:
            if start is not None:
                start(self)
            return self.outcome.result()
        except futures.CancelledError:
            raise OutcomeUnknown(
                "the plane was closed by another thread before this call had ended; what it wrote may have been "
                "committed",
                code="plane_closed",
            ) from None
        except BaseException:
            if not self.outcome.done():
                self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel, and wait until it has ended; interrupting that wait leaves the rest to ``Portal.close``."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # the loop is closed, so nothing runs on it
            return
        futures.wait([self.outcome])

    def _cancel(self) -> None:
        if self._task is None:  # interrupted before it was put on the loop
            self._end_cancelled()
        else:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            value = await self._function()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - it belongs to the caller; SystemExit would end the loop here
            self.outcome.set_exception(exc)
        else:
            self.outcome.set_result(value)

    def _ended(self, _: asyncio.Task[None]) -> None:
        if not self.outcome.done():
            self._end_cancelled()

    def _end_cancelled(self) -> None:
        self.outcome.cancel()
        self.outcome.set_running_or_notify_cancel()  # only this wakes who waits in futures.wait


class Opened(Generic[Async, Sync]):
    """``with Opened(manager, facade) as ...``: an asynchronous context manager on a portal that lives as long."""

    def __init__(self, manager: AbstractAsyncContextManager[Async], facade: Callable[[Async, Portal], Sync]) -> None:
        self._manager = manager
        self._facade = facade
        self._leaving = asyncio.Event()
        self._reason: Reason = (None, None, None)
        self._entered: futures.Future[Async] = futures.Future()
        self._portal: Portal | None = None
        self._block: Call[bool] | None = None

    def __enter__(self) -> Sync:
        """Start the thread, enter there, and return the facade of what was entered."""
        if self._portal is not None:
            raise Refused("this plane was opened before; call perdure.sync.open() again")
        self._portal = Portal()
        try:
            self._block = self._portal.begin(self._hold)
            either: list[futures.Future[Any]] = [self._entered, self._block.outcome]
            try:
                futures.wait(either, return_when=futures.FIRST_COMPLETED)
            except BaseException:
                self._block.cancel()
                raise
            if not self._entered.done():
                self._block.result()  # raises what kept it from being entered
            return self._facade(self._entered.result(), self._portal)
        except BaseException:
            self._portal.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Leave there, and end the thread."""
        assert self._portal is not None, "left before it was entered"
        assert self._block is not None, "left before it was entered"
        try:
            self._reason = (kind, exc, trace)
            self._portal.begin(self._leave).result()
            return self._block.result()
        finally:
            self._portal.close()

    async def _hold(self) -> bool:
        """Enter and leave in one task. The reason is handed over, not raised: Ctrl-C would end the loop."""
        self._entered.set_result(await self._manager.__aenter__())
        try:
            await self._leaving.wait()
        except asyncio.CancelledError as exc:
            await self._manager.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return bool(await self._manager.__aexit__(*self._reason))

    async def _leave(self) -> None:
        self._leaving.set()


async def _pull(items: AsyncIterator[T]) -> T:
    return await anext(items)


def _is_inside_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse_inside_loop() -> None:
    if _is_inside_loop():
        raise Refused(
            "perdure.sync would stop the event loop that runs in this thread; use the asynchronous API there: "
            "`async with perdure.open() as plane`",
            code="inside_event_loop",
        )
