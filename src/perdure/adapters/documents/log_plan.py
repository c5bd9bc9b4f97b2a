"""What appends that go together come to: numbers, duplicates and refusals, decided before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from perdure.adapters.documents.log_documents import Header, Marker, entry_put, marker_put, numbered
from perdure.domain.log import SEQUENCE_MAX, Appended, NewEntry
from perdure.errors import KeyReused, LimitExceeded, PerdureError, StaleVersion
from perdure.ports.documents import Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the log: where it is, and which ids are there.

    ``commit_ids`` are our own earlier attempts: what they wrote was not there before.
    """

    header: Header
    sequence: int
    markers: Mapping[str, Marker]
    commit_ids: AbstractSet[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One caller's entries."""

    entries: Sequence[NewEntry]
    expected: int | None


@dataclass(slots=True)
class Plan:
    """Of each call its result or its refusal, and what to write for all of them."""

    results: list[Sequence[Appended] | PerdureError] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    count: int = 0

    @property
    def refuses(self) -> bool:
        """Whether any call is refused."""
        return any(isinstance(result, PerdureError) for result in self.results)


class Planner:
    """Plans calls one after another, as if each had been appended before the next came."""

    def __init__(self, known: Known, *, at: datetime) -> None:
        self._known = known
        self._at = at
        self._numbers: dict[str, tuple[int, str]] = {}
        self.plan = Plan()

    def add(self, call: Call) -> None:
        """Plan one more call."""
        try:
            self.plan.results.append(self._numbered(call))
        except (KeyReused, StaleVersion, LimitExceeded) as exc:
            self.plan.results.append(exc)

    def _numbered(self, call: Call) -> Sequence[Appended]:
        known = self._known
        results: list[Appended] = []
        new: dict[str, tuple[int, str]] = {}
        writes: list[Write] = []
        sequence = known.sequence + self.plan.count
        for entry in call.entries:
            there = new.get(entry.entry_id) or self._there(entry)
            if there is not None:
                if there[1] != entry.fingerprint:
                    raise KeyReused(
                        "an entry with this id is there already with other content; a new entry needs a new id",
                        entry_id=entry.entry_id,
                    )
                results.append(self._appended(entry, there[0], duplicate=not self._is_ours(entry)))
                continue
            if sequence + len(new) >= SEQUENCE_MAX:
                raise LimitExceeded(
                    "this log is full", limit="sequence_max", allowed=SEQUENCE_MAX, actual=SEQUENCE_MAX + 1
                )
            number = sequence + len(new) + 1
            new[entry.entry_id] = (number, entry.fingerprint)
            placed = numbered(entry, number, at=self._at)
            over = known.markers.get(entry.entry_id)
            writes += [entry_put(known.header, placed), marker_put(known.header, placed, over=over)]
            results.append(self._appended(entry, number, duplicate=False))
        if call.expected is not None and new and call.expected != sequence:
            raise StaleVersion(
                f"the log is at {sequence}, and {call.expected} was expected; read what is new and decide again",
                expected=call.expected,
                found=sequence,
            )
        self._numbers |= new
        self.plan.writes += writes
        self.plan.count += len(new)
        return results

    def _there(self, entry: NewEntry) -> tuple[int, str] | None:
        """Number and fingerprint of an id that is in the log, or will be with this plan; a trimmed one is not."""
        if entry.entry_id in self._numbers:
            return self._numbers[entry.entry_id]
        marker = self._known.markers.get(entry.entry_id)
        if marker is None or marker.sequence <= self._known.header.floor:
            return None
        return marker.sequence, marker.fingerprint

    def _is_ours(self, entry: NewEntry) -> bool:
        marker = self._known.markers.get(entry.entry_id)
        return marker is not None and marker.commit_id in self._known.commit_ids

    def _appended(self, entry: NewEntry, sequence: int, *, duplicate: bool) -> Appended:
        return Appended(entry_id=entry.entry_id, sequence=sequence, epoch=self._known.header.epoch, duplicate=duplicate)
