"""A flusher in a thread of its own, for code that has no event loop, and the one buffer of code that has no plane."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent import futures
from typing import Any, TypeAlias, TypeVar

from perdure.core.environment import system_environment
from perdure.core.telemetry_buffer import TelemetryBuffer
from perdure.core.telemetry_flusher import Stopped, TelemetryFlusher
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.telemetry_stats import TelemetryStats
from perdure.domain.telemetry import TelemetryEntry, TelemetryRecord
from perdure.errors import Refused
from perdure.ports.environment import Environment

AnyWrite: TypeAlias = Callable[[Sequence[TelemetryRecord]], Awaitable[None] | None]
"""Writes records, idempotently; a function or an async one. It is called in the flusher's thread only."""

T = TypeVar("T")


class TelemetryThread:
    """Flushes a buffer in a daemon thread, until it is stopped, or the program ends: then what is pending is written.

    After a fork there is no thread in the child; ``start`` begins one.
    """

    def __init__(
        self,
        buffer: TelemetryBuffer,
        write: AnyWrite,
        *,
        settings: TelemetrySettings | None = None,
        environment: Environment | None = None,
    ) -> None:
        self.buffer = buffer
        self._write = write
        self._settings = settings if settings is not None else TelemetrySettings()
        self._environment = environment if environment is not None else system_environment()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flusher: TelemetryFlusher | None = None
        self._ready = threading.Event()
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Begin. Raises ``Refused`` if it is running."""
        if self._thread is not None and self._thread.is_alive():
            raise Refused("this flusher is running already; stop it first")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perdure-telemetry", daemon=True)
        self._thread.start()
        self._ready.wait()
        atexit.register(self.stop)

    def flush(self) -> int:
        """Write what is pending now; how many entries were. Raises what the write raises."""
        return self._call(self._running().flush_all())

    def stop(self, deadline_s: float | None = None) -> Stopped:
        """Take nothing more, write what is pending for at most ``deadline_s``, and say what became of it."""
        if self._thread is None or not self._thread.is_alive():
            return Stopped(flushed=0, lost=0)
        stopped = self._call(self._end(self._running(), deadline_s))
        self._thread.join()
        atexit.unregister(self.stop)
        return stopped

    def stats(self) -> TelemetryStats:
        """All counters, as they are now."""
        return self.buffer.stats() if self._flusher is None else self._flusher.stats()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._flusher = TelemetryFlusher(
                self.buffer, self._written, environment=self._environment, settings=self._settings
            )
            runner.run(self._flush_until_ended(self._flusher))

    async def _flush_until_ended(self, flusher: TelemetryFlusher) -> None:
        self._ended = asyncio.Event()
        running = asyncio.create_task(flusher.run())
        self._ready.set()
        # Not only until ``run`` ends: who stops it still writes what is pending, on this loop.
        await self._ended.wait()
        await running

    async def _end(self, flusher: TelemetryFlusher, deadline_s: float | None) -> Stopped:
        try:
            return await flusher.stop(deadline_s)
        finally:
            self._ended.set()

    async def _written(self, records: Sequence[TelemetryRecord]) -> None:
        outcome = self._write(records)
        if inspect.isawaitable(outcome):
            await outcome

    def _running(self) -> TelemetryFlusher:
        if self._flusher is None or self._thread is None or not self._thread.is_alive():
            raise Refused("this flusher is not running; start it first")
        return self._flusher

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "a flusher that runs has a loop"
        future: futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()


_shared: TelemetryBuffer | None = None
_shared_lock = threading.Lock()


def get_telemetry_buffer() -> TelemetryBuffer:
    """The one buffer of this process for code that has no plane; the same every time."""
    global _shared  # noqa: PLW0603 - one for each process is what it is
    with _shared_lock:
        if _shared is None:
            _shared = TelemetryBuffer()
        return _shared


def reset_telemetry_buffer() -> tuple[TelemetryEntry, ...]:
    """Empty that buffer, open it again and count from 0; hands over what was pending, for the caller to keep.

    It stays the same object, so that whoever holds it, or a flusher of it, goes on.
    """
    return get_telemetry_buffer().hand_over()
