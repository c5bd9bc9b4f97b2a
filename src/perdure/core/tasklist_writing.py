"""The root of a store of snapshots as its one worker thread sees it: start, write, trim. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from perdure.core.tasklist_events import Emit, EventName
from perdure.core.tasklist_recovery import Recovering, Recovery
from perdure.domain.tasklists.entity_ids import check_entity_id
from perdure.domain.tasklists.failures import (
    BudgetAtCapacity,
    CheckpointFailed,
    PersistenceNotInitialized,
    SnapshotExceedsBudget,
    StoreLocked,
    StoreMismatch,
)
from perdure.domain.tasklists.health import RecoveryOutcome
from perdure.domain.tasklists.manifest import Manifest, with_list, without_list
from perdure.domain.tasklists.retention import Pressure, SnapshotFile, decision_of, plan_write, pressure_of, surplus
from perdure.domain.tasklists.settings import PersistencePolicy
from perdure.domain.tasklists.snapshot_format import Codec, Snapshot, decode_snapshot, encode_snapshot, is_movable
from perdure.domain.tasklists.snapshot_names import is_clock_regressed, next_timestamp, snapshot_name
from perdure.errors import Corrupt, PerdureError, PersistenceError, Unavailable
from perdure.ports.environment import Environment
from perdure.ports.snapshots import SnapshotStore

RESCAN_WRITES: Final = 64  # others may add files below the root; counting them at each write would cost more than it
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

Value = TypeVar("Value")


@dataclass(slots=True, kw_only=True)
class KeptList:
    """A list that is open: the newest of its snapshots that is known to load, and the last generation used.

    ``protected`` are those that are whole and cannot be read by this release, or cannot be read now: never deleted,
    and not counted among those that are kept. None until somebody looked.
    """

    entity_id: str
    codec: Codec
    verified_ms: int | None = None
    generation: int = 0
    protected: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A checkpoint that is on the disk."""

    timestamp_ms: int
    size: int
    pressure: Pressure


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionResult:
    """What a retention cycle removed, and how full the budget is now."""

    deleted_old_snapshots: int
    deleted_orphan_entities: int
    pressure: Pressure


