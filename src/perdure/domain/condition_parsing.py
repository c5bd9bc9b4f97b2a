"""Conditions as text: parsed as a Python expression, and refused unless every node is on a short list.

Nothing here, nor in what evaluates it, reaches an attribute of an object, so there is no way out of the list.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from perdure.domain.condition_values import ARGUMENTS, BUILT_IN, EXISTS, NUMBER_MAX, ConditionFunctions
from perdure.errors import Invalid, LimitExceeded

CONDITION_CHARS_MAX: Final = 2_000  # a longer one is a program; give its steps names as functions
CONDITION_NODES_MAX: Final = 200  # values, names and operations of one condition
CONDITION_DEPTH_MAX: Final = 20  # operations in one another; more is not read correctly by people either

BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}

_ALLOWED: Final = (
    "constants, attributes by name, [constant], lists, and, or, not, comparisons, + - * / // %, and the functions "
)
# Other escapes make the parser warn or, in later versions, fail.
_ESCAPES: Final = re.compile(r"(?:[^\\]|\\[\\'\"nt])*", re.DOTALL)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


class ConditionFault(StrEnum):
    """What is wrong with a condition, or went wrong in one; the ``code`` of the error."""

    SYNTAX = "condition_syntax"
    FORBIDDEN = "condition_forbidden"
    UNKNOWN_FUNCTION = "condition_unknown_function"
    UNKNOWN_VARIABLE = "condition_unknown_variable"
    MISSING_ITEM = "condition_missing_item"
    DIVISION_BY_ZERO = "condition_division_by_zero"
    TYPE = "condition_type"
    FUNCTION_FAILED = "condition_function_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition that may be evaluated: every node of it is allowed, and every function known.

    ``names`` are the attributes it reads, in order.
    """

    text: str
    names: tuple[str, ...]
    functions: ConditionFunctions = field(repr=False, compare=False)
    tree: ast.expr = field(repr=False, compare=False)


def parse_condition(text: str, *, functions: ConditionFunctions = BUILT_IN) -> Condition:
    """The condition of a text such as ``amount > 50000 and lower(country) in ["de", "fr"]``.

    Raises:
        Invalid: no expression (``condition_syntax``), something that is not allowed (``condition_forbidden``) or a
            function that is not in the table (``condition_unknown_function``), with its ``position`` in characters.
        LimitExceeded: longer, deeper or with more nodes than the limits say, or with a number beyond ``NUMBER_MAX``.
    """
    _limited("condition_chars_max", CONDITION_CHARS_MAX, len(text))
    if _ESCAPES.fullmatch(text) is None:
        raise fault(ConditionFault.SYNTAX, r"a backslash in text stands before \, ', \", n or t", text.index("\\"))
    begin = len(text) - len(text.lstrip())
    positions = Positions(text, begin)
    try:
        tree = ast.parse(text[begin:], mode="eval").body
    except SyntaxError as exc:
        raise fault(ConditionFault.SYNTAX, "this is no expression", positions.of_error(exc)) from exc
    except (ValueError, RecursionError, MemoryError) as exc:
        raise fault(ConditionFault.SYNTAX, "this cannot be parsed", begin) from exc
    checker = _Checker(functions, positions)
    checker.check(tree, 1)
    return Condition(text=text, names=tuple(dict.fromkeys(checker.names)), functions=functions, tree=tree)


def fault(kind: ConditionFault, found: str, position: int) -> Invalid:
    """The error of a condition; ``found`` says what is there and never a value of an attribute."""
    return Invalid(f"a condition fails at character {position}: {found}", code=kind, position=position)


class Positions:
    """From nodes to characters of the text; the parser counts lines, and in them bytes."""

    __slots__ = ("_begin", "_starts", "_text")

    def __init__(self, text: str, begin: int) -> None:
        self._text = text
        self._begin = begin
        self._starts = [begin, *(end.end() for end in _LINE_END.finditer(text, begin))]

    def of(self, node: ast.expr) -> int:
        """The position of a node's first character."""
        start = self._starts[node.lineno - 1]
        return start + len(self._text[start:].encode()[: node.col_offset].decode())

    def of_error(self, exc: SyntaxError) -> int:
        """The position that the parser complains about; the end of the text where it missed something."""
        line = exc.lineno or 1
        if not exc.offset or line > len(self._starts):
            return len(self._text)
        return min(self._starts[line - 1] + exc.offset - 1, len(self._text))


