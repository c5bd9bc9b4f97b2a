"""The journal of one agent's session: what was said, which tools were called, which subagents it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from perdure.core.journal_labels import session_label, sessions_label
from perdure.core.journal_links import AgentSnapshot, Correlation, numeric
from perdure.core.journal_resuming import locate_session
from perdure.core.recorder import Recorder
from perdure.core.recorder_limits import RecorderTurns
from perdure.core.recorder_lines import Line, Position, Track
from perdure.core.recorder_redaction import FULL_OUTPUT
from perdure.core.recorder_steps import unix_ms
from perdure.core.recorder_texts import tool_output, tool_results
from perdure.core.session_records import SessionRecords
from perdure.domain.canonical import JsonValue
from perdure.domain.turn import NO_TURN, TurnRef
from perdure.domain.turn_records import agent_records as records
from perdure.domain.turn_records import link_records as links

ToolContent: TypeAlias = "str | Sequence[JsonValue] | Mapping[str, JsonValue]"
_UNCORRELATED = Correlation()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call that a model asked for; ``raw_arguments`` is what it wrote, where that is no JSON."""

    call_id: str
    name: str
    arguments: Mapping[str, JsonValue] | None = None
    raw_arguments: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool gave back to the model."""

    call_id: str
    content: ToolContent
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one answer."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


class SessionJournal(SessionRecords):
    """Records a session. Making one does nothing; ``open`` or ``resume`` comes first, then what happens.

    Each method writes one record and returns where it is, or None if it is not known to be kept. ``at`` is when it
    happened, now if it is not given; whoever records the same session again gives the same times.

    ``correlation`` says what the session works for (``RunJournal.correlation``). ``fork_from`` is the turn that a
    subagent's context is forked from.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        session_id: str,
        correlation: Correlation = _UNCORRELATED,
        thread_key: str | None = None,
        title: str | None = None,
        client_tag: str | None = None,
        retention_class: str | None = None,
        expires_at: datetime | None = None,
        fork_from: str | None = None,
        spawned_by: SessionJournal | None = None,
    ) -> None:
        run_id = correlation.run_id

        def labels() -> tuple[str, ...]:
            return (
                (session_label(session_id),) if run_id is None else (session_label(session_id), sessions_label(run_id))
            )

        def metadata() -> Mapping[str, object]:
            parent = correlation.pipeline_context_id if spawned_by is None else spawned_by.context_id
            provenance = {
                "parent_context_id": numeric(parent),
                "spawn_reason": "stage" if spawned_by is None else "subagent",
                "correlation_id": run_id or session_id,
            }
            return {
                "context_metadata": {
                    "client_tag": client_tag,
                    "title": title,
                    "provenance": provenance if parent is not None else {"correlation_id": run_id or session_id},
                },
                "retention_class": retention_class,
                "expires_at": None if expires_at is None else unix_ms(expires_at),
            }

        track = Track(
            Line(first=0),
            labels=labels,
            metadata=metadata,
            fork_from=None if fork_from == NO_TURN else fork_from,
            parent=None if spawned_by is None else spawned_by.track,
            may_exist=spawned_by is None or spawned_by.track.children_may_exist,
        )
        super().__init__(recorder, track, session_id=session_id, thread_key=thread_key, correlation=correlation)
        self._call_turns: dict[str, str] = {}
        self._shortened: dict[str, str] = {}  # until the results are given: a cut may go through a secret
        self._tool_calls = 0
        self._tool_errors = 0

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._session_id

    def snapshot(self) -> AgentSnapshot:
        """Where the session's records are now, for the stage that it works for."""
        return AgentSnapshot(
            session_id=self._session_id,
            context_id=self.context_id,
            head_turn_id=self.head_turn_id,
            tool_call_count=self._tool_calls,
            tool_error_count=self._tool_errors,
            thread_key=self._thread_key,
        )

    def work_for(self, correlation: Correlation) -> None:
        """From the next record on, the session works for another stage."""
        self._correlation = correlation

    async def resume(self) -> None:
        """Find the session's context and the number after its last record, instead of ``open``.

        In mode ``best_effort`` an outage is no obstacle: the first record looks again. Raises ``PersistenceError`` in
        mode ``required``.
        """
        if self._recorder.is_off:
            return

        async def locate(turns: RecorderTurns, left_s: float) -> Position:
            """Where it goes on."""
            return await locate_session(turns, self._session_id, timeout_s=left_s)

        self._track.resume(locate)
        await self.open()

    async def session_started(
        self, *, provider: str | None = None, model: str | None = None, at: datetime | None = None
    ) -> TurnRef | None:
        """The session began."""
        values = {"provider": provider, "model": model}
        ids = {"parent_turn_id": self._correlation.parent_turn_id}
        return await self._event(records.SESSION_START, values, at=at, ids=ids, stamps_context="agent_context_id")

    async def user_turn_appended(self, *, content: str, at: datetime | None = None) -> TurnRef | None:
        """Input was accepted."""
        return await self._said(records.USER_TURN, {"content": content}, at=at)

    async def steering_turn_appended(self, *, content: str, at: datetime | None = None) -> TurnRef | None:
        """Something was said to the model between its turns."""
        return await self._said(records.STEERING_TURN, {"content": content}, at=at)

    async def system_turn_appended(self, *, content: str, at: datetime | None = None) -> TurnRef | None:
        """The instructions of the session."""
        return await self._said(records.SYSTEM_TURN, {"content": content}, at=at)

    async def assistant_turn_appended(
        self,
        *,
        content: str,
        tool_calls: Sequence[ToolCall] = (),
        reasoning: str | None = None,
        usage: Usage | None = None,
        response_id: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        finish_reason: str | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The model answered."""
        values = {
            "content": content,
            "tool_calls": [_call_values(call) for call in tool_calls] or None,
            "reasoning": reasoning,
            "usage": None if usage is None else _usage_values(usage),
            "response_id": response_id,
            "provider": provider,
            "model": model,
            "finish_reason": finish_reason,
        }
        return await self._said(records.ASSISTANT_TURN, values, at=at)

    async def tool_results_turn_appended(
        self, *, results: Sequence[ToolResult], at: datetime | None = None
    ) -> TurnRef | None:
        """The results of a round of tools were given to the model."""
        values = {
            "results": [
                {
                    "tool_call_id": result.call_id,
                    "content": result.content,
                    "is_error": result.is_error,
                    FULL_OUTPUT: self._shortened.pop(result.call_id, None),
                }
                for result in results
            ]
        }
        return await self._said(records.TOOL_RESULTS_TURN, values, at=at, shape=tool_results)

    async def tool_call_started(self, *, call: ToolCall, at: datetime | None = None) -> TurnRef | None:
        """A tool is about to be called: without an end, nobody knows what it did."""
        self._tool_calls += 1
        values = {
            "call_id": call.call_id,
            "tool_name": call.name,
            "arguments": call.arguments,
            "raw_arguments": call.raw_arguments,
        }
        ref = await self._event(records.TOOL_CALL_START, values, at=at)
        if ref is not None:
            self._call_turns[call.call_id] = ref.turn_id
        return ref

    async def tool_call_ended(
        self,
        *,
        call_id: str,
        tool_name: str,
        output: str,
        shown: str | None = None,
        is_error: bool = False,
        duration_ms: int,
        exit_code: int | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """A tool gave its output; ``shown`` is what the model saw of it, if it was shortened.

        An output that was shortened, or is above ``inline_text_bytes_max``, is kept whole as an object.
        """
        self._tool_errors += is_error
        if shown is not None and not self._recorder.is_off:
            self._shortened[call_id] = output
        values = {
            "call_id": call_id,
            "tool_name": tool_name,
            "is_error": is_error,
            "output": output if shown is None else shown,
            FULL_OUTPUT: None if shown is None else output,
            "duration_ms": duration_ms,
            "exit_code": exit_code,
        }
        return await self._event(records.TOOL_CALL_END, values, at=at, shape=tool_output)

    async def subagent_spawned(
        self,
        *,
        subagent_id: str,
        session_id: str,
        call_id: str | None = None,
        thread_key: str | None = None,
        title: str | None = None,
        at: datetime | None = None,
    ) -> SessionJournal:
        """A subagent begins: its context is forked from the call of the tool that began it, and this session names it.

        Returns the journal of its session, whose next record is ``session_started``.
        """
        fork_from = self.head_turn_id if call_id is None else self._call_turns.get(call_id, self.head_turn_id)
        child = SessionJournal(
            self._recorder,
            session_id=session_id,
            correlation=self._correlation_of_child(fork_from),
            thread_key=thread_key,
            title=title,
            fork_from=fork_from,
            spawned_by=self,
        )
        await child.open()
        values = {
            "subagent_id": subagent_id,
            "child_session_id": session_id,
            "child_context_id": child.context_id,
            "spawning_call_id": call_id,
        }
        await self._linked(links.SUBAGENT_SPAWN, values, at=at, ids={"parent_turn_id": fork_from})
        return child

    async def subagent_closed(
        self,
        *,
        subagent_id: str,
        child: SessionJournal,
        final_state: str,
        call_id: str | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """A subagent ended."""
        snapshot = child.snapshot()
        values = {
            "subagent_id": subagent_id,
            "child_session_id": snapshot.session_id,
            "child_context_id": snapshot.context_id,
            "spawning_call_id": call_id,
            "child_head_turn_id": snapshot.head_turn_id,
            "final_state": final_state,
            "tool_call_count": snapshot.tool_call_count,
            "tool_error_count": snapshot.tool_error_count,
        }
        return await self._linked(links.SUBAGENT_CLOSE, values, at=at)

    async def checkpoint_saved(
        self,
        *,
        checkpoint_id: str,
        checkpoint_hash: str | None = None,
        state_summary: Mapping[str, JsonValue] | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The state of the session was saved."""
        values = {
            "checkpoint_id": checkpoint_id,
            "checkpoint_hash": checkpoint_hash,
            "state_summary": state_summary,
        }
        return await self._event(records.AGENT_CHECKPOINT_SAVED, values, at=at)

    async def session_ended(
        self, *, final_state: str, reason: str | None = None, at: datetime | None = None
    ) -> TurnRef | None:
        """The session ended."""
        return await self._event(records.SESSION_END, {"final_state": final_state, "reason": reason}, at=at)


def _call_values(call: ToolCall) -> dict[str, object]:
    values = {
        "id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
        "raw_arguments": call.raw_arguments,
    }
    return {name: value for name, value in values.items() if value is not None}


def _usage_values(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
