"""What every record carries beside its own fields: who wrote it when, and what it belongs to.

Tags have ranges, so that a record's own never meet these. 1 to 29 stay free: earlier writers of these type ids used
them, and a registry holds a tag to its type for ever. 30 is where CXDB looks for a context's metadata.
"""

from __future__ import annotations

from typing import Final

from perdure.domain.turn_records.fields import Field, RecordType, Requirement
from perdure.errors import Invalid

SCHEMA_VERSION: Final = 1  # of the envelope; raised when one of its fields changes its meaning
METADATA_TAG: Final = 30
OWN_TAGS: Final = range(31, 100)
ENVELOPE_TAGS: Final = range(100, 128)

# CXDB reads these two by their tags, whatever a bundle says; a value of another type is ignored there. So the ids of
# contexts are numbers here, and left out where a backend's ids are none.
PROVENANCE: Final = RecordType(
    type_id="perdure.turn.provenance",
    fields=(
        Field(tag=1, name="parent_context_id", type="u64", optional=True),
        Field(tag=2, name="spawn_reason", type="string", optional=True),
        Field(tag=3, name="root_context_id", type="u64", optional=True),
        Field(tag=10, name="trace_id", type="string", optional=True),
        Field(tag=11, name="span_id", type="string", optional=True),
        Field(tag=12, name="correlation_id", type="string", optional=True),
        Field(tag=20, name="on_behalf_of", type="string", optional=True),
        Field(tag=21, name="on_behalf_of_source", type="string", optional=True),
        Field(tag=22, name="on_behalf_of_email", type="string", optional=True),
        Field(tag=30, name="writer_method", type="string", optional=True),
        Field(tag=31, name="writer_subject", type="string", optional=True),
        Field(tag=32, name="writer_issuer", type="string", optional=True),
        Field(tag=40, name="service_name", type="string", optional=True),
        Field(tag=41, name="service_version", type="string", optional=True),
        Field(tag=42, name="service_instance_id", type="string", optional=True),
        Field(tag=43, name="process_pid", type="u32", optional=True),
        Field(tag=44, name="process_owner", type="string", optional=True),
        Field(tag=45, name="host_name", type="string", optional=True),
        Field(tag=46, name="host_arch", type="string", optional=True),
        Field(tag=50, name="client_address", type="string", optional=True),
        Field(tag=51, name="client_port", type="u32", optional=True),
        Field(tag=60, name="env", type="map", items="string", optional=True),
        Field(tag=70, name="sdk_name", type="string", optional=True),
        Field(tag=71, name="sdk_version", type="string", optional=True),
        Field(tag=80, name="captured_at", type="unix_ms", optional=True),
    ),
)
CONTEXT_METADATA: Final = RecordType(
    type_id="perdure.turn.context_metadata",
    fields=(
        Field(tag=1, name="client_tag", type="string", optional=True),
        Field(tag=2, name="title", type="string", optional=True),
        Field(tag=3, name="labels", type="array", items="string", optional=True),
        Field(tag=4, name="custom", type="map", items="string", optional=True),
        Field(tag=10, name="provenance", type="ref", ref=PROVENANCE, optional=True),
    ),
)
GAP: Final = RecordType(
    type_id="perdure.turn.gap",
    fields=(
        Field(tag=1, name="lost", type="u64"),
        Field(tag=2, name="first_lost_sequence_no", type="u64"),
        Field(tag=3, name="last_lost_sequence_no", type="u64"),
    ),
)

_ALWAYS: Final = ("idempotency_key", "event_kind", "timestamp", "sequence_no", "schema_version")
_METADATA: Final = Field(
    tag=METADATA_TAG, name="context_metadata", type="ref", ref=CONTEXT_METADATA, optional=True
)  # on a context's first turn
_ENVELOPE: Final = (
    (100, "event_kind", "string"),
    (101, "idempotency_key", "string"),
    (102, "timestamp", "unix_ms"),
    (103, "sequence_no", "u64"),
    (104, "schema_version", "u32"),
    (105, "run_id", "string"),
    (106, "pipeline_context_id", "string"),
    (107, "node_id", "string"),
    (108, "stage_attempt_id", "string"),
    (109, "node_visit", "u32"),  # from 1; a loop comes to a node again
    (110, "branch_id", "string"),
    (111, "agent_session_id", "string"),
    (112, "agent_context_id", "string"),
    (113, "agent_head_turn_id", "string"),
    (114, "parent_turn_id", "string"),
    (115, "thread_key", "string"),
    (116, "redacted", "u32"),  # how many passages were taken out before this was encoded
    (118, "retention_class", "string"),
    (119, "expires_at", "unix_ms"),
)
ENVELOPE_NAMES: Final = (_METADATA.name, *(name for _, name, _ in _ENVELOPE), "gap")


def record(
    type_id: str,
    *own: Field,
    event_kinds: tuple[str, ...],
    needs: tuple[str, ...] = (),
    requirements: tuple[Requirement, ...] = (),
    exactly_one: tuple[str, ...] = (),
    version: int = 1,
) -> RecordType:
    """The table of a record: its own fields and those of the envelope, of which ``needs`` are not optional here."""
    for item in own:
        if item.tag not in OWN_TAGS:
            raise Invalid(
                f"{type_id} has {item.name} at tag {item.tag}; a record's own tags are {OWN_TAGS[0]} to {OWN_TAGS[-1]}"
            )
    required = {*_ALWAYS, *needs}
    shared = [Field(tag=tag, name=name, type=kind, optional=name not in required) for tag, name, kind in _ENVELOPE]
    # The records that were lost before this one, if any.
    gap = Field(tag=117, name="gap", type="ref", ref=GAP, optional=True)
    return RecordType(
        type_id=type_id,
        version=version,
        fields=(*own, _METADATA, *shared, gap),
        event_kinds=event_kinds,
        requirements=requirements,
        exactly_one=exactly_one,
    )


def when(event_kind: str, *present: str) -> Requirement:
    """What a record of this kind of event must say."""
    return Requirement(name="event_kind", value=event_kind, present=present)
