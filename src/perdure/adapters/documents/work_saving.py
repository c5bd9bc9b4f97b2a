"""Saving a unit of work: read what is there, judge it, announce, commit; all of it again if somebody was faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import msgspec

from perdure.adapters.documents import work_keys
from perdure.adapters.documents.audits import audit_put
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work_announcing import Change, WorkAnnouncing
from perdure.adapters.documents.work_documents import (
    Request,
    Told,
    Unfinished,
    Unit,
    attributes_put,
    entry_put,
    unit_put,
    version_put,
)
from perdure.adapters.documents.work_finishing import WorkFinishing
from perdure.adapters.documents.work_parents import WorkParents
from perdure.adapters.documents.work_reading import Look, WorkReading
from perdure.domain.container import Space
from perdure.domain.store_audit import StoreAudit
from perdure.domain.work import ParentStep, WorkCommitted, WorkStatus, WorkUnit, WorkWrite
from perdure.errors import Conflict, Forbidden, KeyReused, NotFound, OutcomeUnknown, StaleVersion, TimedOut
from perdure.ports.documents import Expect, ExpectationFailed, Put, Remove, Write
from perdure.ports.patience import Patience


@dataclass(slots=True, kw_only=True)
class _Save:
    """One save, and what its attempts have in common."""

    space: Space
    write: WorkWrite
    audit: StoreAudit | None
    deletes: bool
    token: str
    patience: Patience
    change: Change | None = None
    conflicted: bool = False
    body: Unit = field(default_factory=lambda: Unit(unit=None))
    unit: WorkUnit = field(init=False)

    def __post_init__(self) -> None:
        self.unit = self.write.unit

    @property
    def request_id(self) -> str | None:
        """The request by which it is known again; a deletion ends all of them."""
        return None if self.deletes else self.write.request_id

    def others(self, life: int) -> Sequence[str]:
        """What to read beside the unit: its request, and, once it went wrong, everything that may be in the way."""
        sorts = [] if self.request_id is None else [work_keys.request_sort(life, self.request_id)]
        return [*sorts, *self.numbered(life)] if self.conflicted else sorts

    def numbered(self, life: int) -> Sequence[str]:
        """What is put where nothing may be."""
        entries = [work_keys.entry_sort(entry.sequence) for entry in self.write.entries]
        versions = [] if self.deletes else self.write.attributes
        return [*entries, *(work_keys.version_sort(life, one.key, one.version) for one in versions)]


class WorkSaving:
    """Saves, deletions and heartbeats."""

    def __init__(
        self,
        driver: ResilientDriver,
        reading: WorkReading,
        announcing: WorkAnnouncing,
        parents: WorkParents,
        finishing: WorkFinishing,
    ) -> None:
        self._driver = driver
        self._reading = reading
        self._announcing = announcing
        self._parents = parents
        self._finishing = finishing

    async def commit(
        self, space: Space, write: WorkWrite, *, audit: StoreAudit | None, deletes: bool = False, patience: Patience
    ) -> WorkCommitted:
        """As the port's ``commit``, and as its ``delete``."""
        token = self._announcing.new_token()
        save = _Save(space=space, write=write, audit=audit, deletes=deletes, token=token, patience=patience)
        try:
            committed = await self._attempts(save)
        except (Conflict, NotFound, TimedOut):
            if save.change is not None:
                await self._announcing.withdraw(save.change, patience=patience)
            raise
        if save.change is not None and committed.replayed:
            await self._announcing.withdraw(save.change, patience=patience)
        elif save.change is not None and save.change.unfinished is not None:
            await self._finishing.finish_or_leave(space, save.change.unfinished, save.body, patience=patience)
        return committed

    async def heartbeat(
        self, space: Space, unit_id: UUID, *, owner: str, now: datetime, patience: Patience
    ) -> WorkUnit:
        """As the port's ``heartbeat``."""
        while True:
            look = await self._reading.peek(space, unit_id, patience=patience)
            unit = _leased(look, unit_id, owner)
            beaten = replace(unit, beats=unit.beats + 1, heartbeat_at=max(unit.heartbeat_at or now, now))
            if unit.heartbeat_at is None:
                change = Change(space=space, token="", unit=beaten, entries=(), leases=True)
                await self._announcing.announce(change, patience=patience)
            put = unit_put(replace(look.body, unit=beaten), over=look.document)
            partition = work_keys.unit_partition(space, unit_id)
            try:
                await self._driver.commit(partition, [put], timeout_s=patience.left_s)
            except (ExpectationFailed, OutcomeUnknown) as exc:
                # One beat too many does no harm, so that a lost answer is no reason to give up.
                if not await patience.pause():
                    raise TimedOut("others changed the unit of work all the time; beat again") from exc
            else:
                return beaten

    async def _attempts(self, save: _Save) -> WorkCommitted:
        while True:
            unit_id = save.unit.unit_id
            look = await self._reading.look(
                save.space,
                unit_id,
                attributes=bool(save.write.attributes),
                others=save.others,
                patience=save.patience,
            )
            if (unit := _replayed(save, look)) is not None:
                return WorkCommitted(unit=unit, replayed=True)
            _check_expected(save, look)
            body = _body(save, look)
            if save.change is None:
                if save.write.parent_step is ParentStep.ADOPT and save.unit.parent_id is not None:
                    await self._parents.require(save.space, save.unit.parent_id, patience=save.patience)
                change = self._change(save, look, body)
                await self._announcing.announce(change, patience=save.patience)
                save.change = change
            try:
                await self._driver.commit(
                    work_keys.unit_partition(save.space, unit_id),
                    _writes(save, look, body),
                    timeout_s=save.patience.left_s,
                )
            except ExpectationFailed as exc:
                save.conflicted = True
                if not await save.patience.pause():
                    raise TimedOut(
                        "heartbeats and children of a unit of work came in between all the time, and it was not saved"
                    ) from exc
            else:
                save.body = body
                return WorkCommitted(unit=body.unit or save.unit, replayed=False)

    def _change(self, save: _Save, look: Look, body: Unit) -> Change:
        before = look.unit
        unit = save.unit if body.unit is None else body.unit
        lists = not save.deletes and (before is None or before.status is not unit.status)
        unfinished = None
        # A unit that is made leaves nothing behind that others would have to take away.
        if save.deletes or (lists and before is not None) or save.write.parent_step is not None:
            listings: list[tuple[WorkStatus, str]] = []
            if before is not None:
                listings.append((before.status, look.body.listed))
            if lists:
                listings.append((unit.status, save.token))
            unfinished = Unfinished(
                token=save.token,
                unit_id=unit.unit_id,
                instance_id=unit.instance_id,
                parent_id=unit.parent_id,
                created_at=unit.created_at,
                life=body.life,
                made=look.body.made if before is not None else save.token,
                listings=listings,
                settled_at=self._announcing.settled_at(save.patience),
            )
        return Change(
            space=save.space,
            token=save.token,
            unit=unit,
            entries=save.write.entries,
            begins=before is None,
            lists=lists,
            leases=not save.deletes and _is_leased(unit) and not _is_leased(before),
            unfinished=unfinished,
        )


