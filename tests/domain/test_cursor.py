"""A cursor opens the next page of its own list, and nothing else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain import limits
from perdure.domain.cursor import CursorKey, decode_cursor, encode_cursor
from perdure.errors import Invalid

TENANT = UUID(int=1)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=!é\n "
keys = st.lists(
    st.none()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    | st.integers(-(2**63), 2**63 - 1)
    | st.uuids()
    | st.datetimes(timezones=st.just(UTC)),
    max_size=4,
).map(tuple)


@given(keys)
def test_what_goes_in_comes_out(given_keys: tuple[CursorKey, ...]):
    cursor = encode_cursor("runs", tenant_id=TENANT, keys=given_keys)
    assert decode_cursor(cursor, query="runs", tenant_id=TENANT) == given_keys
    assert set(cursor) <= set(LETTERS[:64])


@given(keys, st.data())
def test_any_other_letter_anywhere_is_refused(given_keys: tuple[CursorKey, ...], data: st.DataObject):
    cursor = encode_cursor("runs", tenant_id=TENANT, keys=given_keys)
    place = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.sampled_from(LETTERS).filter(lambda one: one != cursor[place]))
    for edited in (cursor[:place] + letter + cursor[place + 1 :], cursor[:place], cursor + letter):
        with pytest.raises(Invalid, match="start again without a cursor"):
            decode_cursor(edited, query="runs", tenant_id=TENANT)


def test_a_cursor_belongs_to_its_question_and_its_tenant():
    cursor = encode_cursor("runs", tenant_id=TENANT, keys=("a", 1))
    with pytest.raises(Invalid):
        decode_cursor(cursor, query="runs failed", tenant_id=TENANT)
    with pytest.raises(Invalid):
        decode_cursor(cursor, query="runs", tenant_id=UUID(int=2))


@pytest.mark.parametrize("cursor", ["", "A", "====", "e30", base64.urlsafe_b64encode(b"x" * 40).decode()])
def test_what_was_never_a_cursor_is_refused(cursor: str):
    with pytest.raises(Invalid):
        decode_cursor(cursor, query="runs", tenant_id=TENANT)


def test_a_cursor_has_a_length():
    with pytest.raises(Invalid):
        decode_cursor("A" * (limits.CURSOR_CHARS_MAX + 1), query="runs", tenant_id=TENANT)
    longest = ("\U0001f600" * limits.SOURCE_ID_CHARS_MAX, UUID(int=3))
    cursor = encode_cursor("signals", tenant_id=TENANT, keys=longest)
    assert len(cursor) <= limits.CURSOR_CHARS_MAX
    assert decode_cursor(cursor, query="signals", tenant_id=TENANT) == longest


def test_a_time_needs_a_zone_and_keeps_its_moment():
    with pytest.raises(Invalid, match="needs a zone"):
        encode_cursor("runs", tenant_id=TENANT, keys=(datetime(2026, 1, 1),))  # noqa: DTZ001 - what must be refused
    here = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    cursor = encode_cursor("runs", tenant_id=TENANT, keys=(here,))
    assert decode_cursor(cursor, query="runs", tenant_id=TENANT) == (here,)


@pytest.mark.parametrize("key", [True, 1.5, b"x"])
def test_other_types_are_no_sort_keys(key: object):
    with pytest.raises(Invalid, match="a cursor key is"):
        encode_cursor("runs", tenant_id=TENANT, keys=(key,))  # type: ignore[arg-type]  # what an untyped caller does