class _Checker:
    """Walks a tree once and refuses what is not on the list."""

    def __init__(self, functions: ConditionFunctions, positions: Positions) -> None:
        self.names: list[str] = []
        self._functions = functions
        self._positions = positions
        self._nodes = 0

    def check(self, node: ast.expr, depth: int) -> None:
        self._nodes += 1
        at = self._positions.of(node)
        _limited("condition_nodes_max", CONDITION_NODES_MAX, self._nodes, at)
        _limited("condition_depth_max", CONDITION_DEPTH_MAX, depth, at)
        for below in self._parts(node):
            self.check(below, depth + 1)

    def _parts(self, node: ast.expr) -> Iterator[ast.expr]:
        match node:
            case ast.Constant():
                self._check_constant(node)
            case ast.Name():
                self.names.append(node.id)
            case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
                yield from values
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield operand
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                yield from (left, right)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                self._check_identity(node)
                yield from (left, *comparators)
                assert all(type(op) in COMPARISONS for op in ops), "the grammar has no other comparison"
            case ast.Subscript(value=value, slice=index):
                if constant_index(index) is None:
                    raise self._forbidden(index, "an index that is no number and no text in quotes")
                yield value
            case ast.Call():
                self._check_call(node)
                yield from node.args
            case _:
                raise self._forbidden(node, _word(node))

    def _check_constant(self, node: ast.Constant) -> None:
        value = node.value
        if not (value is None or isinstance(value, bool | int | float | str)):
            raise self._forbidden(node, f"a constant of type {type(value).__name__}")
        if isinstance(value, int | float) and not abs(value) <= NUMBER_MAX:
            at = self._positions.of(node)
            raise LimitExceeded(
                f"a condition has at character {at} a number beyond {NUMBER_MAX:.0e} (number_max)",
                limit="number_max",
                position=at,
            )

    def _check_identity(self, node: ast.Compare) -> None:
        for op, right in zip(node.ops, node.comparators, strict=True):
            none = isinstance(right, ast.Constant) and right.value is None
            if isinstance(op, ast.Is | ast.IsNot) and not none:
                raise self._forbidden(right, "'is' with something other than None; write ==")

    def _check_call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name):
            raise self._forbidden(node.func, "a call of something that is no name")
        name = node.func.id
        if name != EXISTS and name not in self._functions:
            known = ", ".join([*self._functions, EXISTS])
            found = f"the function {name!r:.80} is unknown; known: {known}"
            raise fault(ConditionFault.UNKNOWN_FUNCTION, found, self._positions.of(node))
        if node.keywords:
            raise self._forbidden(node, "an argument by name")
        at_least, at_most = ARGUMENTS.get(name, (0, None))
        if len(node.args) < at_least or (at_most is not None and len(node.args) > at_most):
            raise self._forbidden(node, f"{name} with {len(node.args)} arguments")
        if name == EXISTS and not _is_place(node.args[0]):
            raise self._forbidden(node.args[0], "exists of something that is no attribute and no item of one")

    def _forbidden(self, node: ast.expr, found: str) -> Invalid:
        allowed = f"{_ALLOWED}{', '.join([*self._functions, EXISTS])}"
        return fault(ConditionFault.FORBIDDEN, f"{found}; allowed are {allowed}", self._positions.of(node))


def constant_index(index: ast.expr) -> int | str | None:
    """The number or text of an index that is a constant; None for any other."""
    if isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub):
        number = constant_index(index.operand)
        return -number if isinstance(number, int) else None
    value = index.value if isinstance(index, ast.Constant) else None
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _is_place(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Subscript) and _is_place(node.value))


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp | ast.UnaryOp):
        return f"the operator {type(node.op).__name__}"
    return f"an expression of the kind {type(node).__name__}"


def _limited(limit: str, allowed: int, actual: int, position: int | None = None) -> None:
    if actual > allowed:
        detail: dict[str, Any] = {} if position is None else {"position": position}
        raise LimitExceeded(
            f"a condition passes {limit}: {actual}, at most {allowed}; make it several branches, or a function",
            limit=limit,
            allowed=allowed,
            actual=actual,
            **detail,
        )
