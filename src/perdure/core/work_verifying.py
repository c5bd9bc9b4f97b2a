"""Whether a unit of work is what its history says, and whether the history is what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from perdure.core.work_asking import decoded
from perdure.core.work_chain import SCHEMES, Chain, key_under
from perdure.domain.container import Space
from perdure.domain.work import HISTORY_PAGE_MAX, AttributeVersion, HistoryEntry, HistoryEvent, StoredWork, WorkUnit
from perdure.domain.work_anchor import WorkAnchor
from perdure.domain.work_hash import HASH_SCHEME, HASH_SCHEME_KEYED, content_hash
from perdure.domain.work_results import AttributeDrift, WorkCheck, WorkVerification
from perdure.errors import Corrupt, Invalid, NotFound, Refused
from perdure.ports.work import WorkStore

LOOKS_MAX: Final = 5  # how often a unit that is saved meanwhile is looked at again, before what was seen is reported


class WorkVerifier:
    """Verifies units of one space on one store."""

    def __init__(self, store: WorkStore, space: Space, *, key: bytes | None, timeout_s: float) -> None:
        self._store = store
        self._space = space
        self._key = key
        self._timeout_s = timeout_s

    async def verify(self, unit_id: UUID, *, anchor: WorkAnchor | None = None) -> WorkVerification:
        """What there is to say of a unit. Raises ``NotFound``, and ``Invalid`` for the anchor of another unit."""
        if anchor is not None and anchor.unit_id != unit_id:
            raise Invalid(f"the anchor is of unit {anchor.unit_id}, and unit {unit_id} is to be verified")
        stored, found = await self._look(unit_id, anchor)
        for _ in range(LOOKS_MAX - 1):
            if found.ok or stored is None:
                break
            # A save between two reads looks like damage; damage is still there when nothing moved.
            again = await self._load(unit_id)
            if again is not None and again.unit.version == stored.unit.version:
                break
            stored, found = await self._look(unit_id, anchor)
        return found if stored is None else replace(found, instance_id=stored.unit.instance_id)

    async def drifted(self, stored: StoredWork) -> tuple[AttributeDrift, ...]:
        """What the history says of a unit's attributes against what is stored: only the newest version of each."""
        chain = Chain(stored.unit.unit_id, key=self._key)
        await chain.read(self._store, self._space, timeout_s=self._timeout_s)
        return chain.drifted_newest(stored.attributes)

    async def _look(self, unit_id: UUID, anchor: WorkAnchor | None) -> tuple[StoredWork | None, WorkVerification]:
        corrupt: Corrupt | None = None
        stored: StoredWork | None = None
        try:
            stored = await self._load(unit_id)
        except Corrupt as exc:
            corrupt = exc
        chain = Chain(unit_id, key=self._key, anchor=anchor)
        await chain.read(self._store, self._space, timeout_s=self._timeout_s)
        if stored is None and corrupt is None and chain.last is None and chain.broken is None:
            raise NotFound(f"there is no unit of work {unit_id} in this scope", unit_id=str(unit_id))
        if chain.broken is not None:
            return stored, _broken(unit_id, chain, chain.broken.first_bad, chain.broken.reason)
        if corrupt is not None:
            reason = "the unit, or its attributes in their newest versions, cannot be read: what is stored is neither"
            return stored, _drift(unit_id, chain, reason, ("unit",))
        if stored is None:
            return stored, _gone(unit_id, chain)
        return stored, await self._compared(stored, chain)

    async def _compared(self, stored: StoredWork, chain: Chain) -> WorkVerification:
        unit, last = stored.unit, chain.last
        if unit.history_sequence > chain.entries:
            missing = chain.entries + 1
            said = f"entry {missing} is missing: the unit knows {unit.history_sequence}"
            return _broken(unit.unit_id, chain, missing, said)
        if last is None:
            return _unverified(unit.unit_id, chain, "it has no history: it was never saved here")
        if unit.history_sequence == last.sequence and unit.history_hash != last.entry_hash:
            return _broken(unit.unit_id, chain, last.sequence, "the last entry is not the one that the unit knows")
        found = await self._drifts(stored, chain, last)
        reason = self._unverifiable(unit)
        if found is not None:
            return found
        if chain.unreadable is not None or reason is not None:
            return _unverified(unit.unit_id, chain, reason)
        return WorkVerification(
            unit_id=unit.unit_id,
            instance_id=unit.instance_id,
            check=WorkCheck.OK,
            reason="everything is as it was written",
            entries=chain.entries,
            anchor=anchor_of(last),
        )

    async def _drifts(self, stored: StoredWork, chain: Chain, last: HistoryEntry) -> WorkVerification | None:
        unit = stored.unit
        versions, is_whole = await self._versions(unit.unit_id)
        if not is_whole:
            attributes = chain.unreadable_after(versions)
            return _drift(unit.unit_id, chain, "an attribute cannot be read: what is stored is none", (), attributes)
        attributes = _both(chain.drifted(versions), chain.drifted_newest(stored.attributes))
        wrong = _wrong_fields(unit, last)
        content = self._content(stored)
        if content is not None and content != unit.content_hash and not attributes:
            wrong = tuple(dict.fromkeys((*wrong, "content_hash")))
        if not attributes and not wrong:
            return None
        return _drift(unit.unit_id, chain, _said(attributes, wrong), wrong, attributes)

    async def _load(self, unit_id: UUID) -> StoredWork | None:
        return await self._store.load(self._space, unit_id, timeout_s=self._timeout_s)

    async def _versions(self, unit_id: UUID) -> tuple[Sequence[AttributeVersion], bool]:
        """All versions, or those before the first one that cannot be read; and whether these are all."""
        found: list[AttributeVersion] = []
        limit = HISTORY_PAGE_MAX
        while True:
            after = (found[-1].key, found[-1].version) if found else None
            try:
                page = await self._store.attribute_versions(
                    self._space, unit_id, after=after, limit=limit, timeout_s=self._timeout_s
                )
            except Corrupt:
                if limit == 1:
                    return found, False
                limit = 1
                continue
            found.extend(page)
            if len(page) < limit:
                return found, True

    def _content(self, stored: StoredWork) -> str | None:
        """The hash that the attributes have; None if it cannot be told here, and no hash if there is none."""
        if self._unverifiable(stored.unit) is not None and stored.unit.hash_scheme != HASH_SCHEME:
            return None
        return content_of(stored, key=self._key)

    def _unverifiable(self, unit: WorkUnit) -> str | None:
        if unit.hash_scheme not in SCHEMES:
            return "it was hashed under a scheme that this release does not know"
        if unit.hash_scheme == HASH_SCHEME_KEYED and self._key is None:
            return "its hash is keyed, and this plane was opened without the key"
        if unit.hash_scheme == HASH_SCHEME and self._key is not None:
            return "its hash was made without the key that this plane has, so anybody may have made it"
        return None