def _replayed(save: _Save, look: Look) -> WorkUnit | None:
    """The unit, if the request was done before."""
    if save.request_id is None or look.unit is None:
        return None
    request = look.request(save.request_id)
    if request is None:
        return None
    if request.fingerprint != save.write.fingerprint:
        raise KeyReused(
            f"request {ascii(save.request_id)[:80]} was done before with other content; nothing was written",
            request_id=save.request_id,
        )
    return look.unit


def _check_expected(save: _Save, look: Look) -> None:
    found = 0 if look.unit is None else look.unit.version
    expected = save.unit.version - 1
    if found != expected:
        raise _stale(save, found, f"it is at version {found} (0: there is none), and {expected} was expected")
    beats = 0 if look.unit is None else look.unit.beats
    if save.write.expected_beats is not None and beats != save.write.expected_beats:
        raise _stale(save, found, f"it has {beats} heartbeats, and {save.write.expected_beats} were expected")
    if any(sort in look.others for sort in save.numbered(look.life)):
        raise _stale(save, found, "an entry or a version of an attribute is there already under a number of this")
    if look.unit is not None and not save.deletes:
        _check_same(look.unit, save.unit)


def _stale(save: _Save, found: int, reason: str) -> StaleVersion:
    return StaleVersion(
        f"unit of work {save.unit.unit_id} was not written: {reason}; load it and decide again",
        unit_id=str(save.unit.unit_id),
        expected=save.unit.version - 1,
        found=found,
    )


