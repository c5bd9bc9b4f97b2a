"""What journals tell each other: which stage an agent works for, and where an agent's records are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from perdure.core.recorder import Recorder
from perdure.core.recorder_lines import Draft, Track
from perdure.core.recorder_texts import Shape
from perdure.domain.turn import NO_TURN, TurnRef
from perdure.domain.turn_records.fields import RecordType
from perdure.domain.turn_records.keys import stage_attempt_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One attempt at a node. ``visit`` counts how often a loop came to the node, from 1."""

    node_id: str
    attempt: int = 1
    visit: int = 1

    @property
    def stage_attempt_id(self) -> str:
        """The id of the attempt. Raises ``Invalid`` for an empty node or an attempt below 1."""
        return stage_attempt_id(self.node_id, attempt=self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptText:
    """A text of a run as it is kept: ``content_hash`` of its bytes, and ``ref``, where they are.

    ``ref`` is ``blob://<hash>`` for an object and ``turnstore://<context>/<turn>`` for a text in its record.
    """

    content_hash: str
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """What an agent's session belongs to; each of its records says so. ``parent_turn_id`` is where it began."""

    run_id: str | None = None
    pipeline_context_id: str | None = None
    node_id: str | None = None
    stage_attempt_id: str | None = None
    node_visit: int | None = None
    branch_id: str | None = None
    parent_turn_id: str | None = None

    def as_values(self) -> dict[str, object]:
        """The fields of every record of the session."""
        return {
            "run_id": self.run_id,
            "pipeline_context_id": self.pipeline_context_id,
            "node_id": self.node_id,
            "stage_attempt_id": self.stage_attempt_id,
            "node_visit": self.node_visit,
            "branch_id": self.branch_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSnapshot:
    """Where a session's records are at one moment, and how many tools it called so far."""

    session_id: str
    context_id: str | None
    head_turn_id: str
    tool_call_count: int = 0
    tool_error_count: int = 0
    thread_key: str | None = None


class Journal:
    """Writes records to one context through a recorder."""

    def __init__(self, recorder: Recorder, track: Track) -> None:
        self._recorder = recorder
        self._track = track

    @property
    def context_id(self) -> str | None:
        """The context of these records; None before it was found or made."""
        return self._track.context_id

    @property
    def head_turn_id(self) -> str:
        """The turn written last, or that the context was forked from; ``"0"`` if there is none."""
        return self._track.head_turn_id

    @property
    def next_sequence_no(self) -> int:
        """The number of the next record, if nobody else of this run or session records meanwhile."""
        return self._track.line.last_number + 1

    async def open(self) -> None:
        """Publish the bundle, and find the context of these ids or make it; else the first record does.

        Recording the same things again in the same order, from any process, changes nothing. Raises
        ``PersistenceError`` in mode ``required``.
        """
        await self._recorder.prepare(self._track)

    async def retry(self) -> None:
        """In mode ``required``: write what could not be written, as it was; later records wait for it."""
        await self._recorder.retry(self._track)

    def _draft(
        self,
        record_type: RecordType,
        event_kind: str,
        values: Mapping[str, object],
        *,
        key: Callable[[int], str],
        envelope: Callable[[Draft], Mapping[str, object]],
        at: datetime | None,
        shape: Shape | None = None,
        stamps_context: str | None = None,
    ) -> Draft | None:
        """A record with its number and time; None if nothing is recorded. Raises if others have to be written."""
        if self._recorder.is_off:
            return None
        self._recorder.refuse_blocked(self._track)
        return Draft(
            record_type=record_type,
            event_kind=event_kind,
            at=self._recorder.now() if at is None else at,
            sequence_no=self._track.line.reserve(),
            key=key,
            values=values,
            envelope=envelope,
            shape=shape,
            stamps_context=stamps_context,
        )

    async def _send(self, draft: Draft | None) -> TurnRef | None:
        return None if draft is None else await self._recorder.write(self._track, draft)


def numeric(context_id: str | None) -> int | None:
    """A context's id as provenance has it: a number, or nothing where a backend's ids are none."""
    return int(context_id) if context_id is not None and context_id.isdecimal() and context_id != NO_TURN else None
