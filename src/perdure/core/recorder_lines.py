"""What a recorder writes to: lines of numbered records, and the contexts that they are appended to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from perdure.core.recorder_limits import RecorderTurns
from perdure.core.recorder_texts import Shape
from perdure.domain.turn import NO_TURN
from perdure.domain.turn_records.fields import RecordType
from perdure.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records of a line that are not known to be kept."""

    lost: int
    first: int
    last: int

    def with_another(self, other: Gap) -> Gap:
        """Both as one."""
        return Gap(lost=self.lost + other.lost, first=min(self.first, other.first), last=max(self.last, other.last))

    def as_values(self) -> dict[str, object]:
        """The fields of the marker that a later record carries."""
        return {"lost": self.lost, "first_lost_sequence_no": self.first, "last_lost_sequence_no": self.last}


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
    """A record on its way: what it says, its number and time, which stay the same however often it is sent."""

    record_type: RecordType
    event_kind: str
    at: datetime
    sequence_no: int | None
    key: Callable[[int], str]
    values: Mapping[str, object]
    # Ids of what the record belongs to; they are not redacted. Called late, so that a wrong one fails the record only.
    envelope: Callable[[Draft], Mapping[str, object]]
    stamps_context: str | None = None  # the field that says in which context this record is
    shape: Shape | None = None
    content: Mapping[str, object] | None = field(default=None, init=False)  # redacted; None before that
    redacted: int | None = field(default=None, init=False)
    idempotency_key: str | None = field(default=None, init=False)
    blob: bytes | None = field(default=None, init=False)
    payload: bytes | None = field(default=None, init=False)
    gap: Gap | None = field(default=None, init=False)


class Line:
    """The numbers of one run or session: reserved once for each record, never for each attempt to write it."""

    def __init__(self, *, first: int, is_positioned: bool = True) -> None:
        self._next = first
        self._first = first
        self._is_positioned = is_positioned
        self._unnumbered = 0
        self._gap: Gap | None = None
        self.unwritten: list[tuple[Track, Draft]] = []  # in mode required; nothing is written before these are

    @property
    def last_number(self) -> int:
        """The number reserved last; one less than the first if there is none."""
        return self._next - 1

    def reserve(self) -> int | None:
        """The number of the next record; None as long as it is not known where the line goes on."""
        if not self._is_positioned:
            return None
        self._next += 1
        return self._next - 1

    def await_position(self) -> None:
        """Give no more numbers until ``restore`` says where the line goes on."""
        self._is_positioned = False

    def restore(self, last: int | None) -> None:
        """Go on after a number that is kept; from the first if there is none. Records lost meanwhile get the next."""
        self._next = self._first if last is None else last + 1
        self._is_positioned = True
        for _ in range(self._unnumbered):
            self.lose(self.reserve())
        self._unnumbered = 0

    def lose(self, number: int | None) -> None:
        """Note that a record is not known to be kept."""
        if number is None:
            self._unnumbered += 1
        else:
            self.tell_later(Gap(lost=1, first=number, last=number))

    def tell_later(self, gap: Gap | None) -> None:
        """Leave a gap for the next record to tell of: the one that should have was not kept."""
        if gap is not None:
            self._gap = gap if self._gap is None else self._gap.with_another(gap)

    def take_gap(self) -> Gap | None:
        """The gap that the next record tells of; it is told once."""
        gap, self._gap = self._gap, None
        return gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a track goes on: in a context that is there, in one that is forked from a turn, or in a new one.

    ``labels`` are those of the fork, and ``former_context_id`` is where it was forked. ``last_number`` is the highest
    number that is kept, None if there is none.
    """

    context_id: str | None = None
    head_turn_id: str = NO_TURN
    fork_from: str | None = None
    former_context_id: str | None = None
    labels: tuple[str, ...] = ()
    last_number: int | None = None


Locate = Callable[[RecorderTurns, float], Awaitable[Position]]
"""Finds where a track goes on, within so many seconds."""


class Track:
    """A context that records are appended to, one at a time; found or made when the first one comes.

    ``labels`` are the context's, the first of which is its own. ``fork_from`` is the turn it is forked from, None for a
    root; where ``parent`` is given and the turn is not known yet, it is the parent's head by then. ``may_exist``:
    somebody may have made it before, so look before making it. ``metadata`` goes with the first record, and so do the
    labels, which some backends take from there alone.
    """

    def __init__(
        self,
        line: Line,
        *,
        labels: Callable[[], tuple[str, ...]],
        metadata: Callable[[], Mapping[str, object]],
        fork_from: str | None = None,
        parent: Track | None = None,
        may_exist: bool = True,
    ) -> None:
        self.line = line
        self.parent = parent
        self.lock = asyncio.Lock()
        self.labels = labels
        self.metadata = metadata
        self.fork_from = fork_from
        self.may_exist = may_exist
        self.was_found = False
        self.has_first = False
        self.locate: Locate | None = None
        self.context_id: str | None = None
        self.last_turn_id: str | None = None

    def labelled(self, metadata: Mapping[str, object]) -> Mapping[str, object]:
        """What goes with the first record, with all labels: they are made of ids, which are never redacted."""
        about = metadata.get("context_metadata")
        assert isinstance(about, Mapping), "every journal says what its context is about"
        return {**metadata, "context_metadata": {**about, "labels": list(self.labels())}}

    @property
    def head_turn_id(self) -> str:
        """The turn written last, or that it was forked from; ``"0"`` if there is none."""
        return self.last_turn_id or self.fork_from or NO_TURN

    @property
    def children_may_exist(self) -> bool:
        """Whether somebody before may have forked from here what is now forked again."""
        return self.was_found or self.context_id is None

    def resume(self, locate: Locate) -> None:
        """Go on where ``locate`` says, from the next record on. Raises ``Invalid`` once something was written."""
        if self.context_id is not None or self.last_turn_id is not None:
            raise Invalid("this journal is open already; make another one to resume")
        self.locate = locate
        self.line.await_position()

    def follow_parent(self) -> None:
        """Take the parent's head for where to fork, unless that is known or there is none."""
        if self.parent is not None and self.fork_from is None and self.parent.head_turn_id != NO_TURN:
            self.fork_from = self.parent.head_turn_id

    def settle(self, position: Position) -> None:
        """Take what was located."""
        self.locate = None
        self.line.restore(position.last_number)
        if position.context_id is not None:
            self.context_id = position.context_id
            self.was_found = True
            self.last_turn_id = None if position.head_turn_id == NO_TURN else position.head_turn_id
            self.has_first = self.last_turn_id is not None
        elif position.fork_from is not None:
            self.fork_from, self.labels, self.may_exist = position.fork_from, lambda: position.labels, False
