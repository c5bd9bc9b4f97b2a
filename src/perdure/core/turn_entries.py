"""Turns as entries of a log: what is kept of each, so that one read tells how the chain goes on.

A chain is made of *runs*: turns that follow each other in one context's log. Every turn says where its run begins and
which turn came before that, so that a reader crosses a run in one step, however long it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec
from blake3 import blake3

from perdure.domain.log import Entry, NewEntry
from perdure.domain.turn import NO_TURN, NewTurn, Turn, content_hash, make_turn_id
from perdure.errors import DigestMismatch

CLOSED_ID: Final = "closed"  # of the last entry of a context that is being removed: no key and no id is this
_KEYED: Final = "k"  # ids of entries whose turn has an idempotency key; others are ids that nobody gives


class _Body(msgspec.Struct, omit_defaults=True, frozen=True):
    """What is kept. Short names: they are in every document."""

    a: int  # where the run begins
    b: int  # the turn before that
    d: int  # depth
    t: str  # type id
    v: int  # type version
    h: bytes  # BLAKE3-256 of the payload
    n: int  # bytes of payload
    k: str | None = None  # idempotency key
    p: bytes | None = None  # the payload, unless it is an object


class _PlaceInBody(msgspec.Struct, frozen=True):
    """The part of what is kept that says where a turn is; the payload is passed over without a copy."""

    a: int
    b: int
    d: int


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Body)
_PLACE_DECODER: Final = msgspec.msgpack.Decoder(_PlaceInBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a turn is in the graph."""

    number: int
    position: int
    anchor: int
    entered: int
    depth: int

    @property
    def turn_id(self) -> int:
        """The turn's id."""
        return make_turn_id(self.number, self.position)

    @property
    def parent_id(self) -> int:
        """The id of the turn before it, 0 for a root."""
        return make_turn_id(self.number, self.position - 1) if self.position > self.anchor else self.entered

    @property
    def anchor_depth(self) -> int:
        """The depth of the first turn of its run."""
        return self.depth - (self.position - self.anchor)

    def covers(self, number: int, position: int) -> bool:
        """Whether that turn is of this run, and not after this one."""
        return number == self.number and self.anchor <= position <= self.position

    def following(self) -> Place:
        """The place of a turn that is appended to this one, in the same context."""
        return Place(
            number=self.number,
            position=self.position + 1,
            anchor=self.anchor,
            entered=self.entered,
            depth=self.depth + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurn:
    """A turn as it was read. ``payload`` is None if it is an object."""

    place: Place
    type_id: str
    type_version: int
    digest: str
    payload_bytes: int
    payload: bytes | None = field(repr=False)
    idempotency_key: str | None
    entry: Entry = field(repr=False)

    def as_turn(self, payload: bytes) -> Turn:
        """What callers see. Raises ``DigestMismatch`` if the payload is not what was appended."""
        if content_hash(payload) != self.digest:
            raise DigestMismatch(
                f"the payload of turn {self.place.turn_id} is not what was appended: its hash is not {self.digest}",
                turn_id=str(self.place.turn_id),
            )
        return Turn(
            context_id=str(self.place.number),
            turn_id=str(self.place.turn_id),
            parent_turn_id=str(self.place.parent_id),
            depth=self.place.depth,
            type_id=self.type_id,
            type_version=self.type_version,
            payload=payload,
            content_hash=self.digest,
            idempotency_key=self.idempotency_key,
            recorded_at=self.entry.recorded_at,
        )


def entry_id_of(key: str | None, *, unique: str) -> str:
    """The id of a turn's entry: by its key, of any characters, or one that nobody else has."""
    return unique if key is None else f"{_KEYED}:{blake3(key.encode()).hexdigest()}"


def to_entry(turn: NewTurn, place: Place, *, entry_id: str, inline: bool) -> NewEntry:
    """The entry of a turn; ``inline`` says whether it holds the payload."""
    digest = blake3(turn.payload).digest()
    body = _Body(
        a=place.anchor,
        b=place.entered,
        d=place.depth,
        t=turn.type_id,
        v=turn.type_version,
        h=digest,
        n=len(turn.payload),
        k=turn.idempotency_key,
        p=turn.payload if inline else None,
    )
    # What the caller decided, and nothing that depends on when it was done: the parent only if it was named.
    named = None if turn.parent_turn_id == NO_TURN else turn.parent_turn_id
    content = (turn.type_id, turn.type_version, digest, named)
    fingerprint = blake3(_ENCODER.encode(content)).hexdigest()
    return NewEntry(entry_id=entry_id, fingerprint=fingerprint, body=_ENCODER.encode(body))


def place_of(number: int, entry: Entry) -> Place:
    """Where the turn in an entry of that context's log is, for whoever wants no more of it."""
    body = _PLACE_DECODER.decode(entry.body)
    return Place(number=number, position=entry.sequence, anchor=body.a, entered=body.b, depth=body.d)


def closing_entry() -> NewEntry:
    """The entry that ends a context: whoever reads it last finds no context, and nobody can append behind it."""
    return NewEntry(entry_id=CLOSED_ID, fingerprint=CLOSED_ID, body=b"")


def is_closed(entry: Entry) -> bool:
    """Whether this entry ends a context."""
    return entry.entry_id == CLOSED_ID


def from_entry(number: int, entry: Entry) -> StoredTurn:
    """The turn in an entry of that context's log."""
    body = _DECODER.decode(entry.body)
    place = Place(number=number, position=entry.sequence, anchor=body.a, entered=body.b, depth=body.d)
    return StoredTurn(
        place=place,
        type_id=body.t,
        type_version=body.v,
        digest=body.h.hex(),
        payload_bytes=body.n,
        payload=body.p,
        idempotency_key=body.k,
        entry=entry,
    )
