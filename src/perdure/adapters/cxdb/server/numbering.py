"""Numbers for turns and contexts, from 1 and without gaps, as the protocol's own servers give them.

A turn carries its number in the idempotency key under which it is appended, with what else a store of turns does not
keep: so whoever reads a turn knows its number. The way back, from a number to a turn, is a row. That row is written
twice: before the append, with all that is needed to append the same turn again, and, with the next write of any row,
with the turn's id. A context's row has its id, and another one, which is written with it, leads from the id to the
number. Whatever ends a process in between, the next one finds the last row, and appending again under the
same key tells which turn it is: no turn is without its number, and no number means two turns.

There must be one writer only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind
from perdure.domain.turn import NO_TURN, NewTurn, Turn, check_turn
from perdure.domain.versioned import PutRow, VersionedRow
from perdure.errors import ChainBroken, NotFound, PerdureError
from perdure.ports.rows import RowStore

REMEMBERED_MAX: Final = 10_000  # numbers of contexts and turns, and ids of contexts, that need not be looked up again
TYPE_ELSEWHERE: Final = "cxdb.type-in-key"  # the type of turns whose declared one no store keeps: an empty one, say

_Noted = TypeVar("_Noted")

_DIGITS: Final = 20  # of a number of 64 bits
_KEY: Final = "cxdb"
_CONTEXT: Final = "context/"
_TURN: Final = "turn/"
_NUMBER_OF_CONTEXT: Final = "number-of-context/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What was declared of a turn, and its own and its parent's number."""

    number: int
    parent: int
    encoding: int
    compression: int
    type_id: str


class Intent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An append that is about to be made: enough to make it again."""

    number: int
    context_id: str
    key: str
    type_id: str
    type_version: int
    digest: str
    parent_turn_id: str | None = None
    rebase: bool = True

    def turn(self, payload: bytes) -> NewTurn:
        """The turn to append."""
        return NewTurn(
            type_id=self.type_id,
            type_version=self.type_version,
            payload=payload,
            idempotency_key=self.key,
            parent_turn_id=self.parent_turn_id,
        )


class _Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a number: the id of what has it, or the intent to make that; or the number of an id."""

    id: str | None = None
    intent: Intent | None = None
    number: int | None = None


def declared_key(declared: Declared) -> tuple[str, str]:
    """The key under which a turn is appended, and the type that it has in the store."""
    numbers = f"{declared.number}.{declared.parent}.{declared.encoding}.{declared.compression}"
    try:
        check_turn(NewTurn(type_id=declared.type_id, type_version=0, payload=b""))
    except PerdureError:
        return f"{_KEY}:{numbers}:{declared.type_id}", TYPE_ELSEWHERE
    return f"{_KEY}:{numbers}", declared.type_id


def declared_of(turn: Turn) -> Declared:
    """What was declared of a turn. Raises ``ChainBroken`` for one that was not appended by this profile."""
    mark, _, rest = (turn.idempotency_key or "").partition(":")
    numbers, elsewhere, type_id = rest.partition(":")
    fields = numbers.split(".")
    if mark != _KEY or len(fields) != 4 or not all(field.isascii() and field.isdigit() for field in fields):  # noqa: PLR2004 - as above
        raise ChainBroken(
            f"turn {turn.turn_id} has no number: another writer appended it; the strict profile must be the only one",
            turn_id=turn.turn_id,
        )
    number, parent, encoding, compression = map(int, fields)
    return Declared(
        number=number,
        parent=parent,
        encoding=encoding,
        compression=compression,
        type_id=type_id if elsewhere else turn.type_id,
    )


