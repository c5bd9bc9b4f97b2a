"""Telemetry of one plane: a buffer and a flusher for each scope that records, begun and ended with the plane."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from perdure.core.stores import Call, Stores
from perdure.core.telemetry_buffer import TelemetryBuffer
from perdure.core.telemetry_flusher import Stopped, TelemetryFlusher, Write
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.telemetry_spill import SUFFIX
from perdure.core.telemetry_stats import TelemetryStats, sum_of
from perdure.domain.container import Space
from perdure.domain.kinds import Kind
from perdure.domain.records import Page
from perdure.domain.scope import Scope, make_scope
from perdure.domain.telemetry import (
    LOGS_PAGE_DEFAULT,
    LogsQuery,
    LogType,
    TelemetryEntry,
    TelemetryRecord,
    check_log_type,
    check_logs_query,
    telemetry_container,
)
from perdure.errors import CursorInvalid, PerdureError, Unsupported
from perdure.ports.telemetry import TelemetryStore

DESTINATIONS_MAX: Final = 1_000  # scopes that record at the same time in one process; each has a buffer and a task
ACTOR: Final = "system:telemetry"  # in audit records: a batch is of many actors

_SCOPE_FILE: Final = "scope.json"
_DIRECTORY_MODE: Final = 0o700

_log = logging.getLogger(__name__)

_Key: TypeAlias = "tuple[Space, UUID | None]"


@dataclass(slots=True, kw_only=True)
class Destination:
    """Where the entries of one scope go: their buffer and who flushes it."""

    scope: Scope
    buffer: TelemetryBuffer
    flusher: TelemetryFlusher
    task: asyncio.Task[None] | None = None


class PlaneTelemetry:
    """The telemetry of every scope of a plane. Entries of different scopes are never in one write."""

    def __init__(self, stores: Stores, *, settings: TelemetrySettings | None = None) -> None:
        self._stores = stores
        self._settings = settings if settings is not None else TelemetrySettings()
        self._destinations: dict[_Key, Destination] = {}
        self._retired = TelemetryStats()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def stats(self) -> TelemetryStats:
        """All counters of all scopes, added up."""
        with self._lock:
            running = list(self._destinations.values())
            retired = self._retired
        return sum_of([retired, *(one.flusher.stats() for one in running)])

    async def flush(self) -> int:
        """Write everything that is pending now; how many entries were. Raises what the first failure was."""
        with self._lock:
            running = list(self._destinations.values())
        outcomes = await asyncio.gather(*(one.flusher.flush_all() for one in running), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return sum(outcome for outcome in outcomes if isinstance(outcome, int))

    # --- for the plane ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to flush in the background, what a process that was killed has spilled first."""
        self._loop = asyncio.get_running_loop()
        for scope in self._spilled_scopes():
            self.of(scope)
        with self._lock:
            waiting = [one for one in self._destinations.values() if one.task is None]
        for destination in waiting:
            self._begin(destination)

    async def stop(self, deadline_s: float | None = None) -> Stopped:
        """Take nothing more, write what is pending for ``deadline_s`` at most, and say what became of it."""
        with self._lock:
            self._is_closed = True
            running = list(self._destinations.values())
        ended = await asyncio.gather(*(self._end(one, deadline_s) for one in running))
        return Stopped(flushed=sum(one.flushed for one in ended), lost=sum(one.lost for one in ended))

    def of(self, scope: Scope) -> Destination | None:
        """Where the entries of a scope go, made when it is first needed; None if there are too many, or no more."""
        key = (scope.space, scope.user_id)
        with self._lock:
            found = self._destinations.get(key)
            if found is not None or self._is_closed:
                return found
            if len(self._destinations) >= DESTINATIONS_MAX and not self._retire_one():
                return None
            made = self._destinations[key] = self._made(scope)
            loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: what is recorded now is refused by whoever ends
                loop.call_soon_threadsafe(self._begin, made)
        return made

    def refuse(self, reason: str) -> bool:
        """Count an entry that no buffer was there for, and say so: False."""
        with self._lock:
            refused = {**self._retired.refused, reason: self._retired.refused.get(reason, 0) + 1}
            self._retired = replace(self._retired, refused=refused)
        return False

    def _begin(self, destination: Destination) -> None:
        if destination.task is None and not self._is_closed:
            destination.task = asyncio.create_task(destination.flusher.run(), name="perdure-telemetry")

    async def _end(self, destination: Destination, deadline_s: float | None) -> Stopped:
        stopped = await destination.flusher.stop(deadline_s)
        if destination.task is not None:
            destination.task.cancel()
            # Not by awaiting it: that could not tell its cancellation from one of whoever stops it.
            await asyncio.wait([destination.task])
            if not destination.task.cancelled() and (error := destination.task.exception()) is not None:
                _log.error("a flusher of telemetry had ended with %s", type(error).__name__)
        return stopped

    def _retire_one(self) -> bool:
        """Give up a buffer that is empty; whether there was one."""
        for key, destination in self._destinations.items():
            stats = destination.flusher.stats()
            if stats.pending or stats.in_flight or not stats.accepted:
                continue
            destination.buffer.close()
            if destination.buffer.pending:
                continue  # something came between the two; its flusher goes on until it is written
            if destination.task is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(destination.task.cancel)
            self._retired = sum_of([self._retired, replace(stats, entries_max=0, bytes_max=0)])
            del self._destinations[key]
            return True
        return False

    def _made(self, scope: Scope) -> Destination:
        settings = self._settings
        if settings.spill_dir is not None:
            settings = replace(settings, spill_dir=_spill_folder(settings.spill_dir, scope))
        buffer = TelemetryBuffer(
            entries_max=settings.entries_max, bytes_max=settings.bytes_max, batch_entries=settings.batch_entries
        )
        flusher = TelemetryFlusher(
            buffer,
            self._writer(replace(scope, actor=ACTOR, session=None, request_id=None, trace_id=None)),
            environment=self._stores.environment,
            settings=settings,
        )
        return Destination(scope=scope, buffer=buffer, flusher=flusher)

    def _writer(self, scope: Scope) -> Write:
        container = telemetry_container(scope.space)

        async def write(records: Sequence[TelemetryRecord]) -> None:
            """One batch, by the scope's route."""
            async with self._stores.writing(scope, container, "record") as call:
                await telemetry_of(call).write(scope.space, records, timeout_s=call.timeout_s)

        return write

    def _spilled_scopes(self) -> Sequence[Scope]:
        folder = self._settings.spill_dir
        if folder is None or not folder.is_dir():
            return ()
        backends = self._stores.backends
        scopes = []
        for path in sorted(folder.glob(f"*/{_SCOPE_FILE}")):
            if not any(path.parent.glob(f"*{SUFFIX}")):
                continue
            try:
                found = msgspec.json.decode(path.read_bytes(), type=dict[str, str | None])
                if (found.pop("mode"), found.pop("env")) == (backends.mode, backends.env):
                    tenant = found.pop("tenant") or ""
                    scopes.append(make_scope(tenant, actor=ACTOR, mode=backends.mode, env=backends.env, **found))  # type: ignore[arg-type]
            except (msgspec.MsgspecError, PerdureError, KeyError, TypeError) as exc:
                _log.warning("%s names no scope (%s); what is spilled beside it stays", path, type(exc).__name__)
        return scopes


