"""The records that lead from one context to another: from a stage to its agent, from an agent to a subagent."""

from __future__ import annotations

from typing import Final

from perdure.domain.turn_records.envelope import record, when
from perdure.domain.turn_records.fields import Enumeration, Field, Requirement

STAGE_TO_AGENT_LINK: Final = "stage_to_agent_link"
SUBAGENT_SPAWN: Final = "subagent_spawn"
SUBAGENT_CLOSE: Final = "subagent_close"
ATTACHED: Final = "attached"
COMPLETED: Final = "completed"

# Written when the agent is attached, so that a crash leaves the way to it, and again when it is done.
LINK_KIND: Final = Enumeration(enum_id="forge.link.kind", labels={1: ATTACHED, 2: COMPLETED})

STAGE_TO_AGENT: Final = record(
    "forge.link.stage_to_agent",
    Field(tag=31, name="link_kind", type="u8", enum=LINK_KIND),
    # The head of the agent's context when the stage attached: where one session serves two stages, each has its range.
    Field(tag=32, name="agent_base_turn_id", type="string", optional=True),
    Field(tag=33, name="tool_call_count", type="u64", optional=True),
    Field(tag=34, name="tool_error_count", type="u64", optional=True),
    Field(tag=35, name="lineage_root_run_id", type="string", optional=True),
    Field(tag=36, name="lineage_attempt", type="u32", optional=True),
    event_kinds=(STAGE_TO_AGENT_LINK,),
    needs=(
        "run_id",
        "pipeline_context_id",
        "node_id",
        "stage_attempt_id",
        "agent_session_id",
        "agent_context_id",
    ),
    requirements=(
        Requirement(
            name="link_kind", value=COMPLETED, present=("agent_head_turn_id", "tool_call_count", "tool_error_count")
        ),
    ),
)
SUBAGENT_LINK: Final = record(
    "forge.link.subagent_spawn",
    Field(tag=31, name="subagent_id", type="string"),
    Field(tag=32, name="child_session_id", type="string"),
    Field(tag=33, name="child_context_id", type="string"),
    Field(tag=34, name="spawning_call_id", type="string", optional=True),
    Field(tag=35, name="child_head_turn_id", type="string", optional=True),
    Field(tag=36, name="final_state", type="string", optional=True),
    Field(tag=37, name="tool_call_count", type="u64", optional=True),
    Field(tag=38, name="tool_error_count", type="u64", optional=True),
    event_kinds=(SUBAGENT_SPAWN, SUBAGENT_CLOSE),
    needs=("agent_session_id",),
    requirements=(when(SUBAGENT_SPAWN, "parent_turn_id"), when(SUBAGENT_CLOSE, "final_state")),
)

LINK_RECORDS: Final = (STAGE_TO_AGENT, SUBAGENT_LINK)
