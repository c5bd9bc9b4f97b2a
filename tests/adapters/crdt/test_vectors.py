"""Vectors: what is one, and that nothing else costs time or room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.crdt import vectors
from perdure.adapters.crdt.vectors import read_vector
from perdure.errors import Invalid

pytestmark = pytest.mark.fast


def number(value: int) -> bytes:
    """A variable-length integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encoded(clocks: dict[int, int]) -> bytes:
    """A vector."""
    return number(len(clocks)) + b"".join(number(writer) + number(clock) for writer, clock in clocks.items())


@given(st.dictionaries(st.integers(0, 2**53 - 1), st.integers(0, 2**32), max_size=20))
def test_what_was_encoded_is_read(clocks: dict[int, int]):
    assert read_vector(encoded(clocks)) == clocks


@given(st.binary(max_size=60))
def test_any_bytes_are_a_vector_or_invalid(source: bytes):
    try:
        assert isinstance(read_vector(source), dict)
    except Invalid as exc:
        assert "vector" in exc.message  # noqa: PT017 - the point is that it is nothing else


@pytest.mark.parametrize(
    "source",
    [b"", b"\x01", b"\x01\x05", b"\x00\x00", b"\xff" * 30, number(vectors.WRITERS_MAX + 1), number(2**63)],
    ids=["nothing", "no writer", "no clock", "more", "endless", "too many", "a length beyond all bounds"],
)
def test_what_is_no_vector_is_refused(source: bytes):
    with pytest.raises(Invalid):
        read_vector(source)


def test_as_many_writers_as_the_limit_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vectors, "WRITERS_MAX", 3)
    assert len(read_vector(encoded({1: 1, 2: 1, 3: 1}))) == 3
    with pytest.raises(Invalid):
        read_vector(encoded({1: 1, 2: 1, 3: 1, 4: 1}))