class Telemetry:
    """The telemetry of one scope: recorded without waiting, read back by unit, instance and type."""

    def __init__(self, scope: Scope, *, stores: Stores, plane: PlaneTelemetry) -> None:
        self._scope = scope
        self._stores = stores
        self._plane = plane
        self._destination: Destination | None = None

    def record(
        self,
        entry: TelemetryEntry | None = None,
        *,
        instance_id: str | UUID | None = None,
        log_type: LogType | str = LogType.TELEMETRY,
        unit_id: str | UUID | None = None,
        actor_id: str | UUID | None = None,
        role_id: str | UUID | None = None,
        interaction_id: str | UUID | None = None,
        event_details: Any = None,
        error_metadata: Any = None,
        timestamp: datetime | None = None,
    ) -> bool:
        """Keep an entry, made before or of these fields, until it is written; whether it was accepted.

        It never waits and never raises, in whatever thread. What is refused is counted in ``stats().refused`` by its
        reason: ``full``, ``full_bytes``, ``closed``, or ``invalid`` for fields that are no entry's.
        """
        destination = self._destination
        if destination is None or destination.buffer.is_closed:
            destination = self._destination = self._plane.of(self._scope)
            if destination is None:
                return self._plane.refuse("full")
        if entry is None:
            fields: Mapping[str, Any] = {
                "instance_id": instance_id,
                "unit_id": unit_id,
                "actor_id": actor_id,
                "role_id": role_id,
                "interaction_id": interaction_id,
            }
            try:
                entry = TelemetryEntry(
                    entry_id=self._stores.environment.ids.new(),
                    log_type=check_log_type(log_type),
                    event_details=event_details,
                    error_metadata=error_metadata,
                    timestamp=self._stores.environment.clock.now() if timestamp is None else timestamp,
                    **{name: str(value) if isinstance(value, UUID) else value for name, value in fields.items()},
                )
            except Exception:  # noqa: BLE001 - whoever records goes on, whatever it was that was given
                return destination.buffer.refuse("invalid")
        return destination.buffer.record(entry)

    async def logs(
        self,
        *,
        unit: str | None = None,
        instance: str | None = None,
        type: LogType | str | None = None,  # noqa: A002 - what an entry's type is called everywhere
        after: UUID | str | None = None,
        limit: int = LOGS_PAGE_DEFAULT,
        reverse: bool = False,
        timeout_s: float | None = None,
    ) -> Page[TelemetryEntry]:
        """A page of the entries that are written, in the order in which they were made, or newest first (``reverse``).

        Those of a ``unit``, of an ``instance``, of a ``type``, or all; from the first behind ``after`` on, which is the
        id of an entry or a page's ``next_cursor``. At most ``limit`` (up to 1,000); only ``next_cursor`` says whether
        there are more. Raises ``Invalid``, ``CursorInvalid``, ``LimitExceeded``, ``NoRoute`` and ``Unavailable``.
        """
        query = check_logs_query(
            LogsQuery(
                unit_id=unit,
                instance_id=instance,
                log_type=None if type is None else check_log_type(type),
                after=_id(after),
                limit=limit,
                reverse=reverse,
            )
        )
        async with self._stores.reading(self._scope, Kind.TELEMETRY, timeout_s=timeout_s) as call:
            page = await telemetry_of(call).logs(self._scope.space, query, timeout_s=call.timeout_s)
        cursor = None if page.next_after is None else str(page.next_after)
        return Page(items=tuple(entry_of(record) for record in page.records), next_cursor=cursor)

    def stats(self) -> TelemetryStats:
        """All counters of this scope's buffer."""
        destination = self._plane.of(self._scope)
        return TelemetryStats() if destination is None else destination.flusher.stats()

    async def flush(self) -> int:
        """Write what is pending of this scope now; how many entries were. Raises what the store raises."""
        destination = self._plane.of(self._scope)
        return 0 if destination is None else await destination.flusher.flush_all()


