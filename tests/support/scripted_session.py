"""One run as a writer tells it: two stages with agents, tools (one fails), a subagent, and three branches.

Told twice, it says the same at the same times, so that its records are the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from perdure.core.journal_links import Stage
from perdure.core.recorder import Recorder
from perdure.core.run_drafts import Outcome
from perdure.core.run_journal import CheckpointSummary, RunJournal, SavedCheckpoint
from perdure.core.run_parallel import BranchJournal
from perdure.core.session_journal import SessionJournal, ToolCall, ToolResult, Usage

BEGAN_AT: Final = datetime(2026, 2, 10, 8, 0, tzinfo=UTC)
EXPIRES_AT: Final = datetime(2027, 2, 10, tzinfo=UTC)
DOT: Final = 'digraph g { start -> plan; plan -> fan; fan -> review; review -> exit; plan [prompt="Plan 🚀|é:1"] }'
GRAPH: Final[dict[str, Any]] = {"id": "g", "nodes": ["start", "plan", "fan", "review", "exit"], "edges": 4}
BRANCHES: Final = ("left", "middle", "right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is said, for whoever wants other words."""

    run_id: str = "run-1"
    dot: str = DOT
    graph: dict[str, Any] = field(default_factory=lambda: dict(GRAPH))
    prompt: str = "Plan it. 🚀"
    tool_arguments: dict[str, Any] = field(default_factory=lambda: {"path": "a.txt", "depth": 1})
    tool_output: str = "one\ntwo\n"
    shown: str | None = None
    failure: str = "the reviewer said no"
    node: str = "plan"
    session_id: str = "session-1"
    title: str | None = "A plan"
    messages: int = 0  # how many more messages there are in the first session


@dataclass(slots=True, kw_only=True)
class Told:
    """What became of the telling."""

    run: RunJournal
    session: SessionJournal
    child: SessionJournal
    checkpoint: SavedCheckpoint | None
    outcome: str


