"""A save that waits for an approval, as it is kept in the history entry that parked its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from perdure.core.work_asking import Asked, check_status
from perdure.domain.canonical import JsonObject, check_json_object
from perdure.domain.container import Space
from perdure.domain.work import METADATA_BYTES_MAX, HistoryEntry, WorkStatus
from perdure.errors import Corrupt, PerdureError
from perdure.ports.guards import Ask
from perdure.ports.work import WorkStore

_LOOK_ENTRIES: Final = 8  # the parking entry is the last one, or a few before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who may answer, anybody if nobody is named, and for how long it is waited for."""

    approvers: tuple[str, ...] = ()
    deadline_s: float | None = None


def pending_of(asked: Asked, question: Ask) -> JsonObject:
    """What was to be done and who may allow it, as JSON. Raises ``LimitExceeded`` for more than one entry can keep."""
    said: JsonObject = {
        "approvers": [*question.approvers],
        "deadline_s": question.deadline_s,
        "new_status": None if asked.new_status is None else asked.new_status.value,
        "attributes": dict(asked.values),
        "removed": list(asked.removed),
        "interaction_id": asked.interaction_id,
        "actor_id": asked.actor_id,
        "reasoning": asked.reasoning,
        "metadata": asked.metadata,
        "waive": asked.waive,
        "lease_owner": asked.lease_owner,
    }
    # With its name it is the metadata of one entry.
    check_json_object(
        {"pending": said},
        what="a save that waits for an approval",
        bytes_max=METADATA_BYTES_MAX,
        limit="metadata_bytes_max",
    )
    return said


async def parked(store: WorkStore, space: Space, unit_id: UUID, *, timeout_s: float) -> HistoryEntry | None:
    """The entry that parked a unit; None if its history does not have it any more."""
    before = 0
    while True:
        page = await store.history(space, unit_id, after=before, limit=_LOOK_ENTRIES, reverse=True, timeout_s=timeout_s)
        for entry in page:
            if entry.new_status is WorkStatus.PENDING_PILOT_APPROVAL is not entry.previous_status:
                return entry
        if len(page) < _LOOK_ENTRIES:
            return None
        before = page[-1].sequence


def question_of(entry: HistoryEntry) -> Question:
    """Who may answer for a unit that this entry parked. Raises ``Corrupt``."""
    pending = (entry.transition_metadata or {}).get("pending")
    if pending is None:
        return Question()
    approvers = pending.get("approvers") if isinstance(pending, dict) else None
    deadline_s = pending.get("deadline_s") if isinstance(pending, dict) else None
    if not isinstance(approvers, list) or not isinstance(deadline_s, int | float | None):
        raise _damaged(entry)
    return Question(approvers=tuple(map(str, approvers)), deadline_s=deadline_s)


def resumed(entry: HistoryEntry, *, target: WorkStatus, answer: Asked) -> Asked:
    """What an approval does: the save that waited, said by whoever approves it. Raises ``Corrupt``."""
    pending = (entry.transition_metadata or {}).get("pending")
    if pending is None:  # parked on purpose, without a save that waits
        return replace(answer, new_status=target)
    try:
        assert isinstance(pending, dict), "it is written so"
        values, removed = pending["attributes"], pending["removed"]
        assert isinstance(values, Mapping), "it is written so"
        assert isinstance(removed, list), "it is written so"
        return replace(
            answer,
            new_status=check_status(target),
            values={str(key): str(text) for key, text in values.items()},
            removed=tuple(map(str, removed)),
            interaction_id=_text(pending["interaction_id"]),
            lease_owner=_text(pending["lease_owner"]),
            waive=answer.waive if answer.waive is not None else _text(pending["waive"]),
        )
    except (AssertionError, KeyError, PerdureError) as exc:
        raise _damaged(entry) from exc


def _damaged(entry: HistoryEntry) -> Corrupt:
    return Corrupt(
        f"entry {entry.sequence} of the history does not say what waits for approval; it was changed from outside"
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
