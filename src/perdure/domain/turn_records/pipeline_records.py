"""The records of a pipeline's run: its text and graph, and each step from node to node."""

from __future__ import annotations

from typing import Final

from perdure.domain.turn_records.envelope import record, when
from perdure.domain.turn_records.fields import Enumeration, Field, RecordType

DOT_SOURCE_PERSISTED: Final = "dot_source_persisted"
GRAPH_SNAPSHOT_PERSISTED: Final = "graph_snapshot_persisted"
RUN_REGISTERED: Final = "run_registered"
RUN_INITIALIZED: Final = "run_initialized"
RUN_RESUMED: Final = "run_resumed"
RUN_FINALIZED: Final = "run_finalized"
STAGE_STARTED: Final = "stage_started"
STAGE_COMPLETED: Final = "stage_completed"
STAGE_FAILED: Final = "stage_failed"
STAGE_RETRYING: Final = "stage_retrying"
CHECKPOINT_SAVED: Final = "checkpoint_saved"
ROUTE_DECIDED: Final = "route_decided"
INTERVIEW_STARTED: Final = "interview_started"
INTERVIEW_COMPLETED: Final = "interview_completed"
INTERVIEW_TIMEOUT: Final = "interview_timeout"
PARALLEL_STARTED: Final = "parallel_started"
BRANCH_STARTED: Final = "branch_started"
BRANCH_COMPLETED: Final = "branch_completed"
PARALLEL_COMPLETED: Final = "parallel_completed"
FAN_IN_COMPLETED: Final = "fan_in_completed"

_RUN: Final = ("run_id",)
_NODE: Final = ("run_id", "node_id")
_STAGE: Final = ("run_id", "node_id", "stage_attempt_id")

# Fixed for ever, so it has every status that a stage or branch can end with.
OUTCOME: Final = Enumeration(
    enum_id="forge.attractor.outcome",
    labels={1: "success", 2: "partial_success", 3: "retry", 4: "fail", 5: "skipped", 6: "cancelled"},
)
CHECKPOINT_SUMMARY: Final = RecordType(
    type_id="forge.attractor.checkpoint_summary",
    fields=(
        Field(tag=1, name="current_node_id", type="string"),
        Field(tag=2, name="next_node_id", type="string", optional=True),
        Field(tag=3, name="completed_nodes_count", type="u64"),
        Field(tag=4, name="context_keys_count", type="u64"),
        Field(tag=5, name="retry_counter_count", type="u64"),
        Field(tag=6, name="dot_source_hash", type="string", optional=True),
        Field(tag=7, name="dot_source_ref", type="string", optional=True),
        Field(tag=8, name="graph_snapshot_hash", type="string", optional=True),
        Field(tag=9, name="graph_snapshot_ref", type="string", optional=True),
    ),
)
FAN_IN_SOURCE: Final = RecordType(
    type_id="forge.attractor.fan_in_source",
    fields=(
        Field(tag=1, name="branch_id", type="string"),
        Field(tag=2, name="context_id", type="string", optional=True),  # absent when none could be made
        Field(tag=3, name="terminal_turn_id", type="string", optional=True),
        Field(tag=4, name="status", type="u8", enum=OUTCOME),
    ),
)

