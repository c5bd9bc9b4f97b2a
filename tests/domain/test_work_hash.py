"""Hashes of work units: what they cover, how domains and keys keep apart, and the chain of a history."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.typed_values import TypedValue, decode_value, encode_value
from perdure.domain.work import AttributeChange, HistoryEntry, HistoryEvent, WorkStatus
from perdure.domain.work_hash import (
    CONTENT_BYTES_MAX,
    HASH_KEY_BYTES_MAX,
    HASH_KEY_BYTES_MIN,
    HASH_SCHEME,
    HASH_SCHEME_KEYED,
    AttributeDifference,
    attribute_diff,
    content_hash,
    content_preimage,
    entry_fields,
    entry_hash,
    hash_scheme,
    history_entry_hash,
    value_digest,
)
from perdure.errors import Invalid, LimitExceeded

UNIT = UUID(int=1)
KEY = bytes(range(32))
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
A, B = "ab" * 32, "cd" * 32

keys = st.text("ab$", max_size=2)
attributes = st.dictionaries(keys, st.integers(-2, 2) | st.booleans() | st.sampled_from(["", "1", "$"]), max_size=4)


def hashed(values: dict[str, TypedValue], *, key: bytes | None = None) -> str:
    return content_hash(values, unit_id=UNIT, schema="invoice/1", key=key)


def test_a_content_hash_is_sixty_four_hexadecimal_digits_of_what_the_page_says():
    preimage = (
        b'["perdure.work.content","v1","00000000-0000-0000-0000-000000000001","invoice/1",{"a":{"$decimal":"1.5"}}]'
    )

    assert content_preimage({"a": Decimal("1.5")}, unit_id=UNIT, schema="invoice/1") == preimage
    assert hashed({"a": Decimal("1.5")}) == hashlib.sha256(preimage).hexdigest()


@given(attributes)
def test_the_hash_is_deterministic(values: dict[str, TypedValue]):
    assert hashed(values) == hashed(dict(reversed(values.items())))
    assert hashed({key: decode_value(encode_value(value)) for key, value in values.items()}) == hashed(values)


@given(attributes, attributes)
def test_the_hash_is_sensitive(one: dict[str, TypedValue], other: dict[str, TypedValue]):
    same = {k: (type(v), v) for k, v in one.items()} == {k: (type(v), v) for k, v in other.items()}
    assert (hashed(one) == hashed(other)) == same
    assert bool(attribute_diff(one, other)) == (not same)


def test_r65_a_hash_belongs_to_its_unit_its_schema_and_its_key():
    values: dict[str, TypedValue] = {"a": 1}
    hashes = {
        hashed(values),
        content_hash(values, unit_id=UUID(int=2), schema="invoice/1"),
        content_hash(values, unit_id=UNIT, schema="invoice/2"),
        hashed(values, key=KEY),
        hashed(values, key=KEY[::-1]),
        entry_hash(None, values),
        entry_hash(A, values),
        entry_hash(None, values, key=KEY),
        value_digest('{"a":1}'),
        value_digest('{"a":1}', key=KEY),
    }
    assert len(hashes) == 10


def test_what_looks_like_the_end_of_one_part_does_not_move_into_the_next():
    one = content_hash({}, unit_id=UNIT, schema='s",{"a":1}]')
    assert one != content_hash({"a": 1}, unit_id=UNIT, schema="s")


def test_the_scheme_says_whether_there_is_a_key():
    assert hash_scheme(None) == HASH_SCHEME == "v1"
    assert hash_scheme(KEY) == HASH_SCHEME_KEYED == "v1-hmac"


def test_a_key_may_be_as_short_and_as_long_as_its_limits_and_no_more():
    for size in (HASH_KEY_BYTES_MIN, HASH_KEY_BYTES_MAX):
        assert len(hashed({}, key=b"k" * size)) == 64
    for size in (0, HASH_KEY_BYTES_MIN - 1, HASH_KEY_BYTES_MAX + 1):
        with pytest.raises(Invalid, match=f"a hash key has {size} bytes; expected 32 to 1024") as refused:
            hashed({}, key=b"k" * size)
        assert "kkk" not in refused.value.message


def test_attributes_may_be_as_large_as_the_limit_and_no_larger():
    assert len(hashed({"a": "x" * (CONTENT_BYTES_MAX - len('{"a":""}'))})) == 64
    with pytest.raises(LimitExceeded, match="content_bytes_max") as refused:
        hashed({"a": "x" * (CONTENT_BYTES_MAX - len('{"a":""}') + 1)})
    assert refused.value.detail["actual"] == CONTENT_BYTES_MAX + 1


def test_what_has_no_form_is_named_by_its_place_in_the_attributes():
    wrong: dict[str, TypedValue] = {"a": [1, 2, 3, {"b": float("nan")}]}
    with pytest.raises(Invalid, match=r"the attributes cannot be kept: at \$\.a\[3\]\.b it holds nan"):
        hashed(wrong)
    with pytest.raises(Invalid, match="a schema is empty"):
        content_hash({}, unit_id=UNIT, schema="")
    with pytest.raises(Invalid, match=r"the schema cannot be kept: .* surrogate"):
        content_hash({}, unit_id=UNIT, schema="\ud800")


@pytest.mark.parametrize("previous", ["", "ab", A.upper(), A + "\n", A[:-1] + "g"])
def test_a_previous_hash_is_a_hash_or_none(previous: str):
    with pytest.raises(Invalid, match="the hash of the previous entry is none"):
        entry_hash(previous, {})


ENTRY = HistoryEntry(
    history_id=UUID(int=9),
    instance_id="inst-7",
    unit_id=UNIT,
    sequence=2,
    event=HistoryEvent.STATE_TRANSITION,
    previous_status=WorkStatus.PENDING,
    new_status=WorkStatus.ACTIVE,
    previous_state_hash=A,
    new_state_hash=B,
    previous_interaction_id="intake",
    new_interaction_id="review",
    actor_id="agent:reviewer",
    transition_timestamp=NOW,
    reasoning="began",
    transition_metadata={"attempt": 1},
    changes=(AttributeChange(key="amount", version=2, digest=A),),
    hash_scheme="v1",
    previous_entry_hash=A,
    entry_hash=B,
)

OTHERS: dict[str, Any] = {
    "history_id": UUID(int=10),
    "instance_id": "inst-8",
    "unit_id": UUID(int=2),
    "sequence": 3,
    "event": HistoryEvent.PILOT_OVERRIDE,
    "previous_status": None,
    "new_status": WorkStatus.FAILED,
    "previous_state_hash": None,
    "new_state_hash": A,
    "previous_interaction_id": None,
    "new_interaction_id": "other",
    "actor_id": None,
    "transition_timestamp": NOW + timedelta(microseconds=1),
    "reasoning": None,
    "transition_metadata": {"attempt": "1"},
    "changes": (AttributeChange(key="amount", version=2, digest=None),),
    "hash_scheme": "v1-hmac",
    "previous_entry_hash": B,
}


def test_the_hash_of_an_entry_covers_every_field_of_it_but_itself():
    assert {part.name for part in fields(HistoryEntry)} == {*OTHERS, "entry_hash"}
    hashes = {history_entry_hash(ENTRY)}
    for name, other in OTHERS.items():
        hashes.add(history_entry_hash(replace(ENTRY, **{name: other})))
    assert len(hashes) == len(OTHERS) + 1
    assert history_entry_hash(replace(ENTRY, entry_hash=A)) == history_entry_hash(ENTRY)


def test_an_entry_is_hashed_as_the_map_that_the_page_lists():
    assert entry_fields(ENTRY) == {
        "history_id": UUID(int=9),
        "instance_id": "inst-7",
        "unit_id": UNIT,
        "sequence": 2,
        "event": "STATE_TRANSITION",
        "previous_status": "PENDING",
        "new_status": "ACTIVE",
        "previous_state_hash": A,
        "new_state_hash": B,
        "previous_interaction_id": "intake",
        "new_interaction_id": "review",
        "actor_id": "agent:reviewer",
        "transition_timestamp": NOW,
        "reasoning": "began",
        "transition_metadata": {"attempt": 1},
        "changes": [{"key": "amount", "version": 2, "digest": A}],
        "hash_scheme": "v1",
    }
    assert history_entry_hash(ENTRY, key=KEY) == entry_hash(A, entry_fields(ENTRY), key=KEY)


def test_a_diff_names_what_was_added_removed_and_modified():
    before: dict[str, TypedValue] = {"gone": 1, "same": 1, "amount": Decimal(100), "flag": 1}
    after: dict[str, TypedValue] = {"new": None, "same": 1.0, "amount": Decimal(999999), "flag": True}
    diff = attribute_diff(before, after)

    assert diff.added == {"new": None}
    assert diff.removed == {"gone": 1}
    assert diff.modified == {
        "amount": AttributeDifference(previous=Decimal(100), current=Decimal(999999)),
        "flag": AttributeDifference(previous=1, current=True),
    }
    assert diff.keys == ("amount", "flag", "gone", "new")
    assert "999999" not in repr(diff)
    assert not attribute_diff(before, dict(reversed(before.items())))
