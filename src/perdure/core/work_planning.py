"""The rules of a save: which statuses may follow, what is counted, which entries there are. Nothing here waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from perdure.core.work_asking import Asked
from perdure.core.work_drafting import Draft, signs_of_life
from perdure.core.work_finding import Found, drift_error, key_missing, keys_by_kind
from perdure.domain.canonical import JsonObject, JsonValue
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import (
    TRANSITIONS,
    AttributeChange,
    HistoryEvent,
    StoredWork,
    WorkStatus,
    WorkUnit,
    WorkWrite,
    may_follow,
)
from perdure.domain.work_hash import HASH_SCHEME_KEYED, hash_scheme
from perdure.errors import IllegalTransition, Invalid, LeaseLost
from perdure.ports.environment import IdSource

_ACTIVE: Final = WorkStatus.ACTIVE
_PARKED: Final = WorkStatus.PENDING_PILOT_APPROVAL
_SOFT: Final = WorkStatus.ZOMBIED_SOFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Pen:
    """By whom, when and with which key entries are written."""

    now: datetime
    ids: IdSource
    key: bytes | None
    actor_id: str

    def draft(self, stored: StoredWork, *, actor_id: str | None = None, fresh: bool = False) -> Draft:
        """A save of a unit in the making. Raises ``Forbidden`` for a unit with a keyed hash, without a key here."""
        if self.key is None and stored.unit.hash_scheme == HASH_SCHEME_KEYED:
            raise key_missing(stored.unit)
        return Draft(
            stored.unit,
            fresh=fresh,
            attributes=stored.attributes,
            actor_id=actor_id if actor_id is not None else self.actor_id,
            now=self.now,
            ids=self.ids,
            key=self.key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to commit, and the values as they are then."""

    write: WorkWrite
    values: dict[str, TypedValue]


def plan_create(unit: WorkUnit, asked: Asked, *, pen: Pen) -> Plan:
    """A unit that was not there."""
    stored = StoredWork(unit=unit, attributes={})
    asked.refuse_large({})
    draft = pen.draft(stored, actor_id=asked.actor_id, fresh=True)
    values = asked.merged({})
    state_hash = draft.state_hash(values)
    draft.entry(
        HistoryEvent.WORK_CREATED,
        status=unit.status,
        state_hash=state_hash,
        interaction_id=unit.interaction_id,
        reasoning=asked.reasoning,
        metadata=asked.metadata,
        changes=draft.versions(asked.values, ()),
    )
    after = replace(unit, content_hash=state_hash, hash_scheme=hash_scheme(pen.key))
    return Plan(
        write=draft.write(after, request_id=asked.request_id, fingerprint=asked.fingerprint),
        values=values,
    )


def plan_save(found: Found, asked: Asked, *, pen: Pen, pilot: bool = False) -> Plan:
    """A save that the guard allowed; ``pilot`` when somebody answered for a parked unit.

    Raises ``IllegalTransition``, ``LeaseLost``, ``LimitExceeded``, and ``HashDrift`` for an attribute that cannot be
    read and is not replaced.
    """
    stored, unit = found.stored, found.stored.unit
    status = asked.new_status if asked.new_status is not None else unit.status
    if status is _PARKED and "pending" in (asked.metadata or {}):
        raise Invalid("metadata of a unit that is parked has no key 'pending': what is to be done stands there")
    interaction_id = asked.interaction_id if asked.interaction_id is not None else unit.interaction_id
    waived = [*(["drift"] if found.drifted else []), *_waived(unit, asked, status, pilot=pilot)]
    if pilot and asked.waive is not None and not waived:
        waived = ["approval"]
    if set(found.unreadable) - asked.values.keys() - set(asked.removed):
        raise drift_error(found)
    asked.refuse_large(stored.attributes)
    draft = pen.draft(stored, actor_id=asked.actor_id)
    values = asked.merged(found.values)
    state_hash = draft.state_hash(values)
    if found.drifted:
        _say_drift(draft, found)
    if waived:
        _say_waiver(draft, found, asked, waived)
    changes = draft.versions(asked.values, asked.removed)
    moved = status is not unit.status or interaction_id != unit.interaction_id
    if moved or changes:
        event = HistoryEvent.STATE_TRANSITION if moved else HistoryEvent.ATTRIBUTES_CHANGED
        draft.entry(
            HistoryEvent.PILOT_OVERRIDE if pilot else event,
            status=status,
            state_hash=state_hash,
            interaction_id=interaction_id,
            reasoning=asked.reasoning,
            metadata=asked.metadata,
            changes=changes,
        )
    after = _counted(replace(unit, interaction_id=interaction_id), unit, status)
    if _is_locked(unit, after, status):
        status = _lock(draft, after)
    after = signs_of_life(after, status, lease_owner=asked.lease_owner, now=pen.now)
    hashed = bool(waived or moved or changes)
    after = replace(
        after,
        content_hash=state_hash if hashed else unit.content_hash,
        hash_scheme=hash_scheme(pen.key) if hashed else unit.hash_scheme,
        target=_target(unit, status),
        actor_id=asked.actor_id if asked.actor_id is not None else pen.actor_id,
    )
    write = draft.write(after, request_id=asked.request_id, fingerprint=asked.fingerprint)
    return Plan(write=write, values=values)


