"""CQL: what may be asked about contexts, from text to a tree of bounded depth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from perdure.adapters.cxdb.http_server.limits import CQL_CHARS_MAX, CQL_DEPTH_MAX

_TEXT_OPERATORS: Final = frozenset({"=", "!=", "^=", "~=", "^~=", "IN"})
_SET_OPERATORS: Final = frozenset({"=", "!=", "IN"})
_ORDER_OPERATORS: Final = frozenset({"=", "!=", ">", ">=", "<", "<="})

OPERATORS: Final[Mapping[str, frozenset[str]]] = {
    "tag": _TEXT_OPERATORS,
    "title": _TEXT_OPERATORS,
    "user": _TEXT_OPERATORS,
    "service": _TEXT_OPERATORS,
    "host": _TEXT_OPERATORS,
    "label": _SET_OPERATORS,
    "trace_id": frozenset({"=", "!="}),
    "id": _SET_OPERATORS,
    "parent": _SET_OPERATORS,
    "root": _SET_OPERATORS,
    "created": _ORDER_OPERATORS,
    "depth": _ORDER_OPERATORS,
    "is_live": frozenset({"="}),
}
_NUMBERS: Final = frozenset({"id", "parent", "root", "depth"})

Literal: TypeAlias = str | int | bool | timedelta | datetime  # a timedelta is how long before now


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A field compared with a value, or with several for ``IN``."""

    field: str
    operator: str
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """True if all of it is."""

    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Some:
    """True if any of it is."""

    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Negation:
    """True if it is not."""

    part: Query


Query: TypeAlias = "Comparison | Every | Some | Negation"


class QueryError(Exception):
    """A query that is none. ``error_type`` is one of the four that readers know; ``offset`` counts characters."""

    def __init__(self, error_type: str, message: str, *, field: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.field = field
        self.offset = offset


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[+-]?[0-9]+(?:\.[0-9]+)?)
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<operator>\^~=|\^=|~=|!=|>=|<=|=|>|<)
    |(?P<mark>[(),])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_DIGITS_MAX: Final = 20  # of an integer of 64 bits
_RELATIVE: Final = re.compile(r"-([0-9]{1,6})([hdm])", re.ASCII)
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def parse_query(text: str) -> Query:
    """The tree of a query. Raises ``QueryError``, and nothing else, for any text that is none."""
    if len(text) > CQL_CHARS_MAX:
        raise QueryError("SyntaxError", f"query has {len(text)} characters, at most {CQL_CHARS_MAX} (cql_chars_max)")
    return _Parser(_tokens(text), end=len(text)).query()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None or match.lastgroup is None:
            what = "text that does not end" if text[offset] in "'\"" else f"unexpected character {text[offset]!a}"
            raise QueryError("SyntaxError", what, offset=offset)
        if match.lastgroup != "space":
            found.append(_Token(match.lastgroup, match.group(), offset))
        offset = match.end()
    return found


