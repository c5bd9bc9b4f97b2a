"""What the documents of a log hold, and what is known of a log once they are read.

A log is a header, a gate, entries, a marker for each entry (from its id to its number) and audit records.

* The **header** says which epoch is current, what was trimmed (``floor``: everything up to it is gone, whether or not
  the documents still are) and the settings. Appends never touch it.
* The **gate** belongs to one version of the header. Every append requires it, and every change of the header replaces
  it in the same commit, so what a writer knows of epoch, floor and settings is true when its append is done, or the
  append is not done. That is what lets a writer go on for as long as it likes without reading anything.
* **Entries** are put where nothing is, at the number after the last one, so they are dense, and two writers never give
  the same number. An epoch's numbers are never used twice: who trims closes the gate first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, NoReturn, TypeAlias, TypeVar

import msgspec

from perdure.adapters.documents import keys
from perdure.domain.container import Container
from perdure.domain.log import Entry, LogHead, LogSettings, NewEntry, is_expired
from perdure.domain.row import Instant
from perdure.errors import Corrupt
from perdure.ports.documents import Document, Expect, Put, Remove, Write

Stage: TypeAlias = Literal["making", "ready", "erasing"]
"""``making``: nothing is there yet, and its name is being written down. ``erasing``: nothing is there any more."""

Body = TypeVar("Body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The pointer that announces the log's end."""

    at: Instant
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The body of a header.

    ``stamp`` is the version of all documents of this life: other lives' are never taken for them. ``touched_at`` is the
    last append, where no entry above the floor says it. ``audits_stay`` says that the log expired and was not erased.
    """

    stage: Stage
    epoch: int
    stamp: int
    settings_version: int
    settings: LogSettings
    created_at: Instant
    updated_at: Instant
    touched_at: Instant
    floor: int = 0
    due: Due | None = None
    audits_stay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A header as it was read."""

    header: Header
    version: int
    token: object

    @property
    def gate(self) -> str:
        """The sort key of the gate that belongs to it."""
        return keys.gate_sort(self.header.epoch, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """A log: its life, the last number given, and when that was."""

    life: Life
    sequence: int
    touched_at: datetime

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self.life.header.epoch

    @property
    def floor(self) -> int:
        """The last number that was trimmed."""
        return self.life.header.floor

    def is_expired(self, now: datetime) -> bool:
        """Whether it is past its lifetime."""
        return is_expired(self.life.header.settings, touched_at=self.touched_at, now=now)

    @property
    def head(self) -> LogHead:
        """The log as the port describes it."""
        header = self.life.header
        return LogHead(
            epoch=header.epoch,
            sequence=self.sequence,
            earliest=header.floor + 1,
            version=header.settings_version,
            created_at=header.created_at,
            updated_at=max(header.updated_at, self.touched_at),
            settings=header.settings,
        )

    def appended(self, count: int, *, at: datetime) -> LogState:
        """What it is after so many more entries."""
        return LogState(life=self.life, sequence=self.sequence + count, touched_at=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Where an entry is. ``commit_id`` and ``version`` are those of its document."""

    sequence: int
    fingerprint: str
    commit_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _EntryBody:
    entry_id: str
    fingerprint: str
    recorded_at: Instant
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _MarkerBody:
    sequence: int
    fingerprint: str


_ENTRY: Final = msgspec.json.Decoder(_EntryBody | None)
_MARKER: Final = msgspec.json.Decoder(_MarkerBody)
_HEADER: Final = msgspec.json.Decoder(Header)
_FENCE: Final = b"null"


def expires_at(settings: LogSettings, touched_at: datetime) -> datetime | None:
    """When a log with these settings ends unless it is appended to; None if never."""
    ends = [settings.expires_at] if settings.expires_at is not None else []
    if settings.ttl_s is not None:
        ends.append(touched_at + timedelta(seconds=settings.ttl_s))
    return min(ends, default=None)


# --- writing ----------------------------------------------------------------------------------------------------------


def change_writes(life: Life | None, header: Header, *, version: int) -> list[Write]:
    """Replace the header, if nobody else did since, and its gate with it."""
    writes: list[Write] = [
        Put(
            sort=keys.HEADER,
            version=version,
            body=msgspec.json.encode(header),
            expect=Expect.ABSENT if life is None else life.version,
            token=None if life is None else life.token,
        )
    ]
    if life is not None and life.header.stage == "ready":
        writes.append(Remove(sort=life.gate, expect=Expect.ANY))
    if header.stage == "ready":
        gate = keys.gate_sort(header.epoch, version)
        writes.append(Put(sort=gate, version=header.stamp, body=b"{}", expect=Expect.ABSENT))
    return writes


def fence(state: LogState) -> Put:
    """Stands where the next entry would, so that nobody appends to what was judged to be over."""
    sort = keys.entry_sort(state.epoch, state.sequence + 1)
    return Put(sort=sort, version=state.life.header.stamp, body=_FENCE, expect=Expect.ABSENT)


def entry_put(header: Header, entry: Entry, *, expect: Expect = Expect.ABSENT) -> Put:
    """An entry at its number."""
    body = _EntryBody(
        entry_id=entry.entry_id, fingerprint=entry.fingerprint, recorded_at=entry.recorded_at, body=entry.body
    )
    return Put(
        sort=keys.entry_sort(header.epoch, entry.sequence),
        version=header.stamp,
        body=msgspec.json.encode(body),
        expect=expect,
    )


def marker_put(header: Header, entry: Entry, *, over: Marker | None = None, expect: Expect = Expect.ABSENT) -> Put:
    """The marker of an entry; over the one that a trimmed entry left behind."""
    return Put(
        sort=keys.marker_sort(header.epoch, entry.entry_id),
        version=header.stamp if over is None else over.version + 1,
        body=msgspec.json.encode(_MarkerBody(sequence=entry.sequence, fingerprint=entry.fingerprint)),
        expect=expect if over is None else over.version,
    )


def numbered(entry: NewEntry, sequence: int, *, at: datetime) -> Entry:
    """A new entry with its number."""
    return Entry(
        sequence=sequence, entry_id=entry.entry_id, fingerprint=entry.fingerprint, recorded_at=at, body=entry.body
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def read_life(log: Container, document: Document) -> Life:
    """A header. Raises ``Corrupt``."""
    return Life(header=_decode(_HEADER, log, document, "a header"), version=document.version, token=document.token)


def read_entry(log: Container, document: Document) -> Entry | None:
    """An entry, or None for a fence. Raises ``Corrupt``."""
    body = _decode(_ENTRY, log, document, "an entry")
    if body is None:
        return None
    return Entry(
        sequence=keys.entry_number(document.sort),
        entry_id=body.entry_id,
        fingerprint=body.fingerprint,
        recorded_at=body.recorded_at,
        body=body.body,
    )


def read_marker(log: Container, document: Document) -> Marker:
    """A marker. Raises ``Corrupt``."""
    body = _decode(_MARKER, log, document, "a marker")
    return Marker(
        sequence=body.sequence,
        fingerprint=body.fingerprint,
        commit_id=document.commit_id,
        version=document.version,
    )


def _decode(decoder: msgspec.json.Decoder[Body], log: Container, document: Document, what: str) -> Body:
    try:
        return decoder.decode(document.body)
    except msgspec.DecodeError as exc:
        _refuse(log, document, what, exc)


def _refuse(log: Container, document: Document, what: str, cause: Exception) -> NoReturn:
    raise Corrupt(
        f"{what} of the log {'/'.join(log.name)!a} cannot be read; it was not written by this release, or changed "
        "since. Restore it from a copy, or clear the log",
        log="/".join(log.name),
        kind=log.kind.value,
        sort=document.sort,
    ) from cause