def _check_same(before: WorkUnit, unit: WorkUnit) -> None:
    for name in ("instance_id", "parent_id", "created_at"):
        if getattr(before, name) != getattr(unit, name):
            raise Forbidden(
                f"a save gives a unit of work another {name}; what it was made with stays", code="immutable", field=name
            )


def _body(save: _Save, look: Look) -> Unit:
    """The unit's document as it will be."""
    before = look.unit
    if save.deletes:
        return Unit(unit=None, life=look.body.life, told=look.body.told)
    unit = save.unit
    if before is not None:
        heartbeat_at = unit.heartbeat_at
        if heartbeat_at is not None and before.heartbeat_at is not None:
            heartbeat_at = max(heartbeat_at, before.heartbeat_at)
        unit = replace(
            unit,
            heartbeat_at=heartbeat_at,
            beats=max(unit.beats, before.beats),
            child_count=before.child_count,
            finished_child_count=before.finished_child_count,
        )
    kept = look.body if before is not None else Unit(unit=None, life=look.life, made=save.token)
    is_listed = before is not None and before.status is unit.status
    return replace(
        kept,
        unit=unit,
        listed=kept.listed if is_listed else save.token,
        attributes_at=unit.version if save.write.attributes else kept.attributes_at,
        told=_told(kept.told, save.write.parent_step, at=unit.version),
    )


def _told(told: Told, step: ParentStep | None, *, at: int) -> Told:
    match step:
        case None:
            return told
        case ParentStep.ADOPT:
            return replace(told, adopted=True, at=at)
        case ParentStep.FINISH:
            return replace(told, finished=True, at=at)
        case ParentStep.REOPEN:
            return replace(told, finished=False, at=at)


def _writes(save: _Save, look: Look, body: Unit) -> Sequence[Write]:
    put = unit_put(body, over=look.document)
    writes: list[Write] = [put, *(entry_put(entry, token=save.token) for entry in save.write.entries)]
    if save.deletes:
        writes.append(Remove(sort=work_keys.ATTRIBUTES, expect=Expect.ANY))
    elif save.write.attributes:
        newest = {**look.attributes, **{one.key: one for one in save.write.attributes}}
        writes.append(attributes_put(newest, at=body.attributes_at, version=put.version))
        writes += [version_put(one, life=body.life) for one in save.write.attributes]
    if save.request_id is not None and save.write.fingerprint is not None:
        request = msgspec.json.encode(Request(fingerprint=save.write.fingerprint))
        sort = work_keys.request_sort(body.life, save.request_id)
        writes.append(Put(sort=sort, version=1, body=request, expect=Expect.ABSENT))
    if save.audit is not None:
        writes.append(audit_put(save.audit))
    return writes


def _is_leased(unit: WorkUnit | None) -> bool:
    """Whether others watch over it."""
    return unit is not None and unit.status is WorkStatus.ACTIVE and unit.heartbeat_at is not None


def _leased(look: Look, unit_id: UUID, owner: str) -> WorkUnit:
    unit = look.unit
    if unit is None:
        raise NotFound(f"there is no unit of work {unit_id} in this space", resource="unit", id=str(unit_id))
    if unit.status is not WorkStatus.ACTIVE or unit.lease_owner != owner:
        raise StaleVersion(
            f"unit of work {unit_id} is not ACTIVE, or its lease is another's; stop working on it",
            unit_id=str(unit_id),
            found=unit.version,
        )
    return unit
