"""Idempotency keys, byte for byte as their readers know them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.turn_records.keys import (
    PARALLEL_SCOPE,
    RUN_SCOPE,
    agent_key,
    attractor_key,
    stage_attempt_id,
)
from perdure.errors import Invalid
from tests.domain.turn_records.record_values import texts

filled = texts.filter(bool) | st.text("|:19é", min_size=1, max_size=6)


def test_the_key_of_a_turn_of_a_session():
    key = agent_key("session-1", index=7, event_kind="assistant_completion")

    assert key == "forge-agent:v1|9:session-1|7|20:assistant_completion"


def test_the_first_record_of_a_session_has_index_0():
    assert agent_key("s", index=0, event_kind="session_start") == "forge-agent:v1|1:s|0|13:session_start"


def test_the_key_of_a_stage():
    key = attractor_key(
        "run-1", node_id="plan", stage_attempt_id="plan:attempt:1", event_kind="stage_started", sequence_no=5
    )

    assert key == "forge-attractor:v1|5:run-1|4:plan|14:plan:attempt:1|13:stage_started|5"


@pytest.mark.parametrize(("scope", "text"), [(RUN_SCOPE, "7:__run__"), (PARALLEL_SCOPE, "12:__parallel__")])
def test_the_key_of_a_record_that_is_about_no_node(scope: str, text: str):
    key = attractor_key("r", node_id=scope, stage_attempt_id=scope, event_kind="run_initialized", sequence_no=1)

    assert key == f"forge-attractor:v1|1:r|{text}|{text}|15:run_initialized|1"


def test_lengths_are_bytes_and_not_characters():
    assert agent_key("é😀", index=1, event_kind="x") == "forge-agent:v1|6:é😀|1|1:x"


def test_a_separator_inside_a_text_is_no_separator():
    assert agent_key("a|1", index=1, event_kind="x") == "forge-agent:v1|3:a|1|1|1:x"


@given(
    st.tuples(filled, filled, filled, filled, st.integers(1)), st.tuples(filled, filled, filled, filled, st.integers(1))
)
def test_different_records_have_different_keys(
    one: tuple[str, str, str, str, int], other: tuple[str, str, str, str, int]
):
    def key(parts: tuple[str, str, str, str, int]) -> str:
        return attractor_key(
            parts[0], node_id=parts[1], stage_attempt_id=parts[2], event_kind=parts[3], sequence_no=parts[4]
        )

    assert (key(one) == key(other)) == (one == other)


def test_an_attempt_is_named_after_its_node():
    assert stage_attempt_id("plan", attempt=1) == "plan:attempt:1"


@pytest.mark.parametrize("wrong", ["", None, 7, b"a", "\ud800"])
def test_a_part_is_text_that_is_not_empty(wrong: str):
    with pytest.raises(Invalid, match="the session id of an idempotency key"):
        agent_key(wrong, index=0, event_kind="x")
    with pytest.raises(Invalid, match="the event kind of an idempotency key"):
        agent_key("s", index=0, event_kind=wrong)
    with pytest.raises(Invalid, match="the node id of an idempotency key"):
        stage_attempt_id(wrong, attempt=1)
    for name in ("run_id", "node_id", "stage_attempt_id", "event_kind"):
        parts = {"run_id": "r", "node_id": "n", "stage_attempt_id": "a", "event_kind": "k", name: wrong}
        with pytest.raises(Invalid, match="of an idempotency key"):
            attractor_key(parts.pop("run_id"), **parts, sequence_no=1)


@pytest.mark.parametrize("wrong", [-1, True, 1.0, "1", None])
def test_a_count_is_an_integer(wrong: int):
    with pytest.raises(Invalid, match="expected an integer from 0 on"):
        agent_key("s", index=wrong, event_kind="x")
    with pytest.raises(Invalid, match="expected an integer from 1 on"):
        attractor_key("r", node_id="n", stage_attempt_id="a", event_kind="k", sequence_no=wrong)


def test_runs_and_attempts_are_counted_from_1():
    with pytest.raises(Invalid, match="sequence_no of an idempotency key is 0"):
        attractor_key("r", node_id="n", stage_attempt_id="a", event_kind="k", sequence_no=0)
    with pytest.raises(Invalid, match="attempt of an idempotency key is 0"):
        stage_attempt_id("n", attempt=0)