class RootWriter:
    """One root. ``memory_only`` says why nothing is written, in degraded; None where everything is."""

    def __init__(
        self, store: SnapshotStore, *, policy: PersistencePolicy, environment: Environment, emit: Emit
    ) -> None:
        self._store = store
        self._policy = policy
        self._environment = environment
        self._emit = emit
        self._manifest: Manifest | None = None
        self._is_manifest_usable = True
        self._used_bytes: int | None = None
        self._writes = 0
        self._kept: dict[str, KeptList] = {}
        self.pressure = Pressure.NORMAL
        self.memory_only: PerdureError | None = None

    def start(self) -> None:
        """Hold the root and read its manifest. Strict raises what is wrong; degraded goes on without the disk."""
        try:
            if self._policy.is_strict:
                self._start_strict()
            else:
                self._start_degraded()
            if self.memory_only is None:
                self._measure()
        except (PersistenceError, StoreMismatch, StoreLocked) as exc:
            self._store.close()
            if self._policy.is_strict:
                raise
            self.memory_only = exc

    def stop(self) -> None:
        """Let go of the root."""
        self._store.close()

    def recover(
        self, entity_id: str, *, codec: Codec, decode: Callable[[bytes], Value], load_older: bool
    ) -> tuple[KeptList, Recovery[Value]]:
        """What a start makes of one list, which is open from then on."""
        check_entity_id(entity_id)
        if self.memory_only is not None:
            return KeptList(entity_id=entity_id, codec=codec), self._without_disk(entity_id, self.memory_only)
        recovering = Recovering(
            store=self._store,
            mode=self._policy.mode,
            entity_id=entity_id,
            codec=codec,
            decode=decode,
            emit=self._emit,
            was_written=self._manifest is not None and entity_id in self._manifest.lists,
            load_older=load_older,
        )
        recovery = recovering.recover()
        kept = KeptList(
            entity_id=entity_id, codec=codec, verified_ms=recovery.timestamp_ms, generation=recovery.generation
        )
        self._kept[entity_id] = kept
        return kept, recovery

    def write(self, kept: KeptList, payload: bytes) -> Written:
        """Write a checkpoint; once it returns it is on the disk and the manifest knows that there is one.

        Raises ``BudgetAtCapacity``, ``SnapshotExceedsBudget`` and whatever the store raises; what was there before is
        still there then.
        """
        files = self._store.snapshots(kept.entity_id)
        now_ms = self._now_ms()
        timestamp_ms = self._next(kept, files, now_ms)
        if kept.protected is None:
            kept.protected, _ = self._judge_files(kept.entity_id, files, kept.codec)
        files = [file for file in files if file.timestamp_ms not in kept.protected]
        # Used up even if the write fails, because what a failed write left behind may be found one day.
        kept.generation += 1
        pieces = encode_snapshot(
            Snapshot(
                entity_id=kept.entity_id,
                generation=kept.generation,
                created_at_ms=max(now_ms, 0),
                codec=kept.codec,
                payload=payload,
            )
        )
        size = sum(len(piece) for piece in pieces)
        files = self._make_room(kept, files, size)
        used_bytes = self._used_bytes or 0
        self._used_bytes = None  # unknown, should anything from here on fail
        self._store.publish(kept.entity_id, timestamp_ms, pieces)
        if self._policy.is_strict:
            self._verify(kept, timestamp_ms)
        kept.verified_ms = timestamp_ms
        is_new = self._record_checkpoint(kept.entity_id, now_ms)
        # The manifest grew by a little too.
        self._used_bytes = self._store.usage().used_bytes if is_new else used_bytes + size
        self._trim(kept, [SnapshotFile(timestamp_ms=timestamp_ms, size=size), *files])
        self._writes += 1
        self._judge(self._used_bytes)
        return Written(timestamp_ms=timestamp_ms, size=size, pressure=self.pressure)

    def retain(self, active: Collection[str]) -> RetentionResult:
        """Trim the active lists, and remove the others if the policy says so and they hold snapshots."""
        deleted = 0
        for entity_id in sorted(active):
            kept = self._kept.get(entity_id)
            codec = None if kept is None else kept.codec
            files = self._store.snapshots(entity_id)
            protected, loadable_ms = self._judge_files(entity_id, files, codec)
            old = surplus(
                [file for file in files if file.timestamp_ms not in protected],
                keep=self._policy.retention.checkpoints_to_keep,
                verified_ms=loadable_ms,
            )
            deleted += sum(self._remove(entity_id, file) for file in old)
        orphans = 0
        if self._policy.retention.delete_orphans:
            for entity_id in self._store.lists():
                if entity_id not in active and self._store.snapshots(entity_id):
                    self.forget(entity_id)
                    orphans += 1
        self._measure()
        return RetentionResult(deleted_old_snapshots=deleted, deleted_orphan_entities=orphans, pressure=self.pressure)

    def forget(self, entity_id: str) -> None:
        """Remove a list from the disk. The manifest goes first: a list that it names has to have a snapshot."""
        manifest = self._manifest
        if manifest is not None and entity_id in manifest.lists:
            self._save_manifest(without_list(manifest, entity_id))
        self._store.discard(entity_id)
        self._kept.pop(entity_id, None)
        self._used_bytes = None

    # --- starting ------------------------------------------------------------------------------------------------

    def _without_disk(self, entity_id: str, failure: PerdureError) -> Recovery[Value]:
        self._emit(EventName.INIT_STARTED, {"list": entity_id, "mode": self._policy.mode.value})
        self._emit(EventName.INIT_FAILURE, {"list": entity_id, "code": failure.code, "mode": self._policy.mode.value})
        return Recovery(outcome=RecoveryOutcome.DEGRADED_FALLBACK, failure=failure)

    def _start_strict(self) -> None:
        if not self._policy.initialize_if_missing and self._store.read_manifest() is None:
            raise _not_initialized(self._store.root)
        self._store.open(create=self._policy.initialize_if_missing)
        try:
            self._manifest = self._store.read_manifest()
            if self._manifest is None:
                self._initialize()
            self._check_store_id()
        except BaseException:
            self._store.close()
            raise

    def _initialize(self) -> None:
        if not self._policy.initialize_if_missing:
            raise _not_initialized(self._store.root)
        self._save_manifest(self._new_manifest())

    def _start_degraded(self) -> None:
        self._store.open(create=True)
        try:
            self._manifest = self._store.read_manifest()
        except (Corrupt, Unavailable) as exc:
            # The snapshots are as good as ever. What was there is left for whoever looks into it.
            self._is_manifest_usable = False
            self._emit(EventName.MANIFEST_UNUSABLE, {"root": self._store.root, "code": exc.code})
        self._check_store_id()

    def _check_store_id(self) -> None:
        wanted, manifest = self._policy.store_id, self._manifest
        if wanted is not None and manifest is not None and manifest.store_id != wanted:
            raise StoreMismatch(
                f"{self._store.root} belongs to store {manifest.store_id!a}, not to {wanted!a}; name the right "
                "root, or the right store_id",
                path=self._store.root,
                found=manifest.store_id,
                expected=wanted,
            )

    def _new_manifest(self) -> Manifest:
        store_id = self._policy.store_id or str(self._environment.ids.new())
        return Manifest(store_id=store_id, created_at_ms=max(self._now_ms(), 0))

    def _save_manifest(self, manifest: Manifest) -> None:
        self._store.write_manifest(manifest)
        self._manifest = manifest

    def _record_checkpoint(self, entity_id: str, now_ms: int) -> bool:
        # After the first snapshot, never before: a manifest that promises one that was never written stops strict.
        manifest = self._manifest or self._new_manifest()
        if not self._is_manifest_usable or entity_id in manifest.lists:
            return False
        self._save_manifest(with_list(manifest, entity_id, first_checkpoint_ms=max(now_ms, 0)))
        return True

    # --- writing -------------------------------------------------------------------------------------------------

    def _next(self, kept: KeptList, files: Sequence[SnapshotFile], now_ms: int) -> int:
        newest_ms = files[0].timestamp_ms if files else None
        if newest_ms is not None and is_clock_regressed(now_ms, newest_ms=newest_ms):
            fields = {"list": kept.entity_id, "now_ms": now_ms, "newest": snapshot_name(newest_ms)}
            self._emit(EventName.CLOCK_REGRESSED, fields)
        return next_timestamp(now_ms, newest_ms=newest_ms)

    def _make_room(self, kept: KeptList, files: Sequence[SnapshotFile], size: int) -> Sequence[SnapshotFile]:
        retention = self._policy.retention
        budget = retention.storage_budget_bytes
        if size > budget > 0:
            self._judge(budget)
            raise SnapshotExceedsBudget(
                f"one snapshot of {kept.entity_id!a} has {size} bytes, and the whole budget is {budget} "
                "(retention_storage_budget_bytes); raise it",
                limit="retention_storage_budget_bytes",
                allowed=budget,
                actual=size,
            )
        is_fresh = self._used_bytes is None or self._writes % RESCAN_WRITES == 0
        if is_fresh:
            self._used_bytes = self._store.usage().used_bytes
        while True:
            used_bytes = self._used_bytes or 0
            plan = plan_write(
                files,
                incoming_bytes=size,
                used_bytes=used_bytes,
                verified_ms=kept.verified_ms,
                policy=retention,
            )
            if plan.pressure is not Pressure.AT_CAPACITY:
                break
            if is_fresh:
                self._judge(plan.projected_bytes)
                raise BudgetAtCapacity(
                    f"the storage budget is used up: {plan.projected_bytes} bytes with this snapshot of "
                    f"{kept.entity_id!a}, at most {budget} (retention_storage_budget_bytes); raise it, or remove lists "
                    "that nobody needs",
                    limit="retention_storage_budget_bytes",
                    allowed=budget,
                    actual=plan.projected_bytes,
                )
            self._used_bytes, is_fresh = self._store.usage().used_bytes, True
        gone = [file for file in plan.delete_first if self._remove(kept.entity_id, file)]
        self._used_bytes = used_bytes - sum(file.size for file in gone)
        return [file for file in files if file not in gone]

    def _verify(self, kept: KeptList, timestamp_ms: int) -> None:
        try:
            data = self._store.read(kept.entity_id, timestamp_ms)
            decode_snapshot(data, entity_id=kept.entity_id, codec=kept.codec, named_ms=timestamp_ms)
        except (Corrupt, PersistenceError) as exc:
            raise CheckpointFailed(
                f"{snapshot_name(timestamp_ms)} of {kept.entity_id!a} was written and is not what was written: "
                f"{exc.message}; look at the disk",
                reason=exc.code,
            ) from exc

    def _trim(self, kept: KeptList, files: Sequence[SnapshotFile]) -> None:
        old = surplus(files, keep=self._policy.retention.checkpoints_to_keep, verified_ms=kept.verified_ms)
        gone = [file.size for file in old if self._remove(kept.entity_id, file)]
        self._used_bytes = max((self._used_bytes or 0) - sum(gone), 0)

    def _remove(self, entity_id: str, file: SnapshotFile) -> bool:
        try:
            self._store.remove(entity_id, file.timestamp_ms)
        except PersistenceError as exc:
            fields = {"list": entity_id, "snapshot": snapshot_name(file.timestamp_ms), "code": exc.code}
            self._emit(EventName.TRIM_FAILED, fields)
            return False
        return True

    def _judge_files(
        self, entity_id: str, files: Sequence[SnapshotFile], codec: Codec | None
    ) -> tuple[frozenset[int], int | None]:
        # What nobody may delete, and the newest that loads. An encrypted one of an older release and one of a newer
        # schema are whole: the release that wrote them will want them.
        protected: set[int] = set()
        newest_ms: int | None = None
        for file in files:
            try:
                data = self._store.read(entity_id, file.timestamp_ms)
                decode_snapshot(data, entity_id=entity_id, codec=codec, named_ms=file.timestamp_ms)
            except (Corrupt, PersistenceError) as exc:
                if not is_movable(exc):
                    protected.add(file.timestamp_ms)
            else:
                newest_ms = file.timestamp_ms if newest_ms is None else newest_ms
        return frozenset(protected), newest_ms

    def _measure(self) -> None:
        self._used_bytes = self._store.usage().used_bytes
        self._judge(self._used_bytes)

    def _judge(self, used_bytes: int) -> None:
        pressure = pressure_of(used_bytes, self._policy.retention)
        if pressure is not self.pressure:
            self.pressure = pressure
            fields = {
                "budget_pressure": pressure.value,
                "decision": decision_of(pressure, self._policy.mode).value,
                "used_bytes": used_bytes,
                "budget_bytes": self._policy.retention.storage_budget_bytes,
            }
            self._emit(EventName.BUDGET_THRESHOLD, fields)

    def _now_ms(self) -> int:
        return (self._environment.clock.now() - _EPOCH) // _MILLISECOND


def _not_initialized(root: str) -> PersistenceNotInitialized:
    return PersistenceNotInitialized(
        f"PersistenceNotInitialized: {root} has no manifest, so strict does not start on it; initialise it once "
        "(initialize_if_missing), or name the right root",
        path=root,
    )