class _Parser:
    """Reads tokens from left to right, never back."""

    def __init__(self, tokens: list[_Token], *, end: int) -> None:
        self._tokens = tokens
        self._next = 0
        self._end = _Token("end", "", end)

    def query(self) -> Query:
        """All of it."""
        parsed = self._either(0)
        rest = self._peek()
        if rest.kind != "end":
            raise _unexpected(rest, "AND, OR or the end")
        return parsed

    def _either(self, depth: int) -> Query:
        parts = [self._both(depth)]
        while self._accept_word("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Some(parts=tuple(parts))

    def _both(self, depth: int) -> Query:
        parts = [self._maybe_not(depth)]
        while self._accept_word("and"):
            parts.append(self._maybe_not(depth))
        return parts[0] if len(parts) == 1 else Every(parts=tuple(parts))

    def _maybe_not(self, depth: int) -> Query:
        if self._accept_word("not"):
            return Negation(part=self._primary(depth))
        return self._primary(depth)

    def _primary(self, depth: int) -> Query:
        token = self._take()
        if token.text == "(" and token.kind == "mark":
            if depth >= CQL_DEPTH_MAX:
                raise QueryError(
                    "SyntaxError",
                    f"parentheses within each other are at most {CQL_DEPTH_MAX} deep (cql_depth_max)",
                    offset=token.offset,
                )
            inner = self._either(depth + 1)
            self._expect(")")
            return inner
        if token.kind != "word" or token.text.lower() in {"and", "or", "not", "in"}:
            raise _unexpected(token, "a field or '('")
        return self._comparison(token)

    def _comparison(self, name: _Token) -> Query:
        allowed = OPERATORS.get(name.text)
        if allowed is None:
            raise QueryError(
                "UnknownField",
                f"unknown field {ascii(name.text)[:80]}; expected one of {', '.join(OPERATORS)}",
                field=name.text[:80],
                offset=name.offset,
            )
        token = self._take()
        is_in = token.kind == "word" and token.text.lower() == "in"
        if token.kind != "operator" and not is_in:
            raise _unexpected(token, "an operator")
        operator = "IN" if is_in else token.text
        if operator not in allowed:
            raise QueryError(
                "InvalidOperator",
                f"operator {operator} is not one of {name.text}; expected one of {' '.join(sorted(allowed))}",
                field=name.text,
                offset=token.offset,
            )
        values = self._list(name.text) if is_in else (self._value(name.text),)
        return Comparison(field=name.text, operator=operator, values=values)

    def _list(self, field: str) -> tuple[Literal, ...]:
        self._expect("(")
        values = [self._value(field)]
        while self._peek().text == "," and self._peek().kind == "mark":
            self._take()
            values.append(self._value(field))
        self._expect(")")
        return tuple(values)

    def _value(self, field: str) -> Literal:
        token = self._take()
        if token.kind not in {"text", "number"} and token.text.lower() not in {"true", "false"}:
            raise _unexpected(token, "a value")
        return _literal(field, token)

    def _accept_word(self, word: str) -> bool:
        token = self._peek()
        if token.kind == "word" and token.text.lower() == word:
            self._next += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        token = self._take()
        if token.kind != "mark" or token.text != mark:
            raise _unexpected(token, f"'{mark}'")

    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else self._end

    def _take(self) -> _Token:
        token = self._peek()
        self._next += 1
        return token


def _literal(field: str, token: _Token) -> Literal:
    if field in _NUMBERS:
        digits = token.text.lstrip("+-")
        if token.kind == "number" and digits.isdigit() and len(digits) <= _DIGITS_MAX:
            return int(token.text)
        raise _wrong_value(field, token, "an integer without quotes")
    if field == "is_live":
        if token.kind == "word":
            return token.text.lower() == "true"
        raise _wrong_value(field, token, "true or false")
    if token.kind != "text":
        raise _wrong_value(field, token, "text in quotes")
    value = _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), token.text[1:-1])
    if field == "created":
        return _moment(token, value)
    return value


def _moment(token: _Token, value: str) -> timedelta | datetime:
    """How long before now, or when: ``-<n>h``, ``d`` or ``m`` (minutes), a date, or RFC 3339."""
    relative = _RELATIVE.fullmatch(value)
    if relative is not None:
        return int(relative[1]) * _UNITS[relative[2]]
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise _wrong_value("created", token, "a time such as '-24h', '2026-01-30' or RFC 3339") from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _unexpected(token: _Token, expected: str) -> QueryError:
    found = "the end" if token.kind == "end" else ascii(token.text)[:80]
    return QueryError("SyntaxError", f"unexpected {found}; expected {expected}", offset=token.offset)


def _wrong_value(field: str, token: _Token, expected: str) -> QueryError:
    return QueryError(
        "InvalidValue",
        f"{ascii(token.text)[:80]} is no value of {field}; expected {expected}",
        field=field,
        offset=token.offset,
    )
