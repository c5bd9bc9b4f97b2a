"""A context in a file: a line that says what it is, a line a turn, and a line that proves that none is missing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

import msgspec
from blake3 import blake3

from perdure.domain.turn import NewTurn, Turn, check_turn, content_hash, parse_id
from perdure.errors import Corrupt, DigestMismatch, Invalid, LegacyArtifact, LimitExceeded

FORMAT: Final = "perdure-turns"
VERSION: Final = 1
LINE_BYTES_MAX: Final = 96 * 1_048_576  # the largest payload in base64, with room for the rest


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    format: str
    version: int
    context_id: str
    labels: tuple[str, ...] = ()


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    turn_id: str
    depth: int
    type_id: str
    type_version: int
    content_hash: str
    payload: str
    idempotency_key: str | None = None
    recorded_at: str | None = None


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    end: bool
    turns: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferHead:
    """Where exported turns come from."""

    context_id: str
    labels: tuple[str, ...]


class TransferWriter:
    """Writes the lines of one context; the last one carries a hash of all before it."""

    def __init__(self) -> None:
        self._hash = blake3()
        self._turns = 0

    def head(self, *, context_id: str, labels: tuple[str, ...]) -> bytes:
        """The first line."""
        return self._add(_Head(format=FORMAT, version=VERSION, context_id=context_id, labels=labels))

    def turn(self, turn: Turn) -> bytes:
        """The line of the next turn."""
        self._turns += 1
        return self._add(
            _Line(
                turn_id=turn.turn_id,
                depth=turn.depth,
                type_id=turn.type_id,
                type_version=turn.type_version,
                content_hash=turn.content_hash,
                payload=base64.b64encode(turn.payload).decode(),
                idempotency_key=turn.idempotency_key,
                recorded_at=None if turn.recorded_at is None else turn.recorded_at.isoformat(),
            )
        )

    def end(self) -> bytes:
        """The last line."""
        return self._add(_End(end=True, turns=self._turns, digest=self._hash.hexdigest()))

    def _add(self, line: msgspec.Struct) -> bytes:
        encoded = msgspec.json.encode(line) + b"\n"
        self._hash.update(encoded)
        return encoded


class TransferReader:
    """Reads those lines, in their order. Raises ``Corrupt`` for anything else, and at the end if it is not whole.

    A line above ``line_bytes_max`` is ``LimitExceeded``, and so is a turn that is above what may be appended. A file
    is not to be read in longer pieces than that, or one line of it would have to be in memory first.
    """

    def __init__(self) -> None:
        self._hash = blake3()
        self._lines = 0
        self._turns = 0
        self._keys: set[str] = set()
        self._head: TransferHead | None = None
        self._is_ended = False

    def read(self, line: bytes) -> NewTurn | TransferHead | None:
        """What a line says: the head, a turn to append, or None for the last line, which was verified."""
        self._lines += 1
        if self._is_ended:
            raise Corrupt(f"line {self._lines}: there is something after the end; this is not one exported context")
        if len(line) > LINE_BYTES_MAX:
            raise LimitExceeded(
                f"line {self._lines} has more than {LINE_BYTES_MAX} bytes (line_bytes_max); no exported turn has",
                limit="line_bytes_max",
                allowed=LINE_BYTES_MAX,
                actual=len(line),
            )
        try:
            found: TransferHead | NewTurn | None = None
            if self._head is None:
                found = self._head = self._read_head(line)
            elif line.startswith(b'{"end"'):
                self._read_end(line)
            else:
                found = self._read_turn(line, self._head)
        except (msgspec.MsgspecError, UnicodeDecodeError, Invalid) as exc:
            raise Corrupt(f"line {self._lines} is not one of an exported context; export it again") from exc
        self._hash.update(line)
        return found

    def finish(self) -> None:
        """Raise ``Corrupt`` unless the last line was read."""
        if not self._is_ended:
            raise Corrupt(f"the file ends after {self._turns} turns, without its last line; export it again")

    def _read_head(self, line: bytes) -> TransferHead:
        head = msgspec.json.decode(line, type=_Head)
        if head.format != FORMAT:
            raise Corrupt(f"the file is not {FORMAT} but {ascii(head.format)[:40]}; expected what an export wrote")
        if head.version != VERSION:
            raise LegacyArtifact(f"the file is {FORMAT} {head.version}; this release reads {VERSION}, use another one")
        parse_id(head.context_id, what="a context's id")
        return TransferHead(context_id=head.context_id, labels=head.labels)

    def _read_turn(self, line: bytes, head: TransferHead) -> NewTurn:
        kept = msgspec.json.decode(line, type=_Line)
        if kept.depth != self._turns + 1:
            raise Corrupt(
                f"line {self._lines} has turn number {kept.depth}, and number {self._turns + 1} is expected: lines "
                "are missing, or not in their order; export it again"
            )
        try:
            payload = base64.b64decode(kept.payload, validate=True)
        except ValueError as exc:
            raise Corrupt(f"the payload in line {self._lines} is not base64; export it again") from exc
        if content_hash(payload) != kept.content_hash:
            raise DigestMismatch(f"the payload in line {self._lines} was changed in the file; export it again")
        self._turns += 1
        return check_turn(
            NewTurn(
                type_id=kept.type_id,
                type_version=kept.type_version,
                payload=payload,
                idempotency_key=self._key(kept, head),
            )
        )

    def _key(self, kept: _Line, head: TransferHead) -> str:
        # A turn without a key gets one, so that an import that was interrupted can be done again; always the same one.
        # So does one whose key came before: a fork's history is of several contexts, and each has keys of its own.
        key = kept.idempotency_key
        parse_id(kept.turn_id, what="a turn's id")
        made = f"import:{head.context_id}:{kept.turn_id}"
        number = 0
        while key is None or key in self._keys:
            key = f"{made}:{number}" if number else made
            number += 1
        self._keys.add(key)
        return key

    def _read_end(self, line: bytes) -> None:
        end = msgspec.json.decode(line, type=_End)
        if end.turns != self._turns:
            raise DigestMismatch(f"the file has {self._turns} turns, and its last line tells of {end.turns}")
        if not end.end or end.digest != self._hash.hexdigest():
            raise DigestMismatch("the lines of the file are not those that its last line tells of; export it again")
        self._is_ended = True
