"""The story of one correlation: everything that came of a signal, and what caused what."""  # noqa: A005 - nothing here imports the other one

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from perdure.domain.event import Event
from perdure.domain.records import Checkpoint, Effect, OutboxEntry, RunRecord, Signal, Step, ToolCall
from perdure.errors import ChainBroken, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All rows and events of one correlation, from one snapshot.

    Runs by start, steps by run and index, tool calls by step and index, the rest by time, events by number.
    """

    correlation_id: UUID
    signals: tuple[Signal, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    steps: tuple[Step, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    effects: tuple[Effect, ...] = ()
    outbox: tuple[OutboxEntry, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    events: tuple[Event, ...] = ()

    def steps_of(self, run_id: UUID) -> tuple[Step, ...]:
        """The steps of a run by index."""
        return tuple(sorted((step for step in self.steps if step.run_id == run_id), key=lambda step: step.step_index))

    def tool_calls_of(self, step_id: UUID) -> tuple[ToolCall, ...]:
        """The tool calls of a step by index."""
        calls = (call for call in self.tool_calls if call.step_id == step_id)
        return tuple(sorted(calls, key=lambda call: call.call_index))

    def effects_of(self, step_id: UUID) -> tuple[Effect, ...]:
        """The effects that a step requested, oldest first."""
        effects = (effect for effect in self.effects if effect.step_id == step_id)
        return tuple(sorted(effects, key=lambda effect: (effect.requested_at, effect.id)))

    def outbox_of(self, effect_id: UUID) -> OutboxEntry | None:
        """The outbox entry of an effect; None when the relay's entries were already pruned."""
        return next((entry for entry in self.outbox if entry.aggregate_id == effect_id), None)

    def tree(self) -> tuple[CausalNode, ...]:
        """What caused what: ``causal_tree`` of the events."""
        return causal_tree(self.events)

    def duration_s(self) -> float | None:
        """Seconds from the first event to the last; None without events."""
        if not self.events:
            return None
        times = [event.occurred_at for event in self.events]
        return (max(times) - min(times)).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CausalNode:
    """An event and what it caused. ``detached``: it names a cause that is not here, or one that it caused itself."""

    event: Event
    depth: int
    children: tuple[CausalNode, ...] = field(repr=False)
    detached: bool = False

    def walk(self) -> Iterator[CausalNode]:
        """This node and all below it, each before its children, siblings in order of their numbers."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


def causal_tree(events: Iterable[Event]) -> tuple[CausalNode, ...]:
    """The forest of causes and consequences, roots in order of their numbers.

    Every event is in it exactly once. One whose cause is not among ``events`` is a root marked ``detached``; so is the
    earliest event of a cycle, which only a damaged history can have: the tree must still be there to look at.
    """
    ordered = sorted(events, key=lambda event: event.sequence_number)
    known = {event.id for event in ordered}
    caused: dict[UUID, list[Event]] = {}
    roots: list[Event] = []
    for event in ordered:
        if event.causation_id in known:
            caused.setdefault(event.causation_id, []).append(event)
        else:
            roots.append(event)
    reached: set[UUID] = set()
    forest = [_grow(root, caused, reached) for root in roots]
    # What no root reaches hangs on a cycle.
    for event in ordered:
        if event.id not in reached:
            forest.append(_grow(event, caused, reached))  # noqa: PERF401 - each growth changes what is reached
    return tuple(sorted(forest, key=lambda node: node.event.sequence_number))


def _grow(root: Event, caused: Mapping[UUID, Sequence[Event]], reached: set[UUID]) -> CausalNode:
    # No recursion: one chain of a long run is deeper than Python's stack.
    order: list[tuple[Event, int]] = []
    children: dict[UUID, list[Event]] = {}
    waiting = deque([(root, 0)])
    reached.add(root.id)
    while waiting:
        event, depth = waiting.popleft()
        order.append((event, depth))
        below = [child for child in caused.get(event.id, ()) if child.id not in reached]
        reached.update(child.id for child in below)
        children[event.id] = below
        waiting.extend((child, depth + 1) for child in below)
    nodes: dict[UUID, CausalNode] = {}
    for event, depth in reversed(order):
        nodes[event.id] = CausalNode(
            event=event,
            depth=depth,
            children=tuple(nodes.pop(child.id) for child in children[event.id]),
            detached=depth == 0 and event.causation_id is not None,
        )
    return nodes[root.id]


def causes(events_by_id: Mapping[UUID, Event], *, event_id: UUID) -> tuple[Event, ...]:
    """The chain that led to an event, root first, the event itself last.

    It begins where a cause is not among ``events_by_id`` (another correlation, or archived). Raises ``NotFound`` when
    the event is not there and ``ChainBroken`` when an event is its own cause, however indirectly.
    """
    event = events_by_id.get(event_id)
    if event is None:
        raise NotFound(f"event {event_id} is not among the {len(events_by_id)} given", event_id=str(event_id))
    chain: list[Event] = []
    seen: set[UUID] = set()
    while event is not None:
        if event.id in seen:
            raise ChainBroken(
                f"event {event.id} is its own cause; the history is damaged, see: perdure trace {event.correlation_id}",
                event_id=str(event.id),
            )
        seen.add(event.id)
        chain.append(event)
        event = events_by_id.get(event.causation_id) if event.causation_id is not None else None
    return tuple(reversed(chain))


def duration_ms(source: datetime, *, target: datetime | None) -> float | None:
    """Milliseconds from ``source`` to ``target``; None while there is no ``target``."""
    return None if target is None else (target - source).total_seconds() * 1_000
