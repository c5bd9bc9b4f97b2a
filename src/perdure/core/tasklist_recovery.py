"""What a start makes of a list's snapshots: the newest that loads, nothing, or a failure, as the mode says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from perdure.core.tasklist_events import Emit, EventName
from perdure.domain.tasklists.failures import (
    DegradedSkippedLegacyArtifact,
    NoLoadableSnapshot,
    SnapshotCorrupt,
    SnapshotNotFound,
    SnapshotUnreadable,
    StartupLoad,
    UnsupportedLegacyEncryptedArtifact,
    UnsupportedSchemaVersion,
)
from perdure.domain.tasklists.health import RecoveryOutcome
from perdure.domain.tasklists.retention import SnapshotFile
from perdure.domain.tasklists.settings import PersistenceMode
from perdure.domain.tasklists.snapshot_format import (
    MIN_SUPPORTED,
    SCHEMA_VERSION,
    Codec,
    Snapshot,
    decode_snapshot,
    is_about_payload,
    is_movable,
)
from perdure.domain.tasklists.snapshot_names import snapshot_name
from perdure.errors import Corrupt, PerdureError, PersistenceError
from perdure.ports.snapshots import SnapshotStore

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A snapshot that was not loaded, and why; ``quarantined_as`` where it was moved."""

    timestamp_ms: int
    error: PerdureError
    quarantined_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery(Generic[Value]):
    """What a start found. ``value`` is what ``decode`` gave, None where nothing was loaded.

    ``load_outcome`` is one of ``loaded_snapshot``, ``empty_store`` and ``degraded_fallback``; ``outcome`` says more of
    a fallback, whose reason is ``failure``. ``generation`` is the last that may have been used. ``is_migrated``: what
    was loaded is of the previous schema, so it is dirty.
    """

    outcome: RecoveryOutcome
    value: Value | None = None
    timestamp_ms: int | None = None
    generation: int = 0
    is_migrated: bool = False
    skipped: tuple[Skipped, ...] = ()
    failure: PerdureError | None = None

    @property
    def load_outcome(self) -> RecoveryOutcome:
        """What the load itself came to."""
        is_legacy = self.outcome is RecoveryOutcome.UNSUPPORTED_LEGACY
        return RecoveryOutcome.DEGRADED_FALLBACK if is_legacy else self.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovering(Generic[Value]):
    """How one list is recovered. ``was_written``: the manifest says that a checkpoint of it was written once.

    ``decode`` makes something of a payload, or raises ``SnapshotDecode``. ``load_older`` is an operator's consent that
    strict puts damaged snapshots aside and loads an older one.
    """

    store: SnapshotStore
    mode: PersistenceMode
    entity_id: str
    codec: Codec
    decode: Callable[[bytes], Value]
    emit: Emit
    was_written: bool = False
    load_older: bool = False

    def recover(self) -> Recovery[Value]:
        """Look from the newest to the oldest. Strict raises what is wrong, moves nothing, and so raises it again."""
        self.emit(EventName.INIT_STARTED, {"list": self.entity_id, "mode": self.mode.value})
        try:
            files = self.store.snapshots(self.entity_id)
        except PersistenceError as exc:
            if self._is_strict:
                raise StartupLoad(f"the snapshots of {self.entity_id!a} cannot be listed: {exc.message}") from exc
            return self._fall_back([], exc)
        skipped: list[tuple[SnapshotFile, PerdureError]] = []
        for file in files:
            try:
                snapshot, value = self._load(file)
            except (Corrupt, PersistenceError) as exc:
                skipped.append((file, exc))
                continue
            return self._loaded(file, snapshot, value, skipped)
        return self._nothing_loaded(skipped)

    def examine(self) -> Sequence[tuple[SnapshotFile, PerdureError | None]]:
        """Each snapshot, newest first, and what is wrong with it, None if it loads. Moves nothing, needs no hold."""
        found: list[tuple[SnapshotFile, PerdureError | None]] = []
        for file in self.store.snapshots(self.entity_id):
            try:
                self._load(file)
            except (Corrupt, PersistenceError) as exc:
                found.append((file, exc))
            else:
                found.append((file, None))
        return found

    @property
    def _is_strict(self) -> bool:
        return self.mode is PersistenceMode.STRICT

    def _load(self, file: SnapshotFile) -> tuple[Snapshot, Value]:
        path = f"{self.store.root}/{self.entity_id}/{snapshot_name(file.timestamp_ms)}"
        try:
            data = self.store.read(self.entity_id, file.timestamp_ms)
            snapshot = decode_snapshot(data, entity_id=self.entity_id, codec=self.codec, named_ms=file.timestamp_ms)
            return snapshot, self.decode(snapshot.payload)
        except SnapshotUnreadable:
            raise  # it names the file already
        except Corrupt as exc:
            detail = {"reason": exc.code, **exc.detail, "path": path}
            raise type(exc)(f"{path}: {exc.message}", code=exc.code, **detail) from exc

    def _loaded(
        self, file: SnapshotFile, snapshot: Snapshot, value: Value, skipped: list[tuple[SnapshotFile, PerdureError]]
    ) -> Recovery[Value]:
        if skipped and self._is_strict and not self._may_skip(skipped):
            self._report_strict(skipped)
            raise skipped[0][1]
        reported = self._report_skipped(skipped)
        if snapshot.migrated:
            fields = {"list": self.entity_id, "decision": "migrate", "from": MIN_SUPPORTED, "to": SCHEMA_VERSION}
            self.emit(EventName.MIGRATION_DECISION, fields)
        self.emit(
            EventName.INIT_LOADED,
            {"list": self.entity_id, "snapshot": snapshot_name(file.timestamp_ms), "skipped": len(skipped)},
        )
        return Recovery(
            outcome=RecoveryOutcome.LOADED_SNAPSHOT,
            value=value,
            timestamp_ms=file.timestamp_ms,
            # Each skipped file may have had the next one; a number that is left out does no harm.
            generation=snapshot.generation + len(skipped),
            is_migrated=snapshot.migrated,
            skipped=reported,
        )

    def _may_skip(self, skipped: list[tuple[SnapshotFile, PerdureError]]) -> bool:
        return self.load_older and all(is_movable(error) for _, error in skipped)

    def _nothing_loaded(self, skipped: list[tuple[SnapshotFile, PerdureError]]) -> Recovery[Value]:
        if not skipped and not self.was_written:
            self.emit(EventName.INIT_EMPTY_STORE, {"list": self.entity_id})
            return Recovery(outcome=RecoveryOutcome.EMPTY_STORE)
        failure = self._failure(skipped)
        if self._is_strict:
            self._report_strict(skipped)
            raise failure
        return self._fall_back(skipped, failure)

    def _failure(self, skipped: list[tuple[SnapshotFile, PerdureError]]) -> PerdureError:
        if not skipped:
            return SnapshotNotFound(
                f"SnapshotNotFound: a checkpoint of {self.entity_id!a} was written below {self.store.root}, and there "
                "is none: restore it from a backup, or remove the list",
                path=self.store.root,
                list=self.entity_id,
            )
        newest = skipped[0][1]
        if self._is_strict and not isinstance(newest, SnapshotCorrupt):
            return newest
        if not self._is_strict and all(isinstance(error, UnsupportedLegacyEncryptedArtifact) for _, error in skipped):
            return _degraded_legacy(newest)
        reasons = ", ".join(sorted({error.code for _, error in skipped}))
        return NoLoadableSnapshot(
            f"NoLoadableSnapshot: none of the {len(skipped)} snapshots of {self.entity_id!a} below {self.store.root} "
            f"loads ({reasons}); restore one from a backup, or let peers send the state to a node that runs degraded",
            path=self.store.root,
            list=self.entity_id,
            count=len(skipped),
        )

    def _fall_back(self, skipped: list[tuple[SnapshotFile, PerdureError]], failure: PerdureError) -> Recovery[Value]:
        reported = self._report_skipped(skipped)
        is_legacy = isinstance(failure, DegradedSkippedLegacyArtifact)
        self.emit(EventName.INIT_FAILURE, {"list": self.entity_id, "code": failure.code, "mode": self.mode.value})
        return Recovery(
            outcome=RecoveryOutcome.UNSUPPORTED_LEGACY if is_legacy else RecoveryOutcome.DEGRADED_FALLBACK,
            generation=len(skipped),
            skipped=reported,
            failure=failure,
        )

    def _report_strict(self, skipped: list[tuple[SnapshotFile, PerdureError]]) -> None:
        for file, error in skipped:
            if isinstance(error, UnsupportedLegacyEncryptedArtifact):
                fields = self._fields(file, error) | {"outcome": "UnsupportedLegacyEncryptedArtifact"}
                self.emit(EventName.LEGACY_DETECTED, fields)

    def _report_skipped(self, skipped: list[tuple[SnapshotFile, PerdureError]]) -> tuple[Skipped, ...]:
        return tuple(self._report_one(file, error) for file, error in skipped)

    def _report_one(self, file: SnapshotFile, error: PerdureError) -> Skipped:
        fields = self._fields(file, error)
        if isinstance(error, UnsupportedLegacyEncryptedArtifact):
            self.emit(EventName.LEGACY_DETECTED, fields | {"outcome": "DegradedSkippedLegacyArtifact"})
            return Skipped(timestamp_ms=file.timestamp_ms, error=_degraded_legacy(error))
        if isinstance(error, UnsupportedSchemaVersion):
            self.emit(EventName.MIGRATION_DECISION, fields | {"decision": "unsupported"})
            self.emit(EventName.SKIPPED_UNSUPPORTED, fields)
        elif is_movable(error):
            self.emit(EventName.SKIPPED_CORRUPT, fields)
            return Skipped(timestamp_ms=file.timestamp_ms, error=error, quarantined_as=self._quarantine(file))
        elif is_about_payload(error):
            self.emit(EventName.SKIPPED_CORRUPT, fields)
        else:
            self.emit(EventName.SKIPPED_UNREADABLE, fields)
        return Skipped(timestamp_ms=file.timestamp_ms, error=error)

    def _quarantine(self, file: SnapshotFile) -> str | None:
        try:
            return self.store.quarantine(self.entity_id, file.timestamp_ms)
        except PerdureError as exc:
            self.emit(EventName.QUARANTINE_FAILED, self._fields(file, exc))
            return None

    def _fields(self, file: SnapshotFile, error: PerdureError) -> dict[str, object]:
        return {
            "list": self.entity_id,
            "snapshot": snapshot_name(file.timestamp_ms),
            "code": error.code,
            "reason": error.detail.get("reason", error.code),
            "mode": self.mode.value,
        }


def _degraded_legacy(error: PerdureError) -> DegradedSkippedLegacyArtifact:
    message = error.message.replace("UnsupportedLegacyEncryptedArtifact", "DegradedSkippedLegacyArtifact")
    return DegradedSkippedLegacyArtifact(message, code=DegradedSkippedLegacyArtifact.code, **error.detail)
