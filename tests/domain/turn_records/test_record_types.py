"""Every record there is: its tags stay apart, its rules bind, and its bytes are those of the golden vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.domain.turn_records.agent_records import AGENT_EVENT, AGENT_RECORDS
from perdure.domain.turn_records.catalog import RECORD_TYPES
from perdure.domain.turn_records.codec import decode, encode
from perdure.domain.turn_records.envelope import (
    ENVELOPE_NAMES,
    ENVELOPE_TAGS,
    METADATA_TAG,
    OWN_TAGS,
    PROVENANCE,
    SCHEMA_VERSION,
    record,
)
from perdure.domain.turn_records.fields import Field, RecordType, Requirement
from perdure.domain.turn_records.link_records import STAGE_TO_AGENT
from perdure.domain.turn_records.pipeline_records import PIPELINE_RECORDS
from perdure.errors import Invalid
from tests.domain.turn_records.record_values import records

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
TYPES = {record_type.type_id: record_type for record_type in RECORD_TYPES}
each_type = pytest.mark.parametrize("record_type", RECORD_TYPES, ids=lambda record_type: record_type.type_id)


def vector_name(vector: dict[str, Any]) -> str:
    return f"{vector['type_id']}-{vector['values']['event_kind']}-{vector['values'].get('link_kind', '')}"


def test_the_type_ids_are_those_that_readers_know():
    assert sorted(TYPES) == [
        "forge.agent.assistant_turn",
        "forge.agent.event",
        "forge.agent.steering_turn",
        "forge.agent.system_turn",
        "forge.agent.tool_results_turn",
        "forge.agent.user_turn",
        "forge.attractor.checkpoint_event",
        "forge.attractor.dot_source",
        "forge.attractor.graph_snapshot",
        "forge.attractor.interview_event",
        "forge.attractor.parallel_event",
        "forge.attractor.route_decision",
        "forge.attractor.run_event",
        "forge.attractor.stage_event",
        "forge.link.stage_to_agent",
        "forge.link.subagent_spawn",
    ]
    assert len(TYPES) == len(RECORD_TYPES)


@each_type
def test_own_tags_and_those_of_the_envelope_stay_apart(record_type: RecordType):
    envelope = {field.tag for field in record_type.fields if field.name in ENVELOPE_NAMES}
    own = {field.tag for field in record_type.fields if field.name not in ENVELOPE_NAMES}

    assert own <= set(OWN_TAGS)
    assert envelope - {METADATA_TAG} <= set(ENVELOPE_TAGS)
    assert METADATA_TAG not in {*OWN_TAGS, *ENVELOPE_TAGS}
    assert set(OWN_TAGS).isdisjoint(ENVELOPE_TAGS)
    assert len(envelope) == len(ENVELOPE_NAMES)


@each_type
def test_the_envelope_means_the_same_everywhere(record_type: RecordType):
    for name in ENVELOPE_NAMES:
        field, first = record_type.by_name[name], RECORD_TYPES[0].by_name[name]
        assert (field.tag, field.type, field.ref) == (first.tag, first.type, first.ref)
    for name in ("idempotency_key", "event_kind", "timestamp", "sequence_no", "schema_version"):
        assert not record_type.by_name[name].optional


@pytest.mark.parametrize("tag", [1, 29, 30, 100, 127])
def test_a_record_takes_no_tag_of_the_envelope_or_of_earlier_writers(tag: int):
    with pytest.raises(Invalid, match="a record's own tags are 31 to 99"):
        record("test.x", Field(tag=tag, name="a", type="u8"), event_kinds=())


def test_a_record_may_take_the_first_and_the_last_tag_of_its_own():
    edges = record("test.x", Field(tag=31, name="a", type="u8"), Field(tag=99, name="b", type="u8"), event_kinds=())

    assert {31, 99} < set(edges.by_tag)


def test_records_of_agents_name_their_session_and_those_of_runs_their_run():
    for record_type in AGENT_RECORDS:
        assert not record_type.by_name["agent_session_id"].optional
        assert {"run_id", "node_id", "stage_attempt_id"} < set(record_type.by_name)
    for record_type in PIPELINE_RECORDS:
        assert not record_type.by_name["run_id"].optional


def test_metadata_lies_where_readers_of_contexts_look_for_it():
    vector = next(vector for vector in VECTORS if "context_metadata" in vector["values"])
    metadata = msgspec.msgpack.decode(bytes.fromhex(vector["hex"]))[30]

    assert metadata == {
        1: "perdure",
        2: "Fix the build",
        3: ["run:run-1", "stage:plan"],
        4: {"team": "core"},
        10: {1: 7, 2: "sub_agent", 3: 1, 10: "4bf92f3577b34da6", 20: "ada", 60: {"CI": "true"}, 80: 1700000000000},
    }


def test_provenance_has_the_tags_that_readers_know():
    assert [field.tag for field in PROVENANCE.fields] == [
        *(1, 2, 3),
        *(10, 11, 12),
        *(20, 21, 22),
        *(30, 31, 32),
        *(40, 41, 42, 43, 44, 45, 46),
        *(50, 51),
        60,
        *(70, 71),
        80,
    ]


def test_an_exit_code_may_be_negative():
    vector = next(vector for vector in VECTORS if vector["values"].get("exit_code", 0) < 0)

    assert AGENT_EVENT.by_name["exit_code"].type == "int32"
    assert decode(AGENT_EVENT, bytes.fromhex(vector["hex"])).values["exit_code"] == -9


@pytest.mark.parametrize("vector", VECTORS, ids=vector_name)
def test_a_record_has_the_bytes_that_it_always_had(vector: dict[str, Any]):
    record_type = TYPES[vector["type_id"]]
    payload = bytes.fromhex(vector["hex"])

    assert record_type.version == vector["version"]
    assert encode(record_type, vector["values"]).hex() == vector["hex"]
    assert decode(record_type, payload).values == vector["values"]


@pytest.mark.parametrize("vector", VECTORS, ids=vector_name)
def test_another_reader_of_the_same_bytes_finds_the_tags_in_order(vector: dict[str, Any]):
    record_type = TYPES[vector["type_id"]]
    found = msgspec.msgpack.decode(bytes.fromhex(vector["hex"]))

    assert list(found) == sorted(found)
    for field in record_type.fields:
        if field.type in {"string", "bool", "u64", "u32", "unix_ms", "int32"}:
            assert found.get(field.tag) == vector["values"].get(field.name)


def test_there_is_a_vector_of_every_kind_of_every_record():
    there = {(vector["type_id"], vector["values"]["event_kind"]) for vector in VECTORS}

    assert there == {(each.type_id, kind) for each in RECORD_TYPES for kind in each.event_kinds}
    assert {vector["values"]["schema_version"] for vector in VECTORS} == {SCHEMA_VERSION}


@each_type
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])  # a table of 40 fields is much to draw
@given(data=st.data())
def test_what_a_table_allows_is_written_and_read(record_type: RecordType, data: st.DataObject):
    values = data.draw(records(record_type))

    payload = encode(record_type, values)
    found = decode(record_type, payload)

    assert found.values == values
    assert found.unknown == {}
    assert encode(record_type, found.values, unknown=found.unknown) == payload


RULES = [(each, rule) for each in RECORD_TYPES for rule in each.requirements]


@pytest.mark.parametrize(("record_type", "rule"), RULES, ids=[f"{each.type_id}-{rule.value}" for each, rule in RULES])
def test_a_record_says_what_its_kind_requires(record_type: RecordType, rule: Requirement):
    vector = next(
        vector
        for vector in VECTORS
        if vector["type_id"] == record_type.type_id and vector["values"].get(rule.name) == rule.value
    )
    for name in rule.present:
        values = {key: value for key, value in vector["values"].items() if key != name}
        with pytest.raises(Invalid, match=f"{name} must be given when {rule.name} is {rule.value}"):
            encode(record_type, values)


@each_type
def test_a_kind_of_event_that_a_record_does_not_have_is_refused(record_type: RecordType):
    vector = next(vector for vector in VECTORS if vector["type_id"] == record_type.type_id)

    with pytest.raises(Invalid, match="event_kind must be one of"):
        encode(record_type, vector["values"] | {"event_kind": "happened"})


@pytest.mark.parametrize("type_id", ["forge.attractor.dot_source", "forge.attractor.graph_snapshot"])
def test_a_text_is_kept_in_its_record_or_as_an_object_and_not_twice(type_id: str):
    (vector,) = (vector for vector in VECTORS if vector["type_id"] == type_id)

    with pytest.raises(Invalid, match="the only one of"):
        encode(TYPES[type_id], vector["values"] | {"artifact_blob_hash": "ab" * 32})


def test_a_link_that_is_completed_says_where_the_agent_ended():
    assert STAGE_TO_AGENT.requirements[0].present == ("agent_head_turn_id", "tool_call_count", "tool_error_count")
