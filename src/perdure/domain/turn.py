"""Turns: what was said and done in a conversation, in a graph that forks. Contexts are movable heads onto it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from perdure.domain.container import Container, Space
from perdure.domain.ids import check_text
from perdure.domain.kinds import Kind
from perdure.domain.object import object_digest
from perdure.errors import Invalid, LimitExceeded

POSITION_BITS: Final = 24
TURNS_MAX: Final = 2**POSITION_BITS - 1  # turns appended to one context; whoever needs more forks it
CONTEXT_NUMBER_MAX: Final = 2**39 - 1  # with a position below it, an id is an integer that every database holds
TURN_PAYLOAD_BYTES_MAX: Final = 64 * 1_048_576 - 4_096  # what a frame of CXDB carries, less room for the rest
INLINE_BYTES_MAX: Final = 65_536  # larger payloads are objects, so that a page of turns stays a page
TYPE_ID_CHARS_MAX: Final = 256
TYPE_VERSION_MAX: Final = 2**32 - 1  # what CXDB's protocol carries
KEY_BYTES_MAX: Final = 1_024  # an idempotency key; it is kept with the turn, and found by its hash
LABELS_MAX: Final = 16  # of one context, each a document of its own
LABEL_CHARS_MAX: Final = 100  # with a context's number it is part of a key on every engine
TURNS_PAGE_MAX: Final = 500  # turns of one page
CONTEXTS_PAGE_MAX: Final = 100  # contexts of one page, each of which is looked at
BUNDLES_PAGE_MAX: Final = 100  # ids of one page, each of which is a row that is read
BUNDLE_BYTES_MAX: Final = 262_144  # one document on every engine
BUNDLE_ID_CHARS_MAX: Final = 128
NO_TURN: Final = "0"  # the id that means: no turn, the empty root

_ID: Final = re.compile(r"0|[1-9][0-9]{0,19}")
_BUNDLE_ID: Final = re.compile(r"[A-Za-z0-9_.-]+")
_ID_MAX: Final = 2**64 - 1  # an unsigned integer of 64 bits, in CXDB and here


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A conversation as it is now: its head and what it was made with.

    ``head_turn_id`` is ``"0"`` and ``head_depth`` 0 while there is no turn. ``base_turn_id`` is the turn that it was
    forked from, ``"0"`` for a root.
    """

    context_id: str
    head_turn_id: str
    head_depth: int
    base_turn_id: str = NO_TURN
    labels: tuple[str, ...] = ()
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn before it is appended.

    ``parent_turn_id`` None means the head at the moment of the commit. With an ``idempotency_key`` appending again is
    safe: the key means one turn of this context for ever.
    """

    type_id: str
    type_version: int
    payload: bytes = field(repr=False)
    idempotency_key: str | None = None
    parent_turn_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRef:
    """Where a turn is. ``depth`` counts turns from the root, the first is 1; ``replayed``: it was there before."""

    context_id: str
    turn_id: str
    depth: int
    content_hash: str
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A kept turn. ``content_hash`` is BLAKE3-256 of ``payload``, in hex; it was verified when this was read.

    ``context_id`` is where it was appended; a fork lists it too. ``idempotency_key`` is None where the backend does not
    give keys back, ``recorded_at`` where it does not tell times.
    """

    context_id: str
    turn_id: str
    parent_turn_id: str
    depth: int
    type_id: str
    type_version: int
    payload: bytes = field(repr=False)
    content_hash: str
    idempotency_key: str | None = None
    recorded_at: datetime | None = None


def content_hash(payload: bytes) -> str:
    """BLAKE3-256 of bytes, in lower-case hex: the address of an object, and what a turn is verified by."""
    return object_digest(payload)


