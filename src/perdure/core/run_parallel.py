"""Branches of a run that go side by side, each in a context of its own, and how they come together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from perdure.core.journal_labels import branches_label, fork_label
from perdure.core.journal_links import Stage, numeric
from perdure.core.recorder import Recorder
from perdure.core.recorder_lines import Track
from perdure.core.run_drafts import Outcome, RunIdentity
from perdure.core.run_stages import StageJournal
from perdure.domain.turn import NO_TURN, TurnRef
from perdure.domain.turn_records import pipeline_records as records


class ParallelJournal(StageJournal):
    """The records of stages, and of parallel sections among them."""

    def __init__(
        self,
        recorder: Recorder,
        track: Track,
        *,
        run: RunIdentity,
        root: Track | None = None,
        branch_id: str | None = None,
    ) -> None:
        super().__init__(recorder, track, run=run, root=root, branch_id=branch_id)
        self._parallel_turns: dict[Stage, str] = {}

    async def parallel_started(
        self,
        *,
        stage: Stage,
        branch_count: int,
        join_policy: str | None = None,
        error_policy: str | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """A node is about to run branches side by side; their contexts are forked from here."""
        values = {"branch_count": branch_count, "join_policy": join_policy, "error_policy": error_policy}
        ref = await self._parallel(records.PARALLEL_STARTED, stage, values, at=at)
        if ref is not None:
            self._parallel_turns[stage] = ref.turn_id
        return ref

    async def branch_started(
        self, *, stage: Stage, branch_id: str, branch_index: int, target_node_id: str, at: datetime | None = None
    ) -> BranchJournal:
        """A branch begins: its own context is made, in which its stages are recorded, and this one names it."""
        branch = self._branch(stage, branch_id=branch_id, branch_index=branch_index)
        await branch.open()
        values = {
            "branch_index": branch_index,
            "target_node_id": target_node_id,
            "branch_context_id": branch.context_id,
        }
        await self._parallel(records.BRANCH_STARTED, stage, values, branch_id=branch_id, at=at)
        return branch

    async def branch_completed(
        self,
        *,
        stage: Stage,
        branch: BranchJournal,
        status: Outcome,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """A branch is done."""
        values = {
            "branch_index": branch.branch_index,
            "branch_context_id": branch.context_id,
            "terminal_turn_id": branch.terminal_turn_id,
            "status": status,
            "notes": notes,
        }
        return await self._parallel(records.BRANCH_COMPLETED, stage, values, branch_id=branch.branch_id, at=at)

    async def parallel_completed(
        self,
        *,
        stage: Stage,
        branches: Sequence[tuple[BranchJournal, Outcome]],
        success_count: int,
        failure_count: int,
        status: Outcome | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """All branches are done; they are named in the order of their declaration."""
        values = {
            "sources": _sources(branches),
            "success_count": success_count,
            "failure_count": failure_count,
            "status": status,
        }
        return await self._parallel(records.PARALLEL_COMPLETED, stage, values, at=at)

    async def fan_in_completed(
        self,
        *,
        stage: Stage,
        branches: Sequence[tuple[BranchJournal, Outcome]],
        selected_branch_id: str | None = None,
        status: Outcome | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The results of branches became one."""
        values = {
            "sources": _sources(branches),
            "selected_branch_id": selected_branch_id,
            "status": status,
            "notes": notes,
        }
        return await self._parallel(records.FAN_IN_COMPLETED, stage, values, at=at)

    def _branch(self, stage: Stage, *, branch_id: str, branch_index: int) -> BranchJournal:
        run_id, parent, root = self._run.run_id, self._track, self._root
        fork_from = self._parallel_turns.get(stage, self.head_turn_id)
        track = Track(
            parent.line,
            labels=lambda: (
                fork_label("branch", run_id, stage.node_id, stage.visit, stage.attempt, fork_from, branch_id),
                branches_label(run_id),
            ),
            # A branch goes on from the run's context: it ends with it, or it would keep it for ever.
            metadata=lambda: {
                **{name: root.metadata().get(name) for name in ("retention_class", "expires_at")},
                **_branch_metadata(run_id, branch_id, parent.context_id, root.context_id),
            },
            fork_from=None if fork_from == NO_TURN else fork_from,
            parent=parent,
            may_exist=parent.children_may_exist,
        )
        return BranchJournal(
            self._recorder, track, run=self._run, root=root, branch_id=branch_id, branch_index=branch_index
        )

    async def _parallel(
        self,
        event_kind: str,
        stage: Stage,
        values: Mapping[str, object],
        *,
        at: datetime | None,
        branch_id: str | None = None,
    ) -> TurnRef | None:
        ids = {} if branch_id is None else {"branch_id": branch_id}
        return await self._record(
            records.PARALLEL_EVENT, event_kind, values, stage=stage, at=at, scope="parallel", ids=ids
        )


class BranchJournal(ParallelJournal):
    """One parallel branch of a run, in a context of its own; it shares the run's numbers."""

    def __init__(
        self,
        recorder: Recorder,
        track: Track,
        *,
        run: RunIdentity,
        root: Track,
        branch_id: str,
        branch_index: int,
    ) -> None:
        super().__init__(recorder, track, run=run, root=root, branch_id=branch_id)
        self.branch_index: Final = branch_index

    @property
    def terminal_turn_id(self) -> str | None:
        """The last turn of the branch; None if there is none of its own."""
        return self._track.last_turn_id


def _sources(branches: Sequence[tuple[BranchJournal, Outcome]]) -> list[dict[str, object]]:
    return [
        {
            "branch_id": branch.branch_id,
            "context_id": branch.context_id,
            "terminal_turn_id": branch.terminal_turn_id,
            "status": status,
        }
        for branch, status in branches
    ]


def _branch_metadata(run_id: str, branch_id: str, parent: str | None, root: str | None) -> dict[str, object]:
    provenance = {
        "parent_context_id": numeric(parent),
        "root_context_id": numeric(root),
        "spawn_reason": "branch",
        "correlation_id": run_id,
    }
    return {"context_metadata": {"title": branch_id, "provenance": provenance}}
