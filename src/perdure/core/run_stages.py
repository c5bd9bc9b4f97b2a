"""What happens at the nodes of a run: stages, routes, interviews, and the agents that work for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from perdure.core.journal_links import AgentSnapshot, Stage
from perdure.core.run_drafts import Outcome, RunRecords
from perdure.core.session_journal import SessionJournal
from perdure.domain.turn import TurnRef
from perdure.domain.turn_records import link_records as links
from perdure.domain.turn_records import pipeline_records as records


class StageJournal(RunRecords):
    """The records of stages; those of the whole run are in ``RunJournal``."""

    async def stage_started(
        self, *, stage: Stage, handler: str | None = None, at: datetime | None = None
    ) -> TurnRef | None:
        """A handler is about to work on a node."""
        return await self._stage(records.STAGE_STARTED, stage, {"handler": handler}, at=at)

    async def stage_completed(
        self,
        *,
        stage: Stage,
        status: Outcome = "success",
        notes: str | None = None,
        preferred_label: str | None = None,
        suggested_next_ids: Sequence[str] | None = None,
        context_updates: Mapping[str, object] | None = None,
        duration_ms: int | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The node is done, in part, or asks for a retry."""
        values = {
            "status": status,
            "notes": notes,
            "preferred_label": preferred_label,
            "suggested_next_ids": suggested_next_ids,
            "context_updates": context_updates,
            "duration_ms": duration_ms,
        }
        return await self._stage(records.STAGE_COMPLETED, stage, values, at=at)

    async def stage_failed(
        self,
        *,
        stage: Stage,
        failure_reason: str,
        will_retry: bool | None = None,
        notes: str | None = None,
        duration_ms: int | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The node failed."""
        values = {
            "status": "fail",
            "failure_reason": failure_reason,
            "will_retry": will_retry,
            "notes": notes,
            "duration_ms": duration_ms,
        }
        return await self._stage(records.STAGE_FAILED, stage, values, at=at)

    async def stage_retrying(
        self, *, stage: Stage, next_attempt: int, delay_ms: int, at: datetime | None = None
    ) -> TurnRef | None:
        """The node is tried again after a delay."""
        values = {"next_attempt": next_attempt, "delay_ms": delay_ms, "will_retry": True}
        return await self._stage(records.STAGE_RETRYING, stage, values, at=at)

    async def route_decided(
        self,
        *,
        stage: Stage,
        target_node_id: str | None = None,
        edge_index: int | None = None,
        edge_label: str | None = None,
        edge_condition: str | None = None,
        chosen_by: str | None = None,
        loop_restart: bool | None = None,
        terminated_status: str | None = None,
        terminated_reason: str | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """Where the run goes from a node (``target_node_id``), or how it ends there (``terminated_status``)."""
        values = {
            "target_node_id": target_node_id,
            "edge_index": edge_index,
            "edge_label": edge_label,
            "edge_condition": edge_condition,
            "chosen_by": chosen_by,
            "loop_restart": loop_restart,
            "terminated_status": terminated_status,
            "terminated_reason": terminated_reason,
        }
        return await self._record(records.ROUTE_DECISION, records.ROUTE_DECIDED, values, stage=stage, at=at)

    async def interview_started(
        self, *, stage: Stage, question: str, choices: Sequence[str] | None = None, at: datetime | None = None
    ) -> TurnRef | None:
        """A person is asked."""
        values = {"question": question, "choices": choices}
        return await self._interview(records.INTERVIEW_STARTED, stage, values, at=at)

    async def interview_completed(
        self,
        *,
        stage: Stage,
        selected: str,
        answer_text: str | None = None,
        answered_by: str | None = None,
        duration_ms: int | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The person answered."""
        values = {
            "selected": selected,
            "answer_text": answer_text,
            "answered_by": answered_by,
            "duration_ms": duration_ms,
        }
        return await self._interview(records.INTERVIEW_COMPLETED, stage, values, at=at)

    async def interview_timed_out(
        self,
        *,
        stage: Stage,
        default_selected: str | None = None,
        duration_ms: int | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """Nobody answered in time; ``default_selected`` is what was taken instead."""
        values = {"default_selected": default_selected, "duration_ms": duration_ms}
        return await self._interview(records.INTERVIEW_TIMEOUT, stage, values, at=at)

    async def agent_attached(
        self, *, stage: Stage, session: SessionJournal, at: datetime | None = None
    ) -> AgentSnapshot:
        """An agent is about to work for a stage: written before it says anything, so that a crash leaves the way there.

        Returns where its session is now, for ``agent_completed``.
        """
        if session.context_id is None:
            await session.open()
        attached = session.snapshot()
        await self._link(links.ATTACHED, stage, attached, {"agent_base_turn_id": attached.head_turn_id}, at=at)
        return attached

    async def agent_completed(
        self, *, stage: Stage, session: SessionJournal, attached: AgentSnapshot, at: datetime | None = None
    ) -> TurnRef | None:
        """The agent is done with a stage; ``attached`` is what ``agent_attached`` gave."""
        agent = session.snapshot()
        values = {
            "agent_base_turn_id": attached.head_turn_id,
            "tool_call_count": agent.tool_call_count - attached.tool_call_count,
            "tool_error_count": agent.tool_error_count - attached.tool_error_count,
        }
        return await self._link(links.COMPLETED, stage, agent, values, at=at)

    async def _stage(
        self, event_kind: str, stage: Stage, values: Mapping[str, object], *, at: datetime | None
    ) -> TurnRef | None:
        values = {**values, "attempt": stage.attempt}
        return await self._record(records.STAGE_EVENT, event_kind, values, stage=stage, at=at)

    async def _interview(
        self, event_kind: str, stage: Stage, values: Mapping[str, object], *, at: datetime | None
    ) -> TurnRef | None:
        return await self._record(records.INTERVIEW_EVENT, event_kind, values, stage=stage, at=at)

    async def _link(
        self, kind: str, stage: Stage, agent: AgentSnapshot, values: Mapping[str, object], *, at: datetime | None
    ) -> TurnRef | None:
        ids = {
            "agent_session_id": agent.session_id,
            "agent_context_id": agent.context_id,
            "agent_head_turn_id": agent.head_turn_id,
            "thread_key": agent.thread_key,
        }
        lineage = {
            "lineage_root_run_id": self._run.lineage_root_run_id,
            "lineage_attempt": self._run.lineage_attempt,
        }
        return await self._record(
            links.STAGE_TO_AGENT,
            links.STAGE_TO_AGENT_LINK,
            {**values, **lineage, "link_kind": kind},
            stage=stage,
            at=at,
            ids=ids,
            stamps_context="pipeline_context_id",
        )
