"""A root of snapshots while a node runs: opened, observed, tuned and closed as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from perdure.core.tasklist_checkpointing import SHUTDOWN_TIMEOUT_S, Capture, CheckpointOutcome, ListCheckpoints
from perdure.core.tasklist_events import Emit, EventName, log_event
from perdure.core.tasklist_health import HealthKeeper
from perdure.core.tasklist_recovery import Recovering, Recovery
from perdure.core.tasklist_writing import RetentionResult, RootWriter
from perdure.domain.tasklists.failures import (
    CheckpointFailed,
    PersistenceNotInitialized,
    UnsupportedLegacyEncryptedArtifact,
)
from perdure.domain.tasklists.frequency import CheckpointFrequency, updated_frequency
from perdure.domain.tasklists.health import Health, Observation, RecoveryOutcome, combined_health
from perdure.domain.tasklists.retention import SnapshotFile
from perdure.domain.tasklists.settings import PersistenceConfig, PersistencePolicy, resolve_config
from perdure.domain.tasklists.snapshot_format import Codec
from perdure.errors import Invalid, PerdureError
from perdure.ports.environment import Environment
from perdure.ports.snapshots import SnapshotStore

Value = TypeVar("Value")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedList(Generic[Value]):
    """A list whose snapshots were looked at: what was found, and the checkpoints from now on."""

    recovery: Recovery[Value]
    checkpoints: ListCheckpoints


def snapshot_root(
    config: PersistenceConfig,
    *,
    make_store: Callable[[], SnapshotStore],
    environment: Environment,
    emit: Emit = log_event,
) -> SnapshotRoot | None:
    """The root of a configuration, not opened yet; None where snapshots are off, and then no store is made at all.

    Raises as ``resolve_config``.
    """
    policy = resolve_config(config)
    if policy is None:
        return None
    return SnapshotRoot(make_store(), policy=policy, environment=environment, emit=emit)


class SnapshotRoot:
    """A root, with one worker thread for everything that blocks. One event loop uses it."""

    def __init__(
        self, store: SnapshotStore, *, policy: PersistencePolicy, environment: Environment, emit: Emit = log_event
    ) -> None:
        self._store = store
        self._policy = policy
        self._environment = environment
        self._emit = emit
        self._writer = RootWriter(store, policy=policy, environment=environment, emit=emit)
        self._frequency = policy.frequency
        self._lists: dict[str, ListCheckpoints] = {}
        self._opening: set[str] = set()
        self._failed: dict[str, Health] = {}
        self._own = HealthKeeper(policy.mode, entity_id="", emit=emit)
        self._thread: ThreadPoolExecutor | None = None

    @property
    def policy(self) -> PersistencePolicy:
        """What was configured."""
        return self._policy

    @property
    def frequency(self) -> CheckpointFrequency:
        """How often checkpoints are taken now."""
        return self._frequency

    async def open(self) -> None:
        """Hold the root. Strict raises what is wrong with it; degraded goes on in memory where it cannot be used."""
        assert self._thread is None, "closed before it is opened again"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="perdure-tasklists")
        try:
            await self._in_thread(self._writer.start)
        except PerdureError as exc:
            self._own.initialization_failed(exc.message, is_legacy=False)
            self._emit(EventName.INIT_FAILURE, {"code": exc.code, "mode": self._policy.mode.value})
            self._end_thread()
            raise
        except BaseException:
            # The thread cannot be stopped: what it holds for a caller that went away is let go of after it.
            self._thread.submit(self._writer.stop)
            self._end_thread()
            raise
        if self._writer.memory_only is not None:
            self._own.fell_back(RecoveryOutcome.DEGRADED_FALLBACK, self._writer.memory_only.message)

    async def open_list(
        self,
        entity_id: str,
        *,
        codec: Codec,
        decode: Callable[[bytes], Value],
        capture: Capture,
        load_older: bool = False,
    ) -> OpenedList[Value]:
        """Recover a list, and keep its checkpoints from now on.

        ``decode`` raises ``SnapshotDecode`` for a payload that it cannot read, and runs in the worker thread.
        ``capture`` is called on the event loop when a checkpoint is decided on and returns what gives the payload in
        the worker thread. Strict raises the typed failure of the recovery, and the list is not open then.
        """
        if entity_id in self._lists or entity_id in self._opening:
            raise Invalid(f"list {entity_id!a} is open already; use the handle that there is", list=entity_id)
        health = HealthKeeper(self._policy.mode, entity_id=entity_id, emit=self._emit)
        self._opening.add(entity_id)
        try:
            kept, recovery = await self._in_thread(
                lambda: self._writer.recover(entity_id, codec=codec, decode=decode, load_older=load_older)
            )
        except PerdureError as exc:
            is_legacy = isinstance(exc, UnsupportedLegacyEncryptedArtifact)
            health.initialization_failed(exc.message, is_legacy=is_legacy)
            self._failed[entity_id] = health.value
            fields = {"list": entity_id, "code": exc.code, "mode": self._policy.mode.value}
            self._emit(EventName.INIT_FAILURE, fields)
            raise
        finally:
            self._opening.discard(entity_id)
        if recovery.failure is None:
            health.recovered(recovery.outcome)
        else:
            health.fell_back(recovery.outcome, recovery.failure.message)
        health.budget_moved(self._writer.pressure)
        checkpoints = ListCheckpoints(
            kept,
            capture=capture,
            writer=self._writer,
            worker=self._in_thread,
            frequency=lambda: self._frequency,
            health=health,
            clock=self._environment.clock,
            emit=self._emit,
            is_strict=self._policy.is_strict,
            is_dirty=recovery.is_migrated,
        )
        self._failed.pop(entity_id, None)
        self._lists[entity_id] = checkpoints
        return OpenedList(recovery=recovery, checkpoints=checkpoints)

    def observe(self) -> Observation:
        """Health, frequency and bounds; the health is that of the worst list, or the root's own."""
        healths = [*self._failed.values(), *(checkpoints.health.value for checkpoints in self._lists.values())]
        if self._own.value.last_recovery_outcome is not None:
            healths.append(self._own.value)
        mode = self._policy.mode
        health = combined_health(mode, healths) if healths or self._thread is not None else self._own.value
        return Observation(
            health=replace(health, budget_pressure=self._writer.pressure),
            checkpoint_frequency=self._frequency,
            checkpoint_frequency_bounds=self._policy.host_policy,
        )

    def update_frequency(self, request: Mapping[str, object]) -> CheckpointFrequency:
        """Change how often checkpoints are taken, until the next start; see ``updated_frequency`` for what is refused.

        It holds from the next decision of each list; what is dirty stays so.
        """
        old = self._frequency
        self._frequency = updated_frequency(old, self._policy.host_policy, request)
        if self._frequency != old:
            fields = {"old": old.as_document(), "new": self._frequency.as_document()}
            self._emit(EventName.FREQUENCY_UPDATED, fields)
            for checkpoints in self._lists.values():
                checkpoints.reconsider()
        return self._frequency

    async def retain(self, active: Collection[str] | None = None) -> RetentionResult:
        """Trim the lists that are active, which are those that are open unless said otherwise."""
        names = frozenset(self._lists if active is None else active)
        return await self._in_thread(lambda: self._writer.retain(names))

    async def verify(
        self, entity_id: str, *, codec: Codec, decode: Callable[[bytes], Value]
    ) -> list[tuple[SnapshotFile, PerdureError | None]]:
        """Each snapshot of a list, newest first, and what is wrong with it; nothing is moved."""
        recovering = Recovering(
            store=self._store,
            mode=self._policy.mode,
            entity_id=entity_id,
            codec=codec,
            decode=decode,
            emit=self._emit,
        )
        return list(await self._in_thread(recovering.examine))

    async def close_list(self, entity_id: str, *, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> CheckpointOutcome:
        """Write what is dirty and stop keeping the list; strict raises if that fails, and it is closed all the same."""
        return await self._lists.pop(entity_id).shutdown(timeout_s=timeout_s)

    async def delete_list(self, entity_id: str) -> None:
        """Remove a list's snapshots from the disk; it is not open any more."""
        self._lists.pop(entity_id, None)
        await self._in_thread(lambda: self._writer.forget(entity_id))

    async def close(self, *, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> Mapping[str, CheckpointOutcome]:
        """Write what is dirty in each list, then let go of the root. Closing twice is fine.

        Strict raises the first failure, after all were tried.
        """
        if self._thread is None:
            return {}
        names = list(self._lists)
        results = await asyncio.gather(
            *(self.close_list(name, timeout_s=timeout_s) for name in names), return_exceptions=True
        )
        try:
            async with asyncio.timeout(timeout_s):
                await self._in_thread(self._writer.stop)
        except TimeoutError as exc:
            raise CheckpointFailed(f"the disk of {self._store.root} does not answer; look at it") from exc
        finally:
            self._end_thread()
        outcomes: dict[str, CheckpointOutcome] = {}
        for name, result in zip(names, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            outcomes[name] = result
        return outcomes

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        if self._thread is None:
            raise PersistenceNotInitialized(f"the root {self._store.root} is not open; open it first")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _end_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)