def plan_park(found: Found, asked: Asked, *, question: str, pending: JsonObject, pen: Pen) -> Plan:
    """A save that waits for an approval: the unit keeps its attributes, and the history what was to be done.

    Raises ``IllegalTransition`` where no approval can be waited for.
    """
    unit = found.stored.unit
    target = asked.new_status if asked.new_status not in {None, _PARKED} else unit.status
    assert target is not None, "None was replaced"
    if not may_follow(unit.status, _PARKED) or target not in TRANSITIONS[_PARKED]:
        raise IllegalTransition(
            f"the guard asks for an approval, and unit of work {unit.unit_id} cannot wait for one on its way from "
            f"{unit.status} to {target}; nothing was written",
            code="work.cannot_park",
            unit_id=str(unit.unit_id),
            status=unit.status.value,
            target=target.value,
        )
    draft = pen.draft(found.stored, actor_id=asked.actor_id)
    draft.entry(
        HistoryEvent.STATE_TRANSITION,
        status=_PARKED,
        state_hash=None,
        interaction_id=unit.interaction_id,
        reasoning=question,
        metadata={"pending": pending},
    )
    after = replace(signs_of_life(unit, _PARKED, lease_owner=None, now=pen.now), target=target)
    write = draft.write(after, request_id=asked.request_id, fingerprint=asked.fingerprint)
    return Plan(write=write, values=found.values)


def plan_quarantine(found: Found, *, pen: Pen, actor_id: str | None) -> WorkWrite:
    """The unit as it stands, under FAILED_SECURITY_BREACH: its hash stays what it was, so that the drift stays visible.

    Raises ``HashDrift`` where nothing may follow the status.
    """
    unit, breach = found.stored.unit, WorkStatus.FAILED_SECURITY_BREACH
    if not may_follow(unit.status, breach):
        raise drift_error(found)
    draft = pen.draft(found.stored, actor_id=actor_id)
    _say_drift(draft, found)
    draft.entry(
        HistoryEvent.STATE_TRANSITION,
        status=breach,
        state_hash=None,
        interaction_id=unit.interaction_id,
        reasoning="quarantined: the attributes are not those of the stored hash",
        metadata=None,
    )
    after = signs_of_life(unit, breach, lease_owner=None, now=pen.now)
    return draft.write(replace(after, target=None))


def plan_move(
    unit: WorkUnit, status: WorkStatus, *, reasoning: str, metadata: JsonObject, pen: Pen, expect_beats: bool
) -> WorkWrite:
    """A change of status by a sweep; attributes are neither read nor hashed, so no drift is hidden by it."""
    draft = pen.draft(StoredWork(unit=unit, attributes={}))
    draft.entry(
        HistoryEvent.STATE_TRANSITION,
        status=status,
        state_hash=None,
        interaction_id=unit.interaction_id,
        reasoning=reasoning,
        metadata=metadata,
    )
    after = replace(signs_of_life(unit, status, lease_owner=None, now=pen.now), target=None)
    return draft.write(after, expected_beats=unit.beats if expect_beats else None)


def plan_delete(found: Found, asked: Asked, *, pen: Pen) -> WorkWrite:
    """The last entry of a unit."""
    unit = found.stored.unit
    draft = pen.draft(found.stored, actor_id=asked.actor_id)
    if found.drifted:
        _say_drift(draft, found)
        _say_waiver(draft, found, asked, ["drift"])
    draft.entry(
        HistoryEvent.WORK_DELETED,
        status=unit.status,
        state_hash=None,
        interaction_id=unit.interaction_id,
        reasoning=asked.reasoning,
        metadata=asked.metadata,
    )
    return draft.write(unit)


def _target(unit: WorkUnit, status: WorkStatus) -> WorkStatus | None:
    if status is not _PARKED:
        return None
    # Parked without a question, it goes on to where it was.
    return unit.target if unit.status is _PARKED else _ACTIVE