class Script:
    """Tells the run to a recorder."""

    def __init__(self, recorder: Recorder, words: Words | None = None) -> None:
        self._recorder = recorder
        self._words = words or Words()
        self._seconds = 0

    async def tell(self, *, stops_at_checkpoint: bool = False) -> Told:
        """All of it, or the part up to the checkpoint."""
        words = self._words
        run = RunJournal(
            self._recorder,
            run_id=words.run_id,
            graph_id="g",
            title=words.title,
            client_tag="tests",
            retention_class="short",
            expires_at=EXPIRES_AT,
        )
        await run.open()
        await run.dot_source_persisted(dot_source=words.dot, at=self._at())
        await run.graph_snapshot_persisted(graph_snapshot=words.graph, at=self._at())
        await run.run_initialized(at=self._at())
        plan = Stage(node_id=words.node)
        session = SessionJournal(
            self._recorder, session_id=words.session_id, correlation=run.correlation(plan), thread_key="main"
        )
        child = await self._plan(run, session, plan)
        checkpoint = await run.checkpoint_saved(
            stage=plan, summary=_summary(words.node, "fan"), checkpoint_hash="c1", at=self._at()
        )
        if stops_at_checkpoint:
            return Told(run=run, session=session, child=child, checkpoint=checkpoint, outcome="interrupted")
        await self._fan(run)
        await self._review(run)
        await run.run_finalized(status="success", duration_ms=1_000, at=self._at())
        return Told(run=run, session=session, child=child, checkpoint=checkpoint, outcome="success")

    def _at(self) -> datetime:
        self._seconds += 1
        return BEGAN_AT + timedelta(seconds=self._seconds)

    async def _plan(self, run: RunJournal, session: SessionJournal, stage: Stage) -> SessionJournal:
        await session.open()
        await run.stage_started(stage=stage, handler="codergen", at=self._at())
        attached = await run.agent_attached(stage=stage, session=session, at=self._at())
        await session.session_started(provider="scripted", model="m-1", at=self._at())
        await session.system_turn_appended(content="Be brief.", at=self._at())
        await session.user_turn_appended(content=self._words.prompt, at=self._at())
        for number in range(self._words.messages):
            await session.user_turn_appended(content=f"message {number}", at=self._at())
        await self._tools(session)
        child = await self._subagent(session)
        await session.steering_turn_appended(content="Come to an end.", at=self._at())
        await session.assistant_turn_appended(content="Done.", finish_reason="stop", at=self._at())
        await session.checkpoint_saved(checkpoint_id="s-1", state_summary={"turns": 9}, at=self._at())
        await session.session_ended(final_state="completed", at=self._at())
        await run.agent_completed(stage=stage, session=session, attached=attached, at=self._at())
        await run.stage_completed(
            stage=stage, status="success", notes="planned", context_updates={"plan": "ok"}, at=self._at()
        )
        await run.route_decided(stage=stage, target_node_id="fan", edge_index=1, chosen_by="weight", at=self._at())
        return child

    async def _tools(self, session: SessionJournal) -> None:
        words = self._words
        read = ToolCall(call_id="call-1", name="read", arguments=words.tool_arguments)
        bad = ToolCall(call_id="call-2", name="shell", raw_arguments='{"command": ')
        await session.assistant_turn_appended(
            content="Let me look.",
            tool_calls=[read, bad],
            usage=Usage(input_tokens=10, output_tokens=5, total_tokens=15),
            response_id="r-1",
            at=self._at(),
        )
        for call in (read, bad):
            await session.tool_call_started(call=call, at=self._at())
        await session.tool_call_ended(
            call_id="call-1",
            tool_name="read",
            output=words.tool_output,
            shown=words.shown,
            duration_ms=12,
            at=self._at(),
        )
        await session.tool_call_ended(
            call_id="call-2",
            tool_name="shell",
            output=f"no such command: {words.failure}",
            is_error=True,
            duration_ms=1,
            exit_code=-9,
            at=self._at(),
        )
        await session.tool_results_turn_appended(
            results=[
                ToolResult(call_id="call-1", content=words.shown or words.tool_output),
                ToolResult(call_id="call-2", content=words.failure, is_error=True),
            ],
            at=self._at(),
        )

    async def _subagent(self, session: SessionJournal) -> SessionJournal:
        call = ToolCall(call_id="call-3", name="delegate", arguments={"task": "count"})
        await session.tool_call_started(call=call, at=self._at())
        child = await session.subagent_spawned(
            subagent_id="sub-1", session_id=f"{self._words.session_id}.1", call_id="call-3", at=self._at()
        )
        await child.session_started(at=self._at())
        await child.user_turn_appended(content="Count.", at=self._at())
        await child.assistant_turn_appended(content="Two.", at=self._at())
        await child.session_ended(final_state="completed", at=self._at())
        await session.subagent_closed(
            subagent_id="sub-1", child=child, final_state="completed", call_id="call-3", at=self._at()
        )
        await session.tool_call_ended(
            call_id="call-3", tool_name="delegate", output="Two.", duration_ms=5, at=self._at()
        )
        return child

    async def _fan(self, run: RunJournal) -> None:
        fan, join = Stage(node_id="fan"), Stage(node_id="join")
        await run.stage_started(stage=fan, at=self._at())
        await run.parallel_started(stage=fan, branch_count=3, join_policy="wait_all", at=self._at())
        branches = [
            await run.branch_started(
                stage=fan, branch_id=name, branch_index=index, target_node_id=f"{name}-1", at=self._at()
            )
            for index, name in enumerate(BRANCHES)
        ]
        for branch in branches:
            stage = Stage(node_id=f"{branch.branch_id}-1")
            await branch.stage_started(stage=stage, at=self._at())
            await branch.stage_completed(stage=stage, at=self._at())
            await branch.route_decided(stage=stage, target_node_id="join", at=self._at())
        for branch in branches:
            await run.branch_completed(stage=fan, branch=branch, status="success", at=self._at())
        outcomes: list[tuple[BranchJournal, Outcome]] = [(branch, "success") for branch in branches]
        await run.parallel_completed(
            stage=fan,
            branches=outcomes,
            success_count=3,
            failure_count=0,
            at=self._at(),
        )
        await run.fan_in_completed(
            stage=join,
            branches=outcomes,
            selected_branch_id="left",
            at=self._at(),
        )
        await run.route_decided(stage=join, target_node_id="review", at=self._at())

    async def _review(self, run: RunJournal) -> None:
        first, second = Stage(node_id="review"), Stage(node_id="review", attempt=2)
        await run.stage_started(stage=first, handler="wait.human", at=self._at())
        await run.interview_started(stage=first, question="Good?", choices=["yes", "no"], at=self._at())
        await run.interview_timed_out(stage=first, default_selected="no", at=self._at())
        await run.stage_failed(stage=first, failure_reason=self._words.failure, will_retry=True, at=self._at())
        await run.stage_retrying(stage=first, next_attempt=2, delay_ms=100, at=self._at())
        await run.stage_started(stage=second, at=self._at())
        await run.interview_started(stage=second, question="Good now?", at=self._at())
        await run.interview_completed(stage=second, selected="yes", answered_by="ada", at=self._at())
        await run.stage_completed(stage=second, at=self._at())
        await run.route_decided(stage=second, terminated_status="success", at=self._at())


def _summary(current: str, following: str) -> CheckpointSummary:
    return CheckpointSummary(
        current_node_id=current,
        next_node_id=following,
        completed_nodes_count=1,
        context_keys_count=1,
        retry_counter_count=0,
    )