RUN_EVENT: Final = record(
    "forge.attractor.run_event",
    Field(tag=31, name="graph_id", type="string"),
    Field(tag=32, name="lineage_root_run_id", type="string"),
    Field(tag=33, name="lineage_attempt", type="u32"),
    Field(tag=34, name="dot_source_hash", type="string", optional=True),
    Field(tag=35, name="dot_source_ref", type="string", optional=True),
    Field(tag=36, name="graph_snapshot_hash", type="string", optional=True),
    Field(tag=37, name="graph_snapshot_ref", type="string", optional=True),
    Field(tag=38, name="status", type="string", optional=True),
    Field(tag=39, name="reason", type="string", optional=True),
    Field(tag=40, name="restart_target", type="string", optional=True),
    Field(tag=41, name="duration_ms", type="u64", optional=True),
    Field(tag=50, name="resume_node_id", type="string", optional=True),
    Field(tag=51, name="resume_sequence_no", type="u64", optional=True),
    Field(tag=52, name="checkpoint_id", type="string", optional=True),
    Field(tag=53, name="checkpoint_hash", type="string", optional=True),
    Field(tag=54, name="resumed_from_context_id", type="string", optional=True),
    Field(tag=55, name="resumed_from_turn_id", type="string", optional=True),
    event_kinds=(RUN_REGISTERED, RUN_INITIALIZED, RUN_RESUMED, RUN_FINALIZED),
    needs=_RUN,
    requirements=(
        when(RUN_REGISTERED, "pipeline_context_id"),
        when(RUN_RESUMED, "resume_node_id", "resume_sequence_no", "checkpoint_id"),
        when(RUN_FINALIZED, "status"),
    ),
)
STAGE_EVENT: Final = record(
    "forge.attractor.stage_event",
    Field(tag=31, name="attempt", type="u32"),
    Field(tag=32, name="status", type="u8", enum=OUTCOME, optional=True),
    Field(tag=33, name="notes", type="string", optional=True),
    Field(tag=34, name="failure_reason", type="string", optional=True),
    Field(tag=35, name="handler", type="string", optional=True),
    Field(tag=36, name="preferred_label", type="string", optional=True),
    Field(tag=37, name="suggested_next_ids", type="array", items="string", optional=True),
    Field(tag=38, name="context_updates", type="map", optional=True),
    Field(tag=39, name="duration_ms", type="u64", optional=True),
    Field(tag=40, name="will_retry", type="bool", optional=True),
    Field(tag=41, name="next_attempt", type="u32", optional=True),
    Field(tag=42, name="delay_ms", type="u64", optional=True),
    event_kinds=(STAGE_STARTED, STAGE_COMPLETED, STAGE_FAILED, STAGE_RETRYING),
    needs=_STAGE,
    requirements=(
        when(STAGE_COMPLETED, "status"),
        when(STAGE_FAILED, "status"),
        when(STAGE_RETRYING, "next_attempt", "delay_ms"),
    ),
)
CHECKPOINT_EVENT: Final = record(
    "forge.attractor.checkpoint_event",
    Field(tag=31, name="checkpoint_id", type="string"),
    Field(tag=32, name="checkpoint_hash", type="string", optional=True),
    Field(tag=33, name="state_summary", type="ref", ref=CHECKPOINT_SUMMARY),
    event_kinds=(CHECKPOINT_SAVED,),
    needs=_STAGE,
)
# The hash of what ran and of what is kept differ when a redaction came between; the first is left out if even a hash
# would tell too much.
_KEPT_TEXT: Final = (
    Field(tag=32, name="artifact_blob_hash", type="string", optional=True),
    Field(tag=33, name="content_hash", type="string"),
    Field(tag=34, name="size_bytes", type="u64"),
    Field(tag=35, name="source_hash", type="string", optional=True),
)
DOT_SOURCE: Final = record(
    "forge.attractor.dot_source",
    Field(tag=31, name="dot_source", type="string", optional=True),
    *_KEPT_TEXT,
    event_kinds=(DOT_SOURCE_PERSISTED,),
    needs=_RUN,
    exactly_one=("dot_source", "artifact_blob_hash"),
)
GRAPH_SNAPSHOT: Final = record(
    "forge.attractor.graph_snapshot",
    Field(tag=31, name="graph_snapshot", type="string", optional=True),  # the canonical JSON that was hashed
    *_KEPT_TEXT,
    event_kinds=(GRAPH_SNAPSHOT_PERSISTED,),
    needs=_RUN,
    exactly_one=("graph_snapshot", "artifact_blob_hash"),
)
ROUTE_DECISION: Final = record(
    "forge.attractor.route_decision",
    Field(tag=31, name="target_node_id", type="string", optional=True),
    Field(tag=32, name="edge_index", type="u32", optional=True),  # in the snapshot; two edges may join the same nodes
    Field(tag=33, name="edge_label", type="string", optional=True),
    Field(tag=34, name="edge_condition", type="string", optional=True),
    Field(tag=35, name="chosen_by", type="string", optional=True),  # which rule of selection decided
    Field(tag=36, name="loop_restart", type="bool", optional=True),
    Field(tag=37, name="terminated_status", type="string", optional=True),
    Field(tag=38, name="terminated_reason", type="string", optional=True),
    event_kinds=(ROUTE_DECIDED,),
    needs=_STAGE,
    exactly_one=("target_node_id", "terminated_status"),
)
INTERVIEW_EVENT: Final = record(
    "forge.attractor.interview_event",
    Field(tag=31, name="question", type="string", optional=True),
    Field(tag=32, name="choices", type="array", items="string", optional=True),
    Field(tag=33, name="selected", type="string", optional=True),
    Field(tag=34, name="answer_text", type="string", optional=True),
    Field(tag=35, name="default_selected", type="string", optional=True),
    Field(tag=36, name="answered_by", type="string", optional=True),
    Field(tag=37, name="duration_ms", type="u64", optional=True),
    event_kinds=(INTERVIEW_STARTED, INTERVIEW_COMPLETED, INTERVIEW_TIMEOUT),
    needs=_STAGE,
    requirements=(when(INTERVIEW_STARTED, "question"), when(INTERVIEW_COMPLETED, "selected")),
)
PARALLEL_EVENT: Final = record(
    "forge.attractor.parallel_event",
    Field(tag=31, name="branch_count", type="u32", optional=True),
    Field(tag=32, name="branch_index", type="u32", optional=True),
    Field(tag=33, name="target_node_id", type="string", optional=True),
    Field(tag=34, name="branch_context_id", type="string", optional=True),
    Field(tag=35, name="terminal_turn_id", type="string", optional=True),
    Field(tag=36, name="status", type="u8", enum=OUTCOME, optional=True),
    Field(tag=37, name="notes", type="string", optional=True),
    Field(tag=38, name="success_count", type="u32", optional=True),
    Field(tag=39, name="failure_count", type="u32", optional=True),
    Field(tag=40, name="join_policy", type="string", optional=True),
    Field(tag=41, name="error_policy", type="string", optional=True),
    Field(tag=42, name="sources", type="array", items=FAN_IN_SOURCE, optional=True),  # in the order of declaration
    Field(tag=43, name="selected_branch_id", type="string", optional=True),
    event_kinds=(PARALLEL_STARTED, BRANCH_STARTED, BRANCH_COMPLETED, PARALLEL_COMPLETED, FAN_IN_COMPLETED),
    needs=_NODE,
    requirements=(
        when(PARALLEL_STARTED, "branch_count"),
        when(BRANCH_STARTED, "branch_id", "branch_index", "target_node_id"),
        when(BRANCH_COMPLETED, "branch_id", "branch_index", "status"),
        when(PARALLEL_COMPLETED, "success_count", "failure_count", "sources"),
        when(FAN_IN_COMPLETED, "sources"),
    ),
)

PIPELINE_RECORDS: Final = (
    RUN_EVENT,
    STAGE_EVENT,
    CHECKPOINT_EVENT,
    DOT_SOURCE,
    GRAPH_SNAPSHOT,
    ROUTE_DECISION,
    INTERVIEW_EVENT,
    PARALLEL_EVENT,
)