def is_used_up(unit: WorkUnit) -> bool:
    """Whether a unit had as many interactions as it may have, and waits to be cleared up."""
    return unit.interactions_max is not None and unit.interaction_count >= unit.interactions_max


def _waived(unit: WorkUnit, asked: Asked, status: WorkStatus, *, pilot: bool) -> list[str]:
    """What the save does against the rules, by its waiver. Raises ``IllegalTransition``, ``LeaseLost``."""
    if asked.lease_owner is not None and unit.lease_owner not in {None, asked.lease_owner} and status is _ACTIVE:
        raise LeaseLost(
            f"unit of work {unit.unit_id} is leased by another owner; discard the work in hand",
            unit_id=str(unit.unit_id),
        )
    reason: str | None = None
    if status is not unit.status:
        if not may_follow(unit.status, status):
            allowed = ", ".join(sorted(TRANSITIONS[unit.status])) or "nothing"
            reason = f"cannot go from {unit.status} to {status}; what may follow is {allowed}"
        elif unit.status is _PARKED and not pilot:
            reason = "waits for an approval; approve or reject it"
    elif unit.status is _PARKED:
        reason = "waits for an approval; approve or reject it"
    elif not TRANSITIONS[unit.status] and _changes_anything(asked):
        reason = f"is {unit.status}, which is final"
    if reason is None:
        return []
    if asked.waive is not None:
        return ["transition"]
    raise IllegalTransition(
        f"unit of work {unit.unit_id} {reason}; nothing was written. A waiver with its reason allows it: waive=",
        unit_id=str(unit.unit_id),
        status=unit.status.value,
        new_status=status.value,
    )


def _changes_anything(asked: Asked) -> bool:
    return bool(asked.values or asked.removed or asked.interaction_id is not None)


def _counted(after: WorkUnit, before: WorkUnit, status: WorkStatus) -> WorkUnit:
    revived = before.status is _SOFT and status is _ACTIVE
    if revived and is_used_up(before):
        after = replace(after, interaction_count=0)  # somebody cleared it up: it begins to count anew
    elif revived:
        after = replace(after, retry_count=before.retry_count + 1)
    if after.interaction_id != before.interaction_id:
        after = replace(after, interaction_count=after.interaction_count + 1)
    return after


def _is_locked(before: WorkUnit, after: WorkUnit, status: WorkStatus) -> bool:
    moved = after.interaction_count != before.interaction_count
    return moved and before.status is _ACTIVE and status is _ACTIVE and is_used_up(after)


def _lock(draft: Draft, unit: WorkUnit) -> WorkStatus:
    draft.entry(
        HistoryEvent.STATE_TRANSITION,
        status=_SOFT,
        state_hash=None,
        interaction_id=unit.interaction_id,
        reasoning=f"ambiguity lock: interaction {unit.interaction_count} of at most {unit.interactions_max}",
        metadata={"interaction_count": unit.interaction_count, "interactions_max": unit.interactions_max},
    )
    return _SOFT


def _say_drift(draft: Draft, found: Found) -> None:
    unit = found.stored.unit
    metadata: JsonObject = {"found_hash": found.content or None, "stored_hash": unit.content_hash}
    metadata |= {kind: list[JsonValue](keys) for kind, keys in keys_by_kind(found.attributes).items()}
    draft.entry(
        HistoryEvent.DRIFT_FOUND,
        status=unit.status,
        state_hash=unit.content_hash or found.content or None,
        interaction_id=unit.interaction_id,
        reasoning=None,
        metadata=metadata,
    )


def _say_waiver(draft: Draft, found: Found, asked: Asked, waived: list[str]) -> None:
    # What drifted is vouched for from here on, as it was found; without a key there is nothing that vouched before.
    stored = found.stored.attributes
    drifted = {drift.key: drift.found_version or drift.expected_version or 1 for drift in found.attributes}
    if found.stored.unit.hash_scheme != draft.scheme:
        drifted |= {key: version.version for key, version in stored.items()}
    adopted = tuple(
        AttributeChange(key=key, version=version, digest=draft.digest(stored[key].value if key in stored else None))
        for key, version in sorted(drifted.items())
    )
    metadata: dict[str, JsonValue] = {**(asked.metadata or {}), "waived": list(waived)}
    draft.entry(
        HistoryEvent.CONSTITUTIONAL_WAIVER,
        status=found.stored.unit.status,
        state_hash=draft.state_hash(found.values) if "drift" in waived and not found.unreadable else None,
        interaction_id=found.stored.unit.interaction_id,
        reasoning=asked.waive,
        metadata=metadata,
        changes=adopted,
    )
