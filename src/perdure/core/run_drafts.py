"""The records of one run: their keys, and the ids that each of them carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from perdure.core.journal_links import Correlation, Journal, Stage
from perdure.core.recorder import Recorder
from perdure.core.recorder_lines import Draft, Track
from perdure.core.recorder_texts import Shape
from perdure.domain.turn import NO_TURN, TurnRef
from perdure.domain.turn_records.fields import RecordType
from perdure.domain.turn_records.keys import PARALLEL_SCOPE, RUN_SCOPE, attractor_key

Outcome: TypeAlias = Literal["success", "partial_success", "retry", "fail", "skipped", "cancelled"]
Scope: TypeAlias = Literal["run", "stage", "parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which run it is, and from which it descends; a run that began nowhere else is its own root."""

    run_id: str
    graph_id: str
    lineage_root_run_id: str
    lineage_attempt: int = 1


class RunRecords(Journal):
    """Writes records of a run to one of its contexts: the main one (``root``), or that of a branch."""

    def __init__(
        self,
        recorder: Recorder,
        track: Track,
        *,
        run: RunIdentity,
        root: Track | None = None,
        branch_id: str | None = None,
    ) -> None:
        super().__init__(recorder, track)
        self._run = run
        self._root = track if root is None else root
        self._branch_id = branch_id

    @property
    def branch_id(self) -> str | None:
        """The parallel branch that this is; None on the main way."""
        return self._branch_id

    def correlation(self, stage: Stage) -> Correlation:
        """What the session of an agent that works for a stage belongs to."""
        return Correlation(
            run_id=self._run.run_id,
            pipeline_context_id=self.context_id,
            node_id=stage.node_id,
            # Not its property, which may raise: where nothing is recorded, nothing is checked.
            stage_attempt_id=f"{stage.node_id}:attempt:{stage.attempt}",
            node_visit=stage.visit,
            branch_id=self._branch_id,
            parent_turn_id=None if self.head_turn_id == NO_TURN else self.head_turn_id,
        )

    async def _record(
        self,
        record_type: RecordType,
        event_kind: str,
        values: Mapping[str, object],
        *,
        stage: Stage | None,
        at: datetime | None,
        scope: Scope = "stage",
        ids: Mapping[str, object] | None = None,
        stamps_context: str | None = None,
    ) -> TurnRef | None:
        return await self._send(
            self._run_draft(
                record_type,
                event_kind,
                values,
                stage=stage,
                at=at,
                scope=scope,
                ids=lambda _: ids or {},
                stamps_context=stamps_context,
            )
        )

    def _run_draft(
        self,
        record_type: RecordType,
        event_kind: str,
        values: Mapping[str, object],
        *,
        stage: Stage | None,
        at: datetime | None,
        scope: Scope,
        ids: Callable[[Draft], Mapping[str, object]],
        shape: Shape | None = None,
        stamps_context: str | None = None,
    ) -> Draft | None:
        def key(number: int) -> str:
            return attractor_key(
                self._run.run_id,
                node_id=_SCOPES[scope] or (stage.node_id if stage is not None else ""),
                stage_attempt_id=_SCOPES[scope] or (stage.stage_attempt_id if stage is not None else ""),
                event_kind=event_kind,
                sequence_no=number,
            )

        def envelope(draft: Draft) -> Mapping[str, object]:
            of_stage = {} if stage is None else _stage_ids(stage)
            return {"run_id": self._run.run_id, "branch_id": self._branch_id, **of_stage, **ids(draft)}

        return self._draft(
            record_type,
            event_kind,
            values,
            key=key,
            envelope=envelope,
            at=at,
            shape=shape,
            stamps_context=stamps_context,
        )


_SCOPES: Final[Mapping[Scope, str]] = {"run": RUN_SCOPE, "stage": "", "parallel": PARALLEL_SCOPE}


def _stage_ids(stage: Stage) -> dict[str, object]:
    return {"node_id": stage.node_id, "stage_attempt_id": stage.stage_attempt_id, "node_visit": stage.visit}