def content_of(stored: StoredWork, *, key: bytes | None) -> str:
    """The hash that the attributes of a unit have under its scheme; empty if one of them cannot be read."""
    values, unreadable = decoded(stored.attributes)
    if unreadable:
        return ""
    unit = stored.unit
    scheme = unit.hash_scheme or HASH_SCHEME
    try:
        return content_hash(values, unit_id=unit.unit_id, schema=unit.schema, key=key_under(scheme, key))
    except Refused:  # what no save of ours leaves: a schema without a name, more bytes than are hashed
        return ""


def anchor_of(entry: HistoryEntry) -> WorkAnchor:
    """The anchor that an entry is the end of."""
    return WorkAnchor(
        unit_id=entry.unit_id,
        sequence=entry.sequence,
        entry_hash=entry.entry_hash,
        content_hash=entry.new_state_hash,
    )


def _wrong_fields(unit: WorkUnit, last: HistoryEntry) -> tuple[str, ...]:
    said = {
        "unit": last.event is not HistoryEvent.WORK_DELETED,
        "history_sequence": unit.history_sequence == last.sequence,
        "status": unit.status == last.new_status,
        "interaction_id": unit.interaction_id == last.new_interaction_id,
        "instance_id": unit.instance_id == last.instance_id,
        "content_hash": unit.content_hash == last.new_state_hash,
    }
    return tuple(name for name, right in said.items() if not right)


def _both(first: Sequence[AttributeDrift], second: Sequence[AttributeDrift]) -> tuple[AttributeDrift, ...]:
    known = {(drift.key, drift.expected_version, drift.found_version) for drift in first}
    return (*first, *(one for one in second if (one.key, one.expected_version, one.found_version) not in known))


def _said(attributes: Sequence[AttributeDrift], fields: Sequence[str]) -> str:
    parts = [f"{drift.kind} {drift.key!r}" for drift in attributes[:8]]
    parts += [f"{len(attributes) - 8} more attributes"] if len(attributes) > len(parts) else []
    parts += [f"the unit's {name}" for name in fields]
    return f"not as the history says: {', '.join(parts)}"


def _gone(unit_id: UUID, chain: Chain) -> WorkVerification:
    last = chain.last
    assert last is not None, "there is a history"
    if last.event is not HistoryEvent.WORK_DELETED:
        return _drift(unit_id, chain, "the unit is gone, and its history does not say that it was deleted", ("unit",))
    if chain.unreadable is not None:
        return _unverified(unit_id, chain, None)
    return WorkVerification(
        unit_id=unit_id,
        instance_id=chain.instance_id,
        check=WorkCheck.OK,
        reason="the unit was deleted, and its history is as it was written",
        entries=chain.entries,
        anchor=anchor_of(last),
    )


def _broken(unit_id: UUID, chain: Chain, first_bad: int, reason: str) -> WorkVerification:
    return WorkVerification(
        unit_id=unit_id,
        instance_id=chain.instance_id,
        check=WorkCheck.CHAIN_BROKEN,
        reason=reason,
        entries=chain.entries,
        first_bad=first_bad,
    )


def _drift(
    unit_id: UUID,
    chain: Chain,
    reason: str,
    fields: tuple[str, ...],
    attributes: tuple[AttributeDrift, ...] = (),
) -> WorkVerification:
    return WorkVerification(
        unit_id=unit_id,
        instance_id=chain.instance_id,
        check=WorkCheck.DRIFT,
        reason=reason,
        entries=chain.entries,
        fields=fields,
        attributes=attributes,
    )


def _unverified(unit_id: UUID, chain: Chain, reason: str | None) -> WorkVerification:
    first = chain.unreadable
    return WorkVerification(
        unit_id=unit_id,
        instance_id=chain.instance_id,
        check=WorkCheck.UNVERIFIED,
        reason=first.reason if first is not None else reason or "it cannot be verified",
        entries=chain.entries,
        first_bad=None if first is None else first.first_bad,
    )