class Numbering:
    """The numbers of one space. Its changes are made one after another, by whoever holds the only right to write."""

    def __init__(self, rows: RowStore, space: Space, *, timeout_s: float) -> None:
        self._rows = rows
        self._container = Container(kind=Kind.TURNS, space=space, name=("cxdb",))
        self._timeout_s = timeout_s
        self._known: OrderedDict[str, str] = OrderedDict()
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._unwritten: PutRow | None = None
        self._next = {_CONTEXT: 1, _TURN: 1}
        self.unsettled: Intent | None = None

    @property
    def next_turn(self) -> int:
        """The number of the next turn."""
        return self._next[_TURN]

    async def open(self) -> None:
        """See which numbers were given; ``unsettled`` is the append of which it is not known whether it was made."""
        for prefix in (_CONTEXT, _TURN):
            page = await self._rows.query(
                self._container, prefix=prefix, limit=1, reverse=True, timeout_s=self._timeout_s
            )
            if page.rows:
                last = page.rows[0]
                self.unsettled = _value(last).intent
                number = int(last.key.removeprefix(prefix))
                self._next[prefix] = number if self.unsettled else number + 1

    async def context_id(self, number: int) -> str:
        """The id of a context. Raises ``NotFound``."""
        return await self._find(_CONTEXT, number, resource="context")

    async def turn_id(self, number: int) -> str:
        """The id of a turn, ``"0"`` of none. Raises ``NotFound``."""
        return NO_TURN if number == 0 else await self._find(_TURN, number, resource="turn")

    async def contexts(self, *, after: int, limit: int) -> tuple[dict[int, str], int | None]:
        """The ids of contexts by their numbers, those above ``after``; and after which to go on, if there are more."""
        page = await self._rows.query(
            self._container,
            prefix=_CONTEXT,
            after=_key(_CONTEXT, after) if after else None,
            limit=limit,
            timeout_s=self._timeout_s,
        )
        found: dict[int, str] = {}
        for row in page.rows:
            number, context_id = int(row.key.removeprefix(_CONTEXT)), _value(row).id
            if context_id is not None and number < self._next[_CONTEXT]:
                found[number] = context_id
        return found, max(found, default=None) if page.more else None

    async def context_number(self, context_id: str) -> int | None:
        """The number of a context, None if it never got one."""
        number = self._numbers.get(context_id)
        if number is None:
            key = _NUMBER_OF_CONTEXT + context_id
            row = (await self._rows.get(self._container, [key], timeout_s=self._timeout_s)).get(key)
            number = None if row is None else _value(row).number
            # A number whose row was written and nobody told of it is the next one's.
            if number is None or number >= self._next[_CONTEXT] or await self.context_id(number) != context_id:
                return None
            self._note(self._numbers, context_id, number)
        return number

    async def add_context(self, context_id: str) -> int:
        """Give the next number to a context that was made."""
        number = self._next[_CONTEXT]
        back = PutRow(key=_NUMBER_OF_CONTEXT + context_id, value=msgspec.json.encode(_Row(number=number)))
        await self._write(_put(_CONTEXT, number, _Row(id=context_id)), back)
        self._next[_CONTEXT] = number + 1
        self._note(self._known, _key(_CONTEXT, number), context_id)
        self._note(self._numbers, context_id, number)
        return number

    async def intend(self, intent: Intent) -> None:
        """Say what is about to be appended, under the number ``next_turn``."""
        assert self.unsettled is None, "one append at a time"
        assert intent.number == self.next_turn, "numbers have no gaps"
        await self._write(_put(_TURN, intent.number, _Row(intent=intent)))
        self.unsettled = intent

    def settle(self, turn_id: str) -> None:
        """The turn was appended. Its row is written with the next one; until then a new process settles it again."""
        assert self.unsettled is not None, "something was intended"
        number = self.unsettled.number
        self._unwritten = _put(_TURN, number, _Row(id=turn_id))
        self._note(self._known, _key(_TURN, number), turn_id)
        self._next[_TURN] = number + 1
        self.unsettled = None

    def drop(self) -> None:
        """The turn was not appended and never will be: its number is the next one's."""
        self.unsettled = None

    async def _find(self, prefix: str, number: int, *, resource: str) -> str:
        key = _key(prefix, number)
        found = self._known.get(key)
        if found is None and 0 < number < self._next[prefix]:
            if self._unwritten is not None and self._unwritten.key == key:
                found = msgspec.json.decode(self._unwritten.value, type=_Row).id
            else:
                row = (await self._rows.get(self._container, [key], timeout_s=self._timeout_s)).get(key)
                found = None if row is None else _value(row).id
        if found is None:
            raise NotFound(f"resource not found: {resource} ({number})", resource=resource, id=str(number))
        self._note(self._known, key, found)
        return found

    async def _write(self, *rows: PutRow) -> None:
        written = rows if self._unwritten is None else (self._unwritten, *rows)
        await self._rows.write(self._container, written, timeout_s=self._timeout_s)
        self._unwritten = None

    def _note(self, notes: OrderedDict[str, _Noted], key: str, value: _Noted) -> None:
        notes[key] = value
        notes.move_to_end(key)
        while len(notes) > REMEMBERED_MAX:
            notes.popitem(last=False)


def _key(prefix: str, number: int) -> str:
    return f"{prefix}{number:0{_DIGITS}}"


def _put(prefix: str, number: int, row: _Row) -> PutRow:
    return PutRow(key=_key(prefix, number), value=msgspec.json.encode(row))


def _value(row: VersionedRow) -> _Row:
    return msgspec.json.decode(row.value, type=_Row)
