"""Which contexts a query is true of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from perdure.adapters.cxdb.http_server.cql import Comparison, Every, Literal, Negation, Query, Some
from perdure.adapters.cxdb.http_server.directory import Described
from perdure.adapters.cxdb.http_server.serving_state import wire_depth

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """When it is asked, and whether hosts are told apart by case even by the operators that ignore it."""

    now: datetime
    host_has_case: bool = False

    def is_true(self, query: Query, described: Described) -> bool:
        """Whether a context is one of those that were asked for. What is not said is equal to nothing."""
        match query:
            case Every(parts=parts):
                return all(self.is_true(part, described) for part in parts)
            case Some(parts=parts):
                return any(self.is_true(part, described) for part in parts)
            case Negation(part=part):
                return not self.is_true(part, described)
            case Comparison():
                return self._compare(query, described)

    def _compare(self, comparison: Comparison, described: Described) -> bool:
        if comparison.field == "is_live":
            return comparison.values == (False,)  # no context is live that was not made over a connection
        if comparison.operator == "!=":
            return not any(self._holds("=", comparison.field, value, described) for value in comparison.values)
        operator = "=" if comparison.operator == "IN" else comparison.operator
        return any(self._holds(operator, comparison.field, value, described) for value in comparison.values)

    def _holds(self, operator: str, field: str, value: Literal, described: Described) -> bool:
        if field == "label":
            return value in described.labels
        if isinstance(value, timedelta):
            value = self._before_now(value)
        said = _FIELDS[field](described)
        if isinstance(said, datetime) and isinstance(value, datetime):
            return _ordered(operator, (said > value) - (said < value))
        if isinstance(said, int) and isinstance(value, int):
            return _ordered(operator, (said > value) - (said < value))
        if isinstance(said, str) and isinstance(value, str):
            return _text(operator, said, value, has_case=self.host_has_case and field == "host")
        return False

    def _before_now(self, how_long: timedelta) -> datetime:
        try:
            return self.now - how_long
        except OverflowError:
            return _BEGINNING


def _ordered(operator: str, sign: int) -> bool:
    if sign == 0:
        return operator in {"=", ">=", "<="}
    return operator in ({">", ">="} if sign > 0 else {"<", "<="})


def _text(operator: str, said: str, value: str, *, has_case: bool) -> bool:
    if "~" in operator and not has_case:
        said, value = said.casefold(), value.casefold()
    return said.startswith(value) if "^" in operator else said == value


_FIELDS: Final[Mapping[str, Callable[[Described], object]]] = {
    "tag": lambda one: one.metadata.client_tag,
    "title": lambda one: one.metadata.title,
    "user": lambda one: one.metadata.origin("on_behalf_of"),
    "service": lambda one: one.metadata.origin("service_name"),
    "host": lambda one: one.metadata.origin("host_name"),
    "trace_id": lambda one: one.metadata.origin("trace_id"),
    "id": lambda one: int(one.context.context_id),
    "parent": lambda one: one.metadata.origin("parent_context_id"),
    "root": lambda one: one.metadata.origin("root_context_id"),
    "created": lambda one: one.context.created_at,
    "depth": lambda one: wire_depth(one.context.head_depth),
}
