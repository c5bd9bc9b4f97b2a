"""Where a run or session goes on after its process is gone: read from what is kept, never remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from perdure.core.journal_labels import branches_label, fork_label, run_label, session_label
from perdure.core.journal_links import KeptText
from perdure.core.recorder_limits import RecorderTurns
from perdure.core.recorder_lines import Position
from perdure.domain.turn import CONTEXTS_PAGE_MAX, NO_TURN, Context, Turn
from perdure.domain.turn_records.catalog import find_record_type
from perdure.domain.turn_records.codec import decode
from perdure.errors import LegacyArtifact

TAIL_TURNS: Final = 16  # the last record is nearly always the last turn; a page costs as much as one


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """The checkpoint that a run goes on from.

    ``turn_id`` is that of its record, where that is known. ``dot_source`` and ``graph_snapshot`` are what the run's
    journal gave for them; later records refer to them again.
    """

    node_id: str
    checkpoint_id: str
    sequence_no: int
    checkpoint_hash: str | None = None
    turn_id: str | None = None
    dot_source: KeptText | None = None
    graph_snapshot: KeptText | None = None


async def locate_run(turns: RecorderTurns, run_id: str, point: ResumePoint, *, timeout_s: float) -> Position:
    """Where a run goes on.

    In its newest context if the checkpoint is the last record there, else in a fork from the checkpoint: what came
    after it stays where it is. Numbers go on after the highest of all its contexts. A run of which nothing is kept
    begins a new context.
    """
    roots = await _contexts(turns, run_label(run_id), timeout_s=timeout_s)
    if not roots:
        return Position()
    used = [context for context in roots if context.head_turn_id != context.base_turn_id]
    newest = (used or roots)[-1]
    own = ("run_id", run_id)
    last = await _last(turns, newest, own, timeout_s=timeout_s)
    numbers = [] if last is None else [last[1]]
    for context in [*roots, *await _contexts(turns, branches_label(run_id), timeout_s=timeout_s)]:
        if context is not newest and context.head_turn_id != context.base_turn_id:
            found = await _last(turns, context, own, timeout_s=timeout_s)
            numbers += [] if found is None else [found[1]]
    highest = max(numbers, default=None)
    if last is None or last[1] == point.sequence_no:
        return Position(context_id=newest.context_id, head_turn_id=newest.head_turn_id, last_number=highest)
    base = point.turn_id
    if base is None:
        kept = await _last(turns, newest, own, at_most=point.sequence_no, timeout_s=timeout_s)
        base = None if kept is None else kept[0].turn_id
    own_label = fork_label("resumed", run_id, base, highest)
    return Position(
        fork_from=base or last[0].turn_id,
        former_context_id=newest.context_id,
        labels=(own_label, run_label(run_id)),
        last_number=highest,
    )


async def locate_session(turns: RecorderTurns, session_id: str, *, timeout_s: float) -> Position:
    """Where a session goes on: in its context, after its last record; a new one if nothing is kept."""
    found = await _contexts(turns, session_label(session_id), timeout_s=timeout_s)
    if not found:
        return Position()
    newest = found[-1]
    last = await _last(turns, newest, ("agent_session_id", session_id), timeout_s=timeout_s)
    return Position(
        context_id=newest.context_id,
        head_turn_id=newest.head_turn_id,
        last_number=None if last is None else last[1],
    )


async def _contexts(turns: RecorderTurns, label: str, *, timeout_s: float) -> list[Context]:
    found: list[Context] = []
    cursor: str | None = None
    while True:
        page = await turns.contexts(label=label, cursor=cursor, limit=CONTEXTS_PAGE_MAX, timeout_s=timeout_s)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


async def _last(
    turns: RecorderTurns, context: Context, own: tuple[str, str], *, at_most: int | None = None, timeout_s: float
) -> tuple[Turn, int] | None:
    """The newest record of a run or session in a context (up to a number), and its number."""
    before: str | None = None
    while page := await turns.list(context.context_id, before=before, limit=TAIL_TURNS, timeout_s=timeout_s):
        for turn in reversed(page):
            number = _number(turn, own)
            if number is not None and (at_most is None or number <= at_most):
                return turn, number
        before = page[0].turn_id
        if page[0].parent_turn_id == NO_TURN:
            return None
    return None


def _number(turn: Turn, own: tuple[str, str]) -> int | None:
    record_type = find_record_type(turn.type_id, version=turn.type_version)
    if record_type is None:
        return None  # of another program or a later release; its number is not ours
    try:
        values = decode(record_type, turn.payload).values
    except LegacyArtifact:
        return None
    number = values.get("sequence_no")
    return number if values.get(own[0]) == own[1] and isinstance(number, int) else None
