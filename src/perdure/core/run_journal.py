"""The journal of one run: what was run, each step on its way, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from perdure.core.journal_labels import run_label
from perdure.core.journal_links import KeptText, Stage
from perdure.core.journal_resuming import ResumePoint, locate_run
from perdure.core.recorder import Recorder
from perdure.core.recorder_limits import RecorderTurns
from perdure.core.recorder_lines import Draft, Line, Position, Track
from perdure.core.recorder_steps import unix_ms
from perdure.core.recorder_texts import kept_text
from perdure.core.run_drafts import RunIdentity
from perdure.core.run_parallel import ParallelJournal
from perdure.domain.canonical import JsonValue
from perdure.domain.turn import TurnRef
from perdure.domain.turn_records import pipeline_records as records
from perdure.domain.turn_records.fields import RecordType
from perdure.errors import Invalid

RunStatus: TypeAlias = Literal["success", "partial_success", "fail", "restarted", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint's record: what a run is resumed from."""

    checkpoint_id: str
    sequence_no: int
    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSummary:
    """What a checkpoint says of a run's state without its contents."""

    current_node_id: str
    next_node_id: str | None = None
    completed_nodes_count: int
    context_keys_count: int
    retry_counter_count: int


class RunJournal(ParallelJournal):
    """Records a run. Making one does nothing; ``open`` or ``resume`` comes first, then what happens, as it happens.

    Each method writes one record and returns where it is, or None if it is not known to be kept. ``at`` is when it
    happened, now if it is not given; whoever records the same run again gives the same times.

    ``retention_class`` and ``expires_at`` are written on the first record of the run's context, for whoever purges.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        run_id: str,
        graph_id: str,
        lineage_root_run_id: str | None = None,
        lineage_attempt: int = 1,
        title: str | None = None,
        client_tag: str | None = None,
        retention_class: str | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        def metadata() -> Mapping[str, object]:
            about = {
                "client_tag": client_tag,
                "title": title,
                "provenance": {"correlation_id": run_id},
            }
            return {
                "context_metadata": about,
                "retention_class": retention_class,
                "expires_at": None if expires_at is None else unix_ms(expires_at),
            }

        root_run_id = run_id if lineage_root_run_id is None else lineage_root_run_id
        super().__init__(
            recorder,
            Track(Line(first=1), labels=lambda: (run_label(run_id),), metadata=metadata),
            run=RunIdentity(
                run_id=run_id,
                graph_id=graph_id,
                lineage_root_run_id=root_run_id,
                lineage_attempt=lineage_attempt,
            ),
        )
        self._resumed_from: tuple[ResumePoint, Position] | None = None
        self._dot: KeptText | None = None
        self._graph: KeptText | None = None

    async def resume(self, *, point: ResumePoint) -> None:
        """Find where the run goes on after a checkpoint, instead of ``open``.

        It is the same context if nothing was recorded after the checkpoint, else a fork from it. In mode
        ``best_effort`` an outage is no obstacle: the first record looks again. Raises ``PersistenceError`` in mode
        ``required``.
        """
        if self._recorder.is_off:
            return
        run_id = self._run.run_id

        async def locate(turns: RecorderTurns, left_s: float) -> Position:
            """Where it goes on, for the record that says so too."""
            position = await locate_run(turns, run_id, point, timeout_s=left_s)
            self._resumed_from = (point, position)
            return position

        self._resumed_from = (point, Position())
        self._dot, self._graph = point.dot_source, point.graph_snapshot
        self._track.resume(locate)
        await self.open()

    async def dot_source_persisted(self, *, dot_source: str, at: datetime | None = None) -> KeptText | None:
        """The text of the graph, as it was given."""
        kept = await self._text(records.DOT_SOURCE, records.DOT_SOURCE_PERSISTED, {"dot_source": dot_source}, at=at)
        if kept is not None:
            self._dot = kept
        return kept

    async def graph_snapshot_persisted(
        self, *, graph_snapshot: Mapping[str, JsonValue], at: datetime | None = None
    ) -> KeptText | None:
        """The graph that is run, as canonical JSON."""
        values = {"graph_snapshot": graph_snapshot}
        kept = await self._text(records.GRAPH_SNAPSHOT, records.GRAPH_SNAPSHOT_PERSISTED, values, at=at, is_json=True)
        if kept is not None:
            self._graph = kept
        return kept

    async def run_initialized(self, *, at: datetime | None = None) -> TurnRef | None:
        """The run is about to begin."""
        return await self._event(records.RUN_INITIALIZED, self._hashes(), at=at)

    async def run_resumed(self, *, at: datetime | None = None) -> TurnRef | None:
        """The run goes on from the point that ``resume`` was given, before which this is ``Invalid``."""
        if self._recorder.is_off:
            return None
        if self._resumed_from is None:
            raise Invalid("run_resumed was called for a run that was not resumed; call resume first")

        def resumed(_: Draft) -> Mapping[str, object]:
            """From where: it may be known only when the record is encoded."""
            assert self._resumed_from is not None
            point, position = self._resumed_from
            return {
                "resume_node_id": point.node_id,
                "resume_sequence_no": point.sequence_no,
                "checkpoint_id": point.checkpoint_id,
                "checkpoint_hash": point.checkpoint_hash,
                "resumed_from_context_id": position.context_id or position.former_context_id,
                "resumed_from_turn_id": position.fork_from or point.turn_id,
            }

        draft = self._run_draft(
            records.RUN_EVENT, records.RUN_RESUMED, self._lineage(), stage=None, at=at, scope="run", ids=resumed
        )
        return await self._send(draft)

    async def run_finalized(
        self,
        *,
        status: RunStatus,
        reason: str | None = None,
        restart_target: str | None = None,
        duration_ms: int | None = None,
        at: datetime | None = None,
    ) -> TurnRef | None:
        """The run ended."""
        values = {"status": status, "reason": reason, "restart_target": restart_target, "duration_ms": duration_ms}
        return await self._event(records.RUN_FINALIZED, values, at=at)

    async def checkpoint_saved(
        self,
        *,
        stage: Stage,
        summary: CheckpointSummary,
        checkpoint_id: str | None = None,
        checkpoint_hash: str | None = None,
        at: datetime | None = None,
    ) -> SavedCheckpoint | None:
        """The state after a stage was saved; its id is ``cp-<sequence_no>`` unless another is given."""
        hashes = self._hashes()
        state = {
            "current_node_id": summary.current_node_id,
            "next_node_id": summary.next_node_id,
            "completed_nodes_count": summary.completed_nodes_count,
            "context_keys_count": summary.context_keys_count,
            "retry_counter_count": summary.retry_counter_count,
            **hashes,
        }
        values = {"checkpoint_hash": checkpoint_hash, "state_summary": state}
        draft = self._run_draft(
            records.CHECKPOINT_EVENT,
            records.CHECKPOINT_SAVED,
            values,
            stage=stage,
            at=at,
            scope="stage",
            ids=lambda own: {"checkpoint_id": checkpoint_id or f"cp-{own.sequence_no}"},
        )
        ref = await self._send(draft)
        if draft is None or ref is None or draft.sequence_no is None:
            return None
        return SavedCheckpoint(
            checkpoint_id=checkpoint_id or f"cp-{draft.sequence_no}",
            sequence_no=draft.sequence_no,
            turn_id=ref.turn_id,
        )

    async def _text(
        self,
        record_type: RecordType,
        event_kind: str,
        values: Mapping[str, object],
        *,
        at: datetime | None,
        is_json: bool = False,
    ) -> KeptText | None:
        (name,) = values
        draft = self._run_draft(
            record_type,
            event_kind,
            values,
            stage=None,
            at=at,
            scope="run",
            ids=lambda _: {},
            shape=kept_text(name, is_json=is_json),
        )
        ref = await self._send(draft)
        if draft is None or ref is None or draft.content is None:
            return None
        digest = str(draft.content["content_hash"])
        place = f"turnstore://{ref.context_id}/{ref.turn_id}" if draft.blob is None else f"blob://{digest}"
        return KeptText(content_hash=digest, ref=place)

    async def _event(self, event_kind: str, values: Mapping[str, object], *, at: datetime | None) -> TurnRef | None:
        return await self._record(
            records.RUN_EVENT, event_kind, {**self._lineage(), **values}, stage=None, at=at, scope="run"
        )

    def _lineage(self) -> dict[str, object]:
        return {
            "graph_id": self._run.graph_id,
            "lineage_root_run_id": self._run.lineage_root_run_id,
            "lineage_attempt": self._run.lineage_attempt,
        }

    def _hashes(self) -> dict[str, object]:
        dot, graph = self._dot, self._graph
        return {
            "dot_source_hash": None if dot is None else dot.content_hash,
            "dot_source_ref": None if dot is None else dot.ref,
            "graph_snapshot_hash": None if graph is None else graph.content_hash,
            "graph_snapshot_ref": None if graph is None else graph.ref,
        }
