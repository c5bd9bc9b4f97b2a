"""Every limit has a name and a reason. What would pass one is refused with that name and both numbers."""

from __future__ import annotations

from typing import Final

# --- texts: most are the widths of the columns that keep them ---------------------------------------------------------

NAME_CHARS_MAX: Final = 200  # runs.name and steps.name; a longer one is a description and belongs in metadata
KEY_CHARS_MAX: Final = 100  # step, call and effect keys are part of unique indexes, which must stay narrow
IDEMPOTENCY_KEY_CHARS_MAX: Final = 255  # what the usual receivers of an idempotency key accept
ACTOR_CHARS_MAX: Final = 100  # the column of every audited row
SOURCE_CHARS_MAX: Final = 150  # the column of every event
CHANNEL_CHARS_MAX: Final = 100  # half of the key that makes a signal unique
SOURCE_ID_CHARS_MAX: Final = 255  # the other half; mail message ids are the longest in practice
ENTITY_TYPE_CHARS_MAX: Final = 100  # entity_references.entity_type
ENTITY_ID_CHARS_MAX: Final = 255  # entity_references.entity_id; ids of other systems, as source ids
EXIT_REASON_CHARS_MAX: Final = 100  # runs.exit_reason is a word to group by; the story goes into error details
TOOL_NAME_CHARS_MAX: Final = 100  # tool_calls.tool_name
SPECIALIST_CHARS_MAX: Final = 100  # steps.specialist_id
VERSION_CHARS_MAX: Final = 50  # orchestrator and tool versions: a hash or a semantic version
WORKER_CHARS_MAX: Final = 200  # locked_by: host, process and a random part
ACTION_CHARS_MAX: Final = 100  # audit_trail.action
RESOURCE_TYPE_CHARS_MAX: Final = 50  # audit_trail.resource_type
TENANT_CHARS_MAX: Final = 64  # tenants.slug: "t_" and 62 more
ENV_CHARS_MAX: Final = 63  # one label of a host name

# --- JSON -------------------------------------------------------------------------------------------------------------

PAYLOAD_BYTES_MAX: Final = 102_400  # one inline JSON value; more makes rows that every query drags along
CHECKPOINT_BYTES_MAX: Final = 10_485_760  # the CHECK of run_checkpoints; a larger state is an object, not a row
CHECKPOINT_BYTES_WARN: Final = 1_048_576  # above this a checkpoint costs more than the steps it saves
JSON_DEPTH_MAX: Final = 100  # deeper values overflow the stacks of parsers downstream; also ends a cyclic value
EXACT_DIGITS_MAX: Final = 1_000  # of an integer kept as text; parsers take a square of this in time
INTEGER_MAX: Final = 2**53 - 1  # beyond it JSON readers that use doubles change the number

# --- one change -------------------------------------------------------------------------------------------------------

CHANGE_OPERATIONS_MAX: Final = 1_000  # rows of one transaction; a change holds its tenant's counter while it commits
CHANGE_BYTES_MAX: Final = 16 * 1_048_576  # one parameter of one call; holds a full checkpoint and its neighbours
ENTITIES_MAX: Final = 100  # entities of one run or step; more is a list, and a list is data
STEP_WAIT_S_MAX: Final = 30 * 86_400  # an approval open for longer than a month is forgotten, not pending

# --- reading ----------------------------------------------------------------------------------------------------------

PAGE_SIZE_DEFAULT: Final = 100  # a screenful, and one round trip
PAGE_SIZE_MAX: Final = 1_000  # a page is held in memory on both sides
CURSOR_CHARS_MAX: Final = 2_048  # what fits a URL beside everything else
TRACE_EVENTS_MAX: Final = 100_000  # a trace is one snapshot in memory; follow the events instead

# --- leases and retries -----------------------------------------------------------------------------------------------

LEASE_S_MIN: Final = 1  # below the jitter of a busy machine a lease expires while its owner works
LEASE_S_DEFAULT: Final = 60  # how long the work of a killed worker lies idle
LEASE_S_MAX: Final = 86_400  # a lease longer than a day hides a dead worker from everyone
CLAIM_MAX: Final = 100  # one worker's share of one claim; more would starve the others
RETRIES_MAX: Final = 100  # with the cap between two attempts, four days of trying
RETRY_DELAY_S_MAX: Final = 3_600  # the cap of exponential backoff
RETRY_AFTER_S_MAX: Final = 86_400  # a receiver may ask for a day; for more it asks to be forgotten
