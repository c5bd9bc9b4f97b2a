"""A trace as a tree: signal, runs, steps, tool calls and effects, each with its status, its duration and its error."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from rich.text import Text
from rich.tree import Tree

from perdure.cli.output import duration_text, error_text, plain, status_style
from perdure.domain.records import Effect, RunRecord, Signal, Step, ToolCall
from perdure.domain.trace import CausalNode, Trace, duration_ms


def trace_tree(trace: Trace, *, with_events: bool) -> Tree:
    """The tree of a trace; with ``with_events`` what caused what comes after it."""
    seconds = trace.duration_s()
    took = duration_text(None if seconds is None else seconds * 1_000)
    facts = [f"correlation {trace.correlation_id}", took, _count(len(trace.events), "event")]
    root = Tree(Text(", ".join(fact for fact in facts if fact), style="bold"))
    known = {signal.id for signal in trace.signals}
    for signal in trace.signals:
        branch = root.add(_signal(signal))
        for run in trace.runs:
            if run.signal_id == signal.id:
                _add_run(branch, trace, run)
    for run in trace.runs:
        if run.signal_id not in known:  # its signal was archived before it
            _add_run(root, trace, run)
    if with_events:
        branch = root.add(Text("events", style="bold"))
        numbers = {event.id: event.sequence_number for event in trace.events}
        for node in trace.tree():
            _add_node(branch, node, numbers)
    return root


def _add_run(branch: Tree, trace: Trace, run: RunRecord) -> None:
    below = branch.add(_run(run))
    for step in trace.steps_of(run.id):
        leaf = below.add(_step(step))
        for call in trace.tool_calls_of(step.id):
            leaf.add(_call(call))
        for effect in trace.effects_of(step.id):
            leaf.add(_effect(trace, effect))
    for checkpoint in trace.checkpoints:
        if checkpoint.run_id == run.id:
            words = f"checkpoint {checkpoint.checkpoint_index} ({checkpoint.size_bytes} bytes)"
            below.add(Text(f"{words} after event {checkpoint.last_sequence_number}"))


def _add_node(branch: Tree, root: CausalNode, numbers: Mapping[UUID, int]) -> None:
    # No recursion: a chain of causes is deeper than Python's stack. A chain without forks stays on one level, or no
    # terminal would be wide enough; each event names the number of its cause.
    waiting = [(branch, root)]
    while waiting:
        above, node = waiting.pop()
        leaf = above.add(_event(node, numbers))
        below = leaf if len(node.children) > 1 else above
        waiting += [(below, child) for child in reversed(node.children)]


def _signal(signal: Signal) -> Text:
    return _line(
        f"signal {signal.source_channel}/{signal.source_id}",
        signal.status,
        f"{signal.signal_type} from {signal.actor}",
        _short(signal.id),
    )


def _run(run: RunRecord) -> Text:
    facts = [
        duration_text(duration_ms(run.started_at, target=run.completed_at)),
        run.exit_reason or "",
        f"repeats {run.causation_id}" if run.causation_id else "",
        "completes when its effects are delivered" if run.completion_requested_at and not run.completed_at else "",
        f"leased by {run.locked_by}" if run.locked_by else "",
        _short(run.id),
    ]
    return _line(f"run {run.name}", run.status, *facts)


def _step(step: Step) -> Text:
    facts = [
        duration_text(duration_ms(step.started_at, target=step.completed_at)),
        step.step_type.value,
        f"attempt {step.retry_count + 1}" if step.retry_count else "",
        step.specialist_id or "",
        _decision(step),
        error_text(step.error_details),
    ]
    return _line(f"{step.step_index} {step.name}", step.status, *facts)


def _decision(step: Step) -> str:
    result = step.output_result
    if isinstance(result, dict) and "decision" in result and step.wait_until is not None:
        return f"{result['decision']} by {result.get('decided_by', 'nobody')}"
    return ""


def _call(call: ToolCall) -> Text:
    facts = [
        duration_text(None if call.execution_duration_ms is None else float(call.execution_duration_ms)),
        "from cache" if call.cache_hit else "",
        error_text(call.error_details),
    ]
    return _line(f"tool {call.tool_name}", call.status, *facts)


def _effect(trace: Trace, effect: Effect) -> Text:
    entry = trace.outbox_of(effect.id)
    attempts = sum(
        1 for event in trace.events if event.aggregate_id == effect.id and event.event_type == "EFFECT_EXECUTING"
    )
    facts = [
        duration_text(duration_ms(effect.requested_at, target=effect.executed_at)),
        _count(attempts, "attempt") if attempts else "",
        f"next at {plain(effect.next_retry_at)}" if effect.next_retry_at else "",
        error_text(effect.error_details),
        f"outbox {entry.id}" if entry is not None else "",
    ]
    return _line(f"effect {effect.effect_type}", effect.status, *facts)


def _event(node: CausalNode, numbers: Mapping[UUID, int]) -> Text:
    event = node.event
    cause = ""
    if event.causation_id is not None:
        number = numbers.get(event.causation_id)
        cause = "its cause is not in this correlation" if number is None else f"caused by {number}"
    return _line(f"{event.sequence_number} {event.event_type}", "", cause, plain(event.occurred_at), event.actor)


def _line(head: str, status: str, *facts: str) -> Text:
    line = Text(plain(head))
    if status:
        line.append(" ").append(str(status), style=status_style(status))
    rest = ", ".join(plain(fact) for fact in facts if fact)
    return line.append(f"  {rest}") if rest else line


def _short(row_id: UUID) -> str:
    return f"id {row_id}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