def telemetry_of(call: Call) -> TelemetryStore:
    """The store of telemetry that a call was led to."""
    telemetry = call.backend.telemetry
    if telemetry is None:
        backend = call.resolved.route.backend
        raise Unsupported(f"backend {backend} keeps no telemetry; route it to another", backend=backend)
    return telemetry


def entry_of(record: TelemetryRecord) -> TelemetryEntry:
    """A record as an entry, with its JSON as values."""
    return TelemetryEntry(
        entry_id=record.entry_id,
        instance_id=record.instance_id,
        log_type=record.log_type,
        unit_id=record.unit_id,
        actor_id=record.actor_id,
        role_id=record.role_id,
        interaction_id=record.interaction_id,
        event_details=None if record.event_details is None else msgspec.json.decode(record.event_details),
        error_metadata=None if record.error_metadata is None else msgspec.json.decode(record.error_metadata),
        timestamp=record.timestamp,
    )


def _id(after: UUID | str | None) -> UUID | None:
    if after is None or isinstance(after, UUID):
        return after
    try:
        return UUID(after)
    except ValueError as exc:
        raise CursorInvalid("after is no id of an entry, nor the next_cursor of a page", reason="unknown") from exc


def _spill_folder(folder: Path, scope: Scope) -> Path:
    """The folder of a scope, with a file that says whose it is."""
    user = None if scope.user_id is None else str(scope.user_id)
    said = msgspec.json.encode({**msgspec.to_builtins(scope.space), "user": user})
    own = folder / hashlib.sha256(said).hexdigest()[:32]
    own.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    file = own / _SCOPE_FILE
    if not file.exists():
        file.write_bytes(said)
    return own