def parse_id(value: object, *, what: str) -> int:
    """The number of an id (``what``, with its article). Raises ``Invalid`` for anything but an unsigned integer."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None or int(value) > _ID_MAX:
        raise Invalid(f"{ascii(value)[:80]} is not {what}: expected an unsigned integer of 64 bits, in decimal digits")
    return int(value)


def make_turn_id(context_number: int, position: int) -> int:
    """The id of the turn at a position (from 1) of a context: it names where it is kept."""
    return context_number << POSITION_BITS | position


def split_turn_id(turn_id: int) -> tuple[int, int]:
    """The number of the context that keeps a turn, and its position there."""
    return turn_id >> POSITION_BITS, turn_id & TURNS_MAX


def check_turn(turn: NewTurn) -> NewTurn:
    """The turn, if it can be appended. Raises ``Invalid``, ``LimitExceeded``; nothing of its payload is shown."""
    if not isinstance(turn.payload, bytes):
        raise Invalid(f"a turn's payload is bytes, not {type(turn.payload).__name__}")
    _refuse_above("turn_payload_bytes_max", TURN_PAYLOAD_BYTES_MAX, len(turn.payload), "bytes of payload")
    check_text(
        turn.type_id,
        what="a turn's type id",
        limit="type_id_chars_max",
        chars_max=TYPE_ID_CHARS_MAX,
        blank_edges_allowed=True,
    )
    version: object = turn.type_version
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= TYPE_VERSION_MAX:
        raise Invalid(f"a turn's type version is {ascii(version)[:40]}; expected 0 to {TYPE_VERSION_MAX}")
    if turn.idempotency_key is not None:
        check_key(turn.idempotency_key)
    if turn.parent_turn_id is not None:
        parse_id(turn.parent_turn_id, what="a turn's id")
    return turn


def check_key(key: object) -> str:
    """An idempotency key: 1 to ``KEY_BYTES_MAX`` bytes of UTF-8, any characters."""
    if not isinstance(key, str) or not key:
        raise Invalid("an idempotency key is text that is not empty; leave it out for a turn that has none")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:
        raise Invalid(f"an idempotency key holds half a character (a lone surrogate) at {exc.start}") from exc
    _refuse_above("key_bytes_max", KEY_BYTES_MAX, size, "bytes in an idempotency key")
    return key


def check_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of a context, each one line of text, none twice."""
    _refuse_above("labels_max", LABELS_MAX, len(labels), "labels of one context")
    for label in labels:
        check_text(label, what="a label", limit="label_chars_max", chars_max=LABEL_CHARS_MAX, blank_edges_allowed=True)
    return tuple(dict.fromkeys(labels))


def check_bundle(bundle_id: str, bundle: bytes) -> None:
    """Raise unless a registry bundle can be kept under this id."""
    check_bundle_id(bundle_id)
    if not isinstance(bundle, bytes):
        raise Invalid(f"a bundle is bytes, not {type(bundle).__name__}")
    _refuse_above("bundle_bytes_max", BUNDLE_BYTES_MAX, len(bundle), "bytes in a bundle")


def check_bundle_id(bundle_id: str) -> str:
    """A bundle's id: letters, digits, dot, dash and underscore, which are the same in an address and a file name."""
    check_text(bundle_id, what="a bundle id", limit="bundle_id_chars_max", chars_max=BUNDLE_ID_CHARS_MAX)
    if _BUNDLE_ID.fullmatch(bundle_id) is None:
        raise Invalid(
            f"{ascii(bundle_id)[:80]} is not a bundle id: expected letters, digits, dots, dashes, underscores"
        )
    return bundle_id


def check_page(limit: object, *, name: str, allowed: int, of: str) -> None:
    """Raise unless a page of ``limit`` may be asked for; 0 gives nothing."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise Invalid(f"a page of {ascii(limit)[:40]} {of}; expected 0 to {allowed} ({name})")
    _refuse_above(name, allowed, limit, f"{of} in one page")


def context_container(space: Space, number: int) -> Container:
    """Where the turns of a context are kept."""
    return Container(kind=Kind.TURNS, space=space, name=("context", str(number)))


def forks_container(space: Space, number: int) -> Container:
    """Where the contexts are named that were forked from a context's turns."""
    return Container(kind=Kind.TURNS, space=space, name=("forks", str(number)))


def snapshots_container(space: Space, number: int) -> Container:
    """Where the filesystem snapshots of a context's turns are named."""
    return Container(kind=Kind.TURNS, space=space, name=("snapshots", str(number)))


def labels_container(space: Space) -> Container:
    """Where the contexts of each label are named."""
    return Container(kind=Kind.TURNS, space=space, name=("labels",))


def bundles_container(space: Space) -> Container:
    """Where registry bundles are kept."""
    return Container(kind=Kind.TURNS, space=space, name=("bundles",))


def numbers_container(space: Space) -> Container:
    """Where the next number of a context is kept."""
    return Container(kind=Kind.TURNS, space=space, name=("numbers",))


def _refuse_above(name: str, allowed: int, actual: int, of: str) -> None:
    if actual > allowed:
        raise LimitExceeded(f"{actual} {of}, at most {allowed} ({name})", limit=name, allowed=allowed, actual=actual)
