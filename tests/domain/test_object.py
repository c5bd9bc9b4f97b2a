"""Addresses, media types and sizes of objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.domain.object import (
    MEDIA_TYPE_CHARS_MAX,
    MEDIA_TYPE_DEFAULT,
    OBJECT_BYTES_MAX,
    ObjectRef,
    check_digest,
    check_media_type,
    check_object_size,
    check_same_digest,
    object_digest,
)
from perdure.errors import DigestMismatch, Invalid, LimitExceeded

EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


def test_an_address_is_blake3_of_the_bytes_as_they_are() -> None:
    assert object_digest(b"") == EMPTY
    assert object_digest(b"abc") == ABC
    assert check_digest(ABC) == ABC


@pytest.mark.parametrize("wrong", ["", ABC.upper(), ABC[1:], ABC + "0", ABC + "\n", "g" + ABC[1:], "é" * 64, None, 1])
def test_an_address_is_64_lower_case_hex_digits(wrong: Any) -> None:
    with pytest.raises(Invalid):
        check_digest(wrong)


def test_other_bytes_are_told_with_both_addresses() -> None:
    check_same_digest(ABC, ABC, what="these bytes")
    with pytest.raises(DigestMismatch) as caught:
        check_same_digest(ABC, EMPTY, what="these bytes")
    assert caught.value.detail == {"expected": ABC, "found": EMPTY}


@pytest.mark.parametrize("right", [MEDIA_TYPE_DEFAULT, "a/b", "text/vnd.graphviz", "image/svg+xml", "0/9", "x-a/y_b"])
def test_a_media_type_is_two_names_in_lower_case(right: str) -> None:
    assert check_media_type(right) == right


@pytest.mark.parametrize(
    "wrong", ["", "a", "a/", "/b", "A/b", "a/b;c=d", "a/b ", " a/b", "a/b\n", "a//b", "-a/b", None]
)
def test_anything_else_is_no_media_type(wrong: Any) -> None:
    with pytest.raises(Invalid):
        check_media_type(wrong)


def test_a_media_type_of_100_characters_is_the_longest() -> None:
    longest = "a/" + "b" * (MEDIA_TYPE_CHARS_MAX - 2)
    assert check_media_type(longest) == longest
    with pytest.raises(LimitExceeded) as caught:
        check_media_type(longest + "b")
    assert caught.value.detail == {"limit": "media_type_chars_max", "allowed": 100, "actual": 101}


def test_an_object_of_5_gibibytes_is_the_largest() -> None:
    assert check_object_size(OBJECT_BYTES_MAX) == 5 * 2**30
    with pytest.raises(LimitExceeded) as caught:
        check_object_size(OBJECT_BYTES_MAX + 1)
    assert caught.value.detail["limit"] == "object_bytes_max"


def test_a_reference_is_a_value() -> None:
    ref = ObjectRef(digest=ABC, size_bytes=3, media_type="a/b", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert ref == ObjectRef(digest=ABC, size_bytes=3, media_type="a/b", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert len({ref, ref}) == 1
