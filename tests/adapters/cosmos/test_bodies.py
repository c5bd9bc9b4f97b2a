"""Bodies as JSON strings: exact, and hardly longer than they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cosmos.bodies import GROWTH_MAX, pack, unpack
from perdure.adapters.cosmos.items import TTL_GRACE_S, TTL_MAX_S, to_document, to_item
from perdure.errors import Corrupt, Invalid
from perdure.ports.documents import DOCUMENT_BYTES_MAX, Expect, Put

pytestmark = pytest.mark.fast

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ESCAPED = '"\\\n\r\t'
EVERY_CHARACTER = ESCAPED + "".join(chr(number) for number in range(0x20, 0x7F) if chr(number) not in ESCAPED)

WORST_BODIES = {
    "quotes": b'"' * DOCUMENT_BYTES_MAX,
    "backslashes": b"\\" * DOCUMENT_BYTES_MAX,
    "escapes of controls": b'"' + b"\\u0001" * ((DOCUMENT_BYTES_MAX - 2) // 6) + b'"',
    "escaped quotes": b'"' + b'\\"' * ((DOCUMENT_BYTES_MAX - 2) // 2) + b'"',
    "lines": b"[" + b"\r\n\t" * ((DOCUMENT_BYTES_MAX - 2) // 3) + b"]",
    "names and values": json.dumps([{"a": "b"}] * (DOCUMENT_BYTES_MAX // 12)).encode(),
    "every character as often": (EVERY_CHARACTER * (DOCUMENT_BYTES_MAX // len(EVERY_CHARACTER))).encode(),
    "beyond ascii": "\u00e9\u20ac\U0001f600".encode() * (DOCUMENT_BYTES_MAX // 9),
}


def stored_bytes(body: bytes) -> int:
    """What the engine counts: the string in JSON as it is sent, without its quotes."""
    text, _ = pack(body)
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


@given(st.text().map(str.encode))
def test_a_body_comes_back_byte_for_byte(body: bytes):
    assert unpack(*pack(body)) == body


@given(st.text(alphabet='"\\\n\r\t~^`|abc').map(str.encode))
def test_a_body_of_what_changes_places_comes_back_byte_for_byte(body: bytes):
    assert unpack(*pack(body)) == body


@pytest.mark.parametrize("name", WORST_BODIES)
def test_the_worst_bodies_hardly_grow_and_come_back(name: str):
    body = WORST_BODIES[name]
    assert stored_bytes(body) <= len(body) * (1 + GROWTH_MAX)
    assert unpack(*pack(body)) == body


@given(st.text(alphabet=EVERY_CHARACTER, min_size=1).map(str.encode))
def test_no_body_grows_more_than_the_bound(body: bytes):
    assert stored_bytes(body) <= len(body) * (1 + GROWTH_MAX)


def test_the_bound_is_met_by_a_body_that_uses_every_character():
    body = (EVERY_CHARACTER * 100).encode()
    assert stored_bytes(body) == len(body) + 5 * 100


def test_a_common_body_does_not_grow_and_stays_readable():
    text, swapped = pack(b'{"name":"Ada"}')
    assert (text, swapped) == ("{~name~:~Ada~}", '~"')


def test_a_body_that_is_not_utf8_is_refused_without_being_shown():
    with pytest.raises(Invalid) as caught:
        pack(b'"secret\xff"')
    assert "secret" not in f"{caught.value!r}{caught.value.detail}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("swapped", ["~", '~"^', '~"~\\', '~"^"', "\u00e9x"])
def test_pairs_that_cannot_be_are_corrupt(swapped: str):
    with pytest.raises(Corrupt):
        unpack("x", swapped)


def item(**changes: Any) -> dict[str, Any]:
    put = Put(sort="a", version=1, body=b"secret", expect=Expect.ANY)
    return {**to_item("p", put, commit_id="c", now=NOW), "_etag": "e", **changes}


@pytest.mark.parametrize(
    "changes",
    [{"v": "1"}, {"v": True}, {"v": 1.5}, {"b": 1}, {"s": "~"}, {"c": None}, {"x": 5}, {"x": "soon"}, {"x": "9" * 30}],
)
def test_an_item_that_was_not_written_here_is_corrupt_and_not_shown(changes: dict[str, Any]):
    with pytest.raises(Corrupt) as caught:
        to_document(item(**changes))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("missing", ["v", "b", "c", "_etag"])
def test_an_item_without_a_field_is_corrupt(missing: str):
    broken = item()
    del broken[missing]
    with pytest.raises(Corrupt):
        to_document(broken)


@pytest.mark.parametrize(
    "expires_at",
    [
        datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        NOW,
        datetime.max.replace(tzinfo=UTC),
        NOW + timedelta(microseconds=1),
    ],
)
def test_an_expiry_is_kept_to_the_microsecond(expires_at: datetime):
    put = Put(sort="a", version=1, body=b"1", expect=Expect.ANY, expires_at=expires_at)
    kept = json.loads(json.dumps({**to_item("p", put, commit_id="c", now=NOW), "_etag": "e"}))
    assert to_document(kept).expires_at == expires_at


def ttl_of(expires_at: datetime) -> object:
    put = Put(sort="a", version=1, body=b"1", expect=Expect.ANY, expires_at=expires_at)
    return to_item("p", put, commit_id="c", now=NOW).get("ttl")


def test_the_engine_keeps_an_item_for_a_day_after_its_expiry():
    assert ttl_of(NOW + timedelta(seconds=10)) == 10 + 1 + TTL_GRACE_S
    assert ttl_of(NOW + timedelta(seconds=10.9)) == 10 + 1 + TTL_GRACE_S
    assert ttl_of(NOW - timedelta(days=400)) == 1


def test_what_lives_longer_than_the_engine_can_count_is_left_to_us():
    longest = NOW + timedelta(seconds=TTL_MAX_S - TTL_GRACE_S - 1)
    assert ttl_of(longest) == TTL_MAX_S
    assert ttl_of(longest + timedelta(seconds=1)) is None
