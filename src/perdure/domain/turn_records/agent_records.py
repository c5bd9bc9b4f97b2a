"""The records of agent sessions: what was said, and which tools were called with what outcome."""

from __future__ import annotations

from typing import Final

from perdure.domain.turn_records.envelope import record, when
from perdure.domain.turn_records.fields import Field, RecordType

TURN_APPENDED: Final = "turn_appended"
SESSION_START: Final = "session_start"
SESSION_END: Final = "session_end"
TOOL_CALL_START: Final = "tool_call_start"
TOOL_CALL_END: Final = "tool_call_end"
AGENT_CHECKPOINT_SAVED: Final = "checkpoint_saved"

_SESSION: Final = ("agent_session_id",)
_SPOKEN: Final = (TURN_APPENDED,)

TOOL_CALL: Final = RecordType(
    type_id="forge.agent.tool_call",
    fields=(
        Field(tag=1, name="id", type="string"),
        Field(tag=2, name="name", type="string"),
        # Absent when what the model wrote is no JSON; raw_arguments has it then.
        Field(tag=3, name="arguments", type="any", optional=True),
        Field(tag=4, name="raw_arguments", type="string", optional=True),
    ),
)
USAGE: Final = RecordType(
    type_id="forge.agent.usage",
    fields=(
        Field(tag=1, name="input_tokens", type="u64"),
        Field(tag=2, name="output_tokens", type="u64"),
        Field(tag=3, name="total_tokens", type="u64"),
        Field(tag=4, name="reasoning_tokens", type="u64", optional=True),
        Field(tag=5, name="cache_read_tokens", type="u64", optional=True),
        Field(tag=6, name="cache_write_tokens", type="u64", optional=True),
    ),
)
TOOL_RESULT: Final = RecordType(
    type_id="forge.agent.tool_result",
    fields=(
        Field(tag=1, name="tool_call_id", type="string"),
        Field(tag=2, name="content", type="any"),  # text, or what a tool gave in parts
        Field(tag=3, name="is_error", type="bool"),
    ),
)

USER_TURN: Final = record(
    "forge.agent.user_turn", Field(tag=31, name="content", type="string"), event_kinds=_SPOKEN, needs=_SESSION
)
ASSISTANT_TURN: Final = record(
    "forge.agent.assistant_turn",
    Field(tag=31, name="content", type="string"),
    Field(tag=32, name="tool_calls", type="array", items=TOOL_CALL, optional=True),
    Field(tag=33, name="reasoning", type="string", optional=True),
    Field(tag=34, name="usage", type="ref", ref=USAGE, optional=True),
    Field(tag=35, name="response_id", type="string", optional=True),
    Field(tag=36, name="provider", type="string", optional=True),
    Field(tag=37, name="model", type="string", optional=True),
    Field(tag=38, name="finish_reason", type="string", optional=True),
    event_kinds=_SPOKEN,
    needs=_SESSION,
)
TOOL_RESULTS_TURN: Final = record(
    "forge.agent.tool_results_turn",
    Field(tag=31, name="results", type="array", items=TOOL_RESULT),
    event_kinds=_SPOKEN,
    needs=_SESSION,
)
STEERING_TURN: Final = record(
    "forge.agent.steering_turn", Field(tag=31, name="content", type="string"), event_kinds=_SPOKEN, needs=_SESSION
)
SYSTEM_TURN: Final = record(
    "forge.agent.system_turn", Field(tag=31, name="content", type="string"), event_kinds=_SPOKEN, needs=_SESSION
)
AGENT_EVENT: Final = record(
    "forge.agent.event",
    Field(tag=31, name="provider", type="string", optional=True),
    Field(tag=32, name="model", type="string", optional=True),
    Field(tag=33, name="final_state", type="string", optional=True),
    Field(tag=34, name="reason", type="string", optional=True),
    Field(tag=40, name="call_id", type="string", optional=True),
    Field(tag=41, name="tool_name", type="string", optional=True),
    Field(tag=42, name="arguments", type="any", optional=True),
    Field(tag=43, name="raw_arguments", type="string", optional=True),
    Field(tag=44, name="is_error", type="bool", optional=True),
    Field(tag=45, name="output", type="string", optional=True),  # what the model was shown
    Field(tag=46, name="output_full_bytes", type="u64", optional=True),
    # Also the address of the object, if there is one. Absent when a redaction must not leave even a hash.
    Field(tag=47, name="output_full_hash", type="string", optional=True),
    Field(tag=48, name="truncated", type="bool", optional=True),
    Field(tag=49, name="duration_ms", type="u64", optional=True),
    Field(tag=50, name="exit_code", type="int32", optional=True),  # -9 for a killed process: see INTEGERS
    Field(tag=60, name="checkpoint_id", type="string", optional=True),
    Field(tag=61, name="checkpoint_hash", type="string", optional=True),
    Field(tag=62, name="state_summary", type="any", optional=True),
    event_kinds=(SESSION_START, SESSION_END, TOOL_CALL_START, TOOL_CALL_END, AGENT_CHECKPOINT_SAVED),
    needs=_SESSION,
    requirements=(
        when(SESSION_END, "final_state"),
        when(TOOL_CALL_START, "call_id", "tool_name"),
        when(
            TOOL_CALL_END,
            "call_id",
            "tool_name",
            "is_error",
            "output",
            "output_full_bytes",
            "truncated",
            "duration_ms",
        ),
        when(AGENT_CHECKPOINT_SAVED, "checkpoint_id"),
    ),
)

AGENT_RECORDS: Final = (USER_TURN, ASSISTANT_TURN, TOOL_RESULTS_TURN, STEERING_TURN, SYSTEM_TURN, AGENT_EVENT)
