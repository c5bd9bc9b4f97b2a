"""Evaluates parsed conditions: a walk over the tree with a budget of steps, and never ``eval``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Final

from perdure.domain.condition_parsing import (
    BINARY,
    COMPARISONS,
    Condition,
    ConditionFault,
    Positions,
    constant_index,
    fault,
)
from perdure.domain.condition_values import (
    COUNTED,
    EXISTS,
    VALUE_TYPES,
    calculate,
    contains,
    negated,
    ordered,
    same,
    type_word,
)
from perdure.errors import Invalid, LimitExceeded

CONDITION_STEPS_MAX: Final = 10_000  # nodes visited and values compared; a guard is no place for a long calculation


def evaluate_condition(condition: Condition, attributes: Mapping[str, Any]) -> bool:
    """Whether a condition holds for these attributes, which it only reads.

    Only true and false decide, in ``and``, ``or`` and ``not`` as in the result: a text is no answer.

    Raises:
        Invalid: an unknown variable, a missing item, a division by zero, types that do not fit, or a function of the
            host that failed, each with its ``ConditionFault`` as code and its ``position`` in characters.
        LimitExceeded: more than ``CONDITION_STEPS_MAX`` steps, or a number or text that is too large.
    """
    evaluation = _Evaluation(condition, attributes)
    return evaluation.decided(condition.tree)


class _Evaluation:
    """One evaluation."""

    def __init__(self, condition: Condition, attributes: Mapping[str, Any]) -> None:
        self._condition = condition
        self._attributes = attributes
        self._positions = Positions(condition.text, len(condition.text) - len(condition.text.lstrip()))
        self._steps = 0

    def decided(self, node: ast.expr) -> bool:
        """The value of a node that must be true or false."""
        value = self._value(node)
        if not isinstance(value, bool):
            raise self._fault(ConditionFault.TYPE, f"{type_word(value)}, where true or false is expected", node)
        return value

    def _value(self, node: ast.expr) -> Any:
        self._count()
        if isinstance(node, ast.Constant):
            return node.value
        try:
            return self._visited(node)
        except TypeError as exc:
            raise self._fault(ConditionFault.TYPE, str(exc), node) from exc
        except ZeroDivisionError as exc:
            raise self._fault(ConditionFault.DIVISION_BY_ZERO, "a division by zero", node) from exc
        except OverflowError as exc:
            at = self._positions.of(node)
            raise LimitExceeded(f"a condition fails at character {at}: {exc}", limit="size", position=at) from exc

    def _visited(self, node: ast.expr) -> Any:
        match node:
            case ast.Name():
                return self._variable(node)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._value(item) for item in items]
            case ast.Subscript():
                return self._item(node)
            case ast.Compare():
                return self._compared(node)
            case ast.Call():
                return self._called(node)
            case _:
                return self._operated(node)

    def _operated(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return all(self.decided(value) for value in values)
            case ast.BoolOp(values=values):
                return any(self.decided(value) for value in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.decided(operand)
            case ast.UnaryOp(operand=operand):
                return negated(self._value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return calculate(BINARY[type(op)], self._value(left), self._value(right))
            case _:
                raise AssertionError("the parser lets no other node through")

    def _variable(self, node: ast.Name) -> Any:
        if node.id not in self._attributes:
            raise self._fault(ConditionFault.UNKNOWN_VARIABLE, f"there is no attribute {node.id!r:.80}", node)
        return self._attributes[node.id]

    def _item(self, node: ast.Subscript) -> Any:
        whole, index = self._value(node.value), constant_index(node.slice)
        fits = (isinstance(whole, dict) and isinstance(index, str)) or (
            isinstance(whole, list) and isinstance(index, int)
        )
        if not fits:
            raise TypeError(f"{type_word(whole)}[{type_word(index)}]: maps have items by text, lists by number")
        try:
            return whole[index]
        except LookupError as exc:
            raise self._fault(ConditionFault.MISSING_ITEM, f"there is no item {index!r:.80}", node) from exc

    def _compared(self, node: ast.Compare) -> bool:
        left = self._value(node.left)
        for op, below in zip(node.ops, node.comparators, strict=True):
            right = self._value(below)
            if not self._holds(COMPARISONS[type(op)], left, right):
                return False
            left = right
        return True

    def _holds(self, symbol: str, left: object, right: object) -> bool:
        match symbol:
            case "==" | "!=":
                return same(left, right, count=self._count) == (symbol == "==")
            case "in" | "not in":
                return contains(right, left, count=self._count) == (symbol == "in")
            case "is" | "is not":
                return (left is None) == (symbol == "is")
            case _:
                return ordered(symbol, left, right)

    def _called(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name), "the parser lets no other call through"
        name = node.func.id
        if name == EXISTS:
            return self._exists(node.args[0])
        arguments = [self._value(argument) for argument in node.args]
        table = self._condition.functions
        if name in COUNTED:
            return table.functions[name](*arguments, count=self._count)
        if name in table.functions:
            return table.functions[name](*arguments)
        try:
            result = table.added[name](*arguments)
        except Exception as exc:
            # Its text may hold values of attributes; its class does not.
            found = f"the function {name!r} failed with {type(exc).__name__}"
            raise self._fault(ConditionFault.FUNCTION_FAILED, found, node) from exc
        if not isinstance(result, VALUE_TYPES):
            raise TypeError(f"the function {name!r} gave {type_word(result)}, which is no value of a condition")
        return result

    def _exists(self, node: ast.expr) -> bool:
        try:
            self._value(node)
        except Invalid as exc:
            if exc.code in {ConditionFault.UNKNOWN_VARIABLE, ConditionFault.MISSING_ITEM}:
                return False
            raise
        return True

    def _count(self) -> None:
        self._steps += 1
        if self._steps > CONDITION_STEPS_MAX:
            raise LimitExceeded(
                f"a condition takes more than {CONDITION_STEPS_MAX} steps (condition_steps_max); "
                "compare smaller lists, or make it a function",
                limit="condition_steps_max",
                allowed=CONDITION_STEPS_MAX,
            )

    def _fault(self, kind: ConditionFault, found: str, node: ast.expr) -> Invalid:
        return fault(kind, found, self._positions.of(node))
