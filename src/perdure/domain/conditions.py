"""Ordered branches: the first condition that holds decides, and a condition that fails is recorded and passed over.

This is how a ready guard judges a unit of work without a line of code from its configuration being executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from perdure.domain.condition_evaluation import evaluate_condition
from perdure.domain.condition_parsing import Condition, parse_condition
from perdure.domain.condition_values import BUILT_IN, ConditionFunctions
from perdure.domain.typed_values import TypedMap
from perdure.errors import Invalid, LimitExceeded, Refused

BRANCHES_MAX: Final = 100  # of one guard; each costs up to its steps at every save
DECISION_CHARS_MAX: Final = 100  # a word to group by

_NONE_PARSED: Final[Mapping[str, Condition]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A condition and what it decides; or, with None as condition, what is decided by ``default`` or ``on_error``.

    ``default`` decides if no condition held; ``on_error`` does so before it, if some condition failed.
    """

    condition: str | None
    decision: str
    default: bool = False
    on_error: bool = False

    def __post_init__(self) -> None:
        if not self.decision or len(self.decision) > DECISION_CHARS_MAX:
            raise Invalid(f"a decision is 1 to {DECISION_CHARS_MAX} characters (decision_chars_max), such as 'allow'")
        if (self.condition is None) != (self.default or self.on_error):
            raise Invalid("a branch has either a condition, or default or on_error and None as its condition")


class Outcome(StrEnum):
    """Why ``decide`` decided as it did."""

    MATCHED = "matched"
    ON_ERROR = "on_error"
    DEFAULT = "default"
    UNDECIDED = "error"  # no condition held, and no branch says what then
    DRIFT = "drift"  # nothing was evaluated: the state is not the one that was hashed


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchError:
    """A condition that failed. ``names`` are those it reads, never their values; ``kind`` is the code of the error."""

    branch_index: int
    condition: str
    kind: str
    message: str
    position: int | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, None if nothing was, by which branch, and every condition that failed before.

    ``context_hash`` is the content hash of the attributes that were judged, if the caller gave it.
    """

    decision: str | None
    outcome: Outcome
    matched_branch_index: int | None
    condition: str | None = None
    errors: tuple[BranchError, ...] = ()
    context_hash: str | None = None


def decide(
    branches: Sequence[Branch],
    attributes: TypedMap,
    *,
    functions: ConditionFunctions = BUILT_IN,
    parsed: Mapping[str, Condition] = _NONE_PARSED,
    stored_hash: str | None = None,
    current_hash: str | None = None,
) -> Decision:
    """The decision of the first branch whose condition holds for the attributes.

    A condition that fails, whatever the reason, is recorded as an error and the next one is tried. If none holds: the
    ``on_error`` branch if there were errors, else the ``default`` branch, else nothing. If both hashes are given and
    differ, nothing is evaluated. ``parsed`` has conditions that ``check_branches`` parsed, by their text. Raises
    ``Invalid`` or ``LimitExceeded`` only for branches that contradict each other.
    """
    _check_shape(branches)
    if stored_hash is not None and current_hash is not None and stored_hash != current_hash:
        return Decision(decision=None, outcome=Outcome.DRIFT, matched_branch_index=None, context_hash=current_hash)
    errors: list[BranchError] = []
    for index, branch in enumerate(branches):
        if branch.condition is None:
            continue
        failed, holds = _evaluated(index, branch.condition, attributes, parsed, functions)
        errors += failed
        if holds:
            return _decision(branches, index, Outcome.MATCHED, errors, current_hash)
    for index, branch in enumerate(branches):
        if branch.on_error and errors:
            return _decision(branches, index, Outcome.ON_ERROR, errors, current_hash)
    for index, branch in enumerate(branches):
        if branch.default:
            return _decision(branches, index, Outcome.DEFAULT, errors, current_hash)
    return _decision(branches, None, Outcome.UNDECIDED, errors, current_hash)


def check_branches(branches: Sequence[Branch], *, functions: ConditionFunctions = BUILT_IN) -> tuple[Condition, ...]:
    """The conditions of the branches, parsed. Raises what ``decide`` would record, so that a mistake is found early.

    Raises:
        Invalid: a condition that ``parse_condition`` refuses, with ``branch`` in the detail; no branch at all; two
            ``default`` or two ``on_error`` branches.
        LimitExceeded: more than ``BRANCHES_MAX`` branches, or a condition beyond its limits.
    """
    if not branches:
        raise Invalid("there are no branches; give at least a default one")
    _check_shape(branches)
    parsed: list[Condition] = []
    for index, branch in enumerate(branches):
        if branch.condition is not None:
            try:
                parsed.append(parse_condition(branch.condition, functions=functions))
            except Refused as exc:
                exc.detail["branch"] = index
                raise
    return tuple(parsed)


def _check_shape(branches: Sequence[Branch]) -> None:
    if len(branches) > BRANCHES_MAX:
        raise LimitExceeded(
            f"there are {len(branches)} branches, at most {BRANCHES_MAX} (branches_max); "
            "make them several guards, or a function",
            limit="branches_max",
            allowed=BRANCHES_MAX,
            actual=len(branches),
        )
    if sum(branch.default for branch in branches) > 1 or sum(branch.on_error for branch in branches) > 1:
        raise Invalid("at most one branch is the default, and at most one is for errors")


def _evaluated(
    index: int, text: str, attributes: TypedMap, parsed: Mapping[str, Condition], functions: ConditionFunctions
) -> tuple[list[BranchError], bool]:
    names: tuple[str, ...] = ()
    try:
        condition = parsed[text] if text in parsed else parse_condition(text, functions=functions)
        names = condition.names
        return [], evaluate_condition(condition, attributes)
    except Refused as exc:
        position = exc.detail.get("position")
        error = BranchError(
            branch_index=index,
            condition=text,
            kind=str(exc.code),
            message=exc.message,
            position=position if isinstance(position, int) else None,
            names=names,
        )
        return [error], False


def _decision(
    branches: Sequence[Branch], index: int | None, outcome: Outcome, errors: list[BranchError], context_hash: str | None
) -> Decision:
    return Decision(
        decision=None if index is None else branches[index].decision,
        outcome=outcome,
        matched_branch_index=index,
        condition=None if index is None else branches[index].condition,
        errors=tuple(errors),
        context_hash=context_hash,
    )
