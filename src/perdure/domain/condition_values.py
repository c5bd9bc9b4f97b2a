"""What the values of conditions can do: compare, calculate, and the closed table of functions.

A type that does not fit raises ``TypeError``, a number or text that is too large ``OverflowError``; both in words that
hold no value, because values may be personal and errors are kept.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Any, Final, TypeAlias
from uuid import UUID

from perdure.errors import Invalid

NUMBER_MAX: Final = 10**30  # beyond any amount or count; each calculation costs the same below it
TEXT_CHARS_MAX: Final = 102_400  # of what a function gives; as large as an attribute may be
ROUND_DIGITS_MAX: Final = 15  # what a double has; decimals of that scale fit the precision below
FUNCTIONS_MAX: Final = 100  # of one table: the built-in ones and a host's

Number: TypeAlias = "int | float | Decimal"
ConditionFunction: TypeAlias = Callable[..., Any]
Count: TypeAlias = Callable[[], None]

_PRECISION: Final = 60  # 30 digits before the point, and as many after it as anybody calculates with
_CONTEXT: Final = Context(prec=_PRECISION, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
_PLAIN: Final = (str, bytes, datetime, UUID)
_DECIMAL: Final = re.compile(r"-?[0-9]{1,31}(\.[0-9]{1,28})?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def type_word(value: object) -> str:
    """What a value is, for messages."""
    if value is None:
        return "null"
    words = {bool: "true or false", str: "text", list: "a list", dict: "a map", datetime: "a time", bytes: "bytes"}
    return words.get(type(value), type(value).__name__)


def same(left: object, right: object, *, count: Count) -> bool:
    """Whether two values are equal: numbers by value, true and false only to themselves, text never to a number.

    ``count`` is called once for each pair that is compared.
    """
    count()
    if _is_number(left) and _is_number(right):
        return bool(_comparable(left) == _comparable(right))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b, count=count) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key], count=count) for key in left)
    if left is None or isinstance(left, bool):
        return left is right
    return any(isinstance(left, kind) and isinstance(right, kind) for kind in _PLAIN) and left == right


def ordered(symbol: str, left: object, right: object) -> bool:
    """Whether ``left`` stands so to ``right``: numbers with numbers, texts with texts, times with times."""
    if _is_number(left) and _is_number(right):
        return bool(_ORDERS[symbol](_comparable(left), _comparable(right)))
    for kind in (str, datetime):
        if isinstance(left, kind) and isinstance(right, kind):
            return bool(_ORDERS[symbol](left, right))
    raise TypeError(f"{type_word(left)} {symbol} {type_word(right)}: only numbers, texts and times have an order")


def contains(whole: object, part: object, *, count: Count) -> bool:
    """Whether a list has an equal item, a text has that text in it, or a map has that key."""
    if isinstance(whole, list):
        return any(same(item, part, count=count) for item in whole)
    if isinstance(whole, str | dict) and isinstance(part, str):
        return part in whole
    raise TypeError(f"{type_word(part)} in {type_word(whole)}: only lists, maps and texts contain something")


def calculate(symbol: str, left: Any, right: Any) -> Number:
    """A sum, difference, product, quotient, whole quotient or remainder, rounded down as in ``-7 // 2 == -4``.

    Raises ``ZeroDivisionError`` for a division by zero.
    """
    if not (_is_number(left) and _is_number(right)):
        raise TypeError(f"{type_word(left)} {symbol} {type_word(right)}: only numbers are calculated with")
    _bounded(left)
    _bounded(right)
    if symbol in {"/", "//", "%"} and not right:
        raise ZeroDivisionError
    if not (isinstance(left, Decimal) or isinstance(right, Decimal)):
        return _bounded(_NUMBERS[symbol](left, right))
    if isinstance(left, float) or isinstance(right, float):
        raise TypeError(f"a decimal {symbol} a float: write the fraction as decimal('1.5')")
    try:
        return _bounded(_DECIMALS[symbol](Decimal(left), Decimal(right)))
    except InvalidOperation as exc:
        raise OverflowError(f"a quotient of more than {_PRECISION} digits") from exc


def negated(value: Any) -> Number:
    """The number with the other sign."""
    if not _is_number(value):
        raise TypeError(f"-{type_word(value)}: only numbers have a sign")
    # Unary minus of a decimal rounds to the context of the thread.
    return value.copy_negate() if isinstance(value, Decimal) else _bounded(-value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionFunctions:
    """The functions that conditions may call, by name. Immutable: ``adding`` gives another table."""

    functions: Mapping[str, ConditionFunction] = field(repr=False)
    added: Mapping[str, ConditionFunction] = field(default_factory=dict, repr=False)

    def __contains__(self, name: str) -> bool:
        return name in self.functions or name in self.added

    def __iter__(self) -> Iterator[str]:
        return iter(sorted([*self.functions, *self.added]))

    def adding(self, name: str, function: ConditionFunction) -> ConditionFunctions:
        """This table with one function more, which must be pure and quick: it has no time limit of its own.

        Raises ``Invalid`` for a name that is taken, or is no name, and beyond ``FUNCTIONS_MAX`` functions.
        """
        if _NAME.fullmatch(name) is None or name == EXISTS:
            raise Invalid(f"{name!r:.80} cannot name a function; expected a letter and up to 63 letters, digits and _")
        if name in self:
            raise Invalid(f"there is a function {name!r} already; give yours another name", function=name)
        if len(self.functions) + len(self.added) >= FUNCTIONS_MAX:
            raise Invalid(f"a table has at most {FUNCTIONS_MAX} functions (functions_max)")
        return ConditionFunctions(functions=self.functions, added={**self.added, name: function})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _comparable(value: Any) -> Any:
    # Exact, and independent of the thread's context, by which Decimal(value) may refuse a float.
    return Decimal.from_float(value) if isinstance(value, float) else Decimal(value)  # noqa: FURB164


def _bounded(value: Number) -> Number:
    if not -NUMBER_MAX <= _comparable(value) <= NUMBER_MAX:
        raise OverflowError(f"a number beyond {NUMBER_MAX:.0e}")
    return value


def _floor_quotient(left: Decimal, right: Decimal) -> Decimal:
    whole = _CONTEXT.divide_int(left, right)
    rest = _CONTEXT.remainder(left, right)
    return _CONTEXT.subtract(whole, Decimal(1)) if rest and rest.is_signed() != right.is_signed() else whole


def _floor_remainder(left: Decimal, right: Decimal) -> Decimal:
    rest = _CONTEXT.remainder(left, right)
    return _CONTEXT.add(rest, right) if rest and rest.is_signed() != right.is_signed() else rest


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBERS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_DECIMALS: Final[Mapping[str, Callable[[Decimal, Decimal], Decimal]]] = {
    "+": _CONTEXT.add,
    "-": _CONTEXT.subtract,
    "*": _CONTEXT.multiply,
    "/": _CONTEXT.divide,
    "//": _floor_quotient,
    "%": _floor_remainder,
}


def _number(name: str, value: Any) -> Any:
    if not _is_number(value):
        raise TypeError(f"{name} of {type_word(value)}: expected a number")
    return _bounded(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} of {type_word(value)}: expected text")
    return value


def _len(value: object) -> int:
    if not isinstance(value, str | list | dict | bytes):
        raise TypeError(f"len of {type_word(value)}: expected text, a list, a map or bytes")
    return len(value)


def _abs(value: object) -> Any:
    number = _number("abs", value)
    return number.copy_abs() if isinstance(number, Decimal) else abs(number)


def _extreme(name: str, values: tuple[object, ...], better: Callable[[Any, Any], bool], count: Count) -> Any:
    best: Any = None
    for value in values[0] if len(values) == 1 and isinstance(values[0], list) else values:
        count()
        number = _number(name, value)
        best = number if best is None or better(_comparable(number), _comparable(best)) else best
    if best is None:
        raise TypeError(f"{name} of nothing: expected at least one number")
    return best


def _round(value: object, digits: object = 0) -> Any:
    number = _number("round", value)
    if not isinstance(digits, int) or isinstance(digits, bool) or abs(digits) > ROUND_DIGITS_MAX:
        raise TypeError(f"round: expected at most {ROUND_DIGITS_MAX} digits (round_digits_max)")
    if isinstance(number, Decimal):
        return number.quantize(Decimal((0, (1,), -digits)), rounding=ROUND_HALF_EVEN, context=_CONTEXT)
    return round(number, digits)


def _decimal(value: object) -> Decimal:
    if isinstance(value, str) and _DECIMAL.fullmatch(value) is not None:
        return Decimal(value)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    raise TypeError(f"decimal of {type_word(value)}: expected an integer or digits as text, as in decimal('1.50')")


def _size_bounded(text: str) -> str:
    if len(text) > TEXT_CHARS_MAX:
        raise OverflowError(f"text of more than {TEXT_CHARS_MAX} characters")
    return text


EXISTS: Final = "exists"  # not in the table: it looks at a name, not at a value
COUNTED: Final = frozenset({"contains", "max", "min"})  # they compare whole lists, so each item is a step
BUILT_IN: Final = ConditionFunctions(
    functions={
        "abs": _abs,
        "contains": contains,
        "decimal": _decimal,
        "endswith": lambda text, end: _text("endswith", text).endswith(_text("endswith", end)),
        "len": _len,
        "lower": lambda text: _size_bounded(_text("lower", text).lower()),
        "max": lambda *values, count: _extreme("max", values, operator.gt, count),
        "min": lambda *values, count: _extreme("min", values, operator.lt, count),
        "round": _round,
        "startswith": lambda text, start: _text("startswith", text).startswith(_text("startswith", start)),
        "strip": lambda text: _text("strip", text).strip(),
        "upper": lambda text: _size_bounded(_text("upper", text).upper()),
    }
)
ARGUMENTS: Final[Mapping[str, tuple[int, int | None]]] = {
    "abs": (1, 1),
    "contains": (2, 2),
    "decimal": (1, 1),
    "endswith": (2, 2),
    EXISTS: (1, 1),
    "len": (1, 1),
    "lower": (1, 1),
    "max": (1, None),
    "min": (1, None),
    "round": (1, 2),
    "startswith": (2, 2),
    "strip": (1, 1),
    "upper": (1, 1),
}
"""How many arguments a built-in function takes, at least and at most."""

VALUE_TYPES: Final = (bool, int, float, str, Decimal, datetime, UUID, bytes, list, dict, type(None))
