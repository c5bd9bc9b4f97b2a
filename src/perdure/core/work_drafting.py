"""From what a save asks to what the store keeps: attribute versions, sealed history entries, the unit as it shall be.

Nothing here waits: what is read, judged and committed around it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from perdure.domain.canonical import JsonObject
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import (
    FINISHED,
    AttributeChange,
    AttributeVersion,
    HistoryEntry,
    HistoryEvent,
    ParentStep,
    WorkStatus,
    WorkUnit,
    WorkWrite,
)
from perdure.domain.work_hash import content_hash, hash_scheme, history_entry_hash, value_digest
from perdure.ports.environment import IdSource

_UNSEALED: Final = "0" * 64  # where the hash of an entry will stand; no hash covers its own


class Draft:
    """One save in the making: state moves with each entry, and ``write`` is what came of it."""

    def __init__(
        self,
        before: WorkUnit,
        *,
        fresh: bool = False,
        attributes: Mapping[str, AttributeVersion],
        actor_id: str | None,
        now: datetime,
        ids: IdSource,
        key: bytes | None,
    ) -> None:
        self.now = now
        self.unit = before
        self._before = None if fresh else before
        self._attributes = attributes
        self._actor_id = actor_id
        self._ids = ids
        self._key = key
        self._entries: list[HistoryEntry] = []
        self._versions: list[AttributeVersion] = []
        self._status = None if fresh else before.status
        self._state_hash = before.content_hash
        self._interaction_id = None if fresh else before.interaction_id

    def versions(self, values: Mapping[str, str], removed: Sequence[str]) -> tuple[AttributeChange, ...]:
        """Add a version of each attribute that is other than it was; what the next entry says of them."""
        sequence = self.unit.history_sequence + len(self._entries) + 1
        changes = []
        for key, value in (*values.items(), *((key, None) for key in removed)):
            known = self._attributes.get(key)
            if value == (None if known is None else known.value):
                continue
            version = 1 if known is None else known.version + 1
            self._versions.append(
                AttributeVersion(
                    key=key,
                    version=version,
                    value=value,
                    sequence=sequence,
                    actor_id=self._actor_id,
                    recorded_at=self.now,
                )
            )
            changes.append(AttributeChange(key=key, version=version, digest=self.digest(value)))
        return tuple(changes)

    @property
    def scheme(self) -> str:
        """Under which the entries are hashed."""
        return hash_scheme(self._key)

    def digest(self, value: str | None) -> str | None:
        """How an entry names an encoded value."""
        return None if value is None else value_digest(value, key=self._key)

    def state_hash(self, attributes: Mapping[str, TypedValue]) -> str:
        """The hash of attributes as this save leaves them."""
        return content_hash(attributes, unit_id=self.unit.unit_id, schema=self.unit.schema, key=self._key)

    def entry(
        self,
        event: HistoryEvent,
        *,
        status: WorkStatus,
        state_hash: str | None,
        interaction_id: str | None,
        reasoning: str | None,
        metadata: JsonObject | None,
        changes: tuple[AttributeChange, ...] = (),
    ) -> None:
        """Add an entry, sealed by the hash of the one before."""
        last = self._entries[-1] if self._entries else None
        entry = HistoryEntry(
            history_id=self._ids.new(),
            instance_id=self.unit.instance_id,
            unit_id=self.unit.unit_id,
            sequence=self.unit.history_sequence + len(self._entries) + 1,
            event=event,
            previous_status=self._status,
            new_status=status,
            previous_state_hash=self._state_hash,
            new_state_hash=state_hash if state_hash is not None else self._state_hash or _UNSEALED,
            previous_interaction_id=self._interaction_id,
            new_interaction_id=interaction_id,
            actor_id=self._actor_id,
            transition_timestamp=self.now,
            reasoning=reasoning,
            transition_metadata=metadata,
            changes=changes,
            hash_scheme=self.scheme,
            previous_entry_hash=self.unit.history_hash if last is None else last.entry_hash,
            entry_hash=_UNSEALED,
        )
        self._entries.append(replace(entry, entry_hash=history_entry_hash(entry, key=self._key)))
        self._status, self._state_hash, self._interaction_id = status, entry.new_state_hash, interaction_id

    def write(
        self,
        after: WorkUnit,
        *,
        expected_beats: int | None = None,
        request_id: str | None = None,
        fingerprint: str | None = None,
    ) -> WorkWrite:
        """All of it, with ``after`` as the unit shall be; its version and the ends of its chain are set here."""
        last = self._entries[-1] if self._entries else None
        before = self._before
        unit = replace(
            after,
            version=1 if before is None else before.version + 1,
            updated_at=self.now,
            history_sequence=self.unit.history_sequence if last is None else last.sequence,
            history_hash=self.unit.history_hash if last is None else last.entry_hash,
        )
        return WorkWrite(
            unit=unit,
            entries=tuple(self._entries),
            attributes=tuple(self._versions),
            expected_beats=expected_beats,
            request_id=request_id,
            fingerprint=fingerprint,
            parent_step=_parent_step(before, unit),
        )


def signs_of_life(unit: WorkUnit, status: WorkStatus, *, lease_owner: str | None, now: datetime) -> WorkUnit:
    """The unit in its new status: only what is ACTIVE has a lease and a heartbeat, and a save is one."""
    if status is not WorkStatus.ACTIVE:
        return replace(unit, status=status, lease_owner=None, heartbeat_at=None)
    owner = lease_owner if lease_owner is not None else unit.lease_owner
    # A clock that was set back does not make a unit look abandoned.
    beat = now if unit.heartbeat_at is None else max(now, unit.heartbeat_at)
    return replace(unit, status=status, lease_owner=owner, heartbeat_at=beat, beats=unit.beats + 1)


def _parent_step(before: WorkUnit | None, after: WorkUnit) -> ParentStep | None:
    if after.parent_id is None:
        return None
    if before is None:
        return ParentStep.ADOPT
    if (before.status in FINISHED) == (after.status in FINISHED):
        return None
    return ParentStep.FINISH if after.status in FINISHED else ParentStep.REOPEN
