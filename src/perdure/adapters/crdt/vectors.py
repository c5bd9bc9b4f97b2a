"""The state vector of the Yjs protocol: how much of each writer a replica has.

The format is that of lib0's variable-length integers (github.com/dmonad/lib0, ``encoding.writeVarUint``): the number of
writers, then writer and clock of each, every number in groups of seven bits, lowest first.
"""

from __future__ import annotations

from typing import Final

from perdure.errors import Invalid

WRITERS_MAX: Final = 1_000_000  # of one list: one for each start of each node, ever

_NUMBER_BITS_MAX: Final = 63


def read_vector(vector: bytes) -> dict[int, int]:
    """The clock of each writer. Raises ``Invalid`` for what is no vector, whatever lengths it claims."""
    count, place = _number(vector, 0)
    if count > WRITERS_MAX:
        raise _invalid()
    clocks: dict[int, int] = {}
    for _ in range(count):
        writer, place = _number(vector, place)
        clocks[writer], place = _number(vector, place)
    if place != len(vector):
        raise _invalid()
    return clocks


def _number(source: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(source) or shift > _NUMBER_BITS_MAX:
            raise _invalid()
        byte = source[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, place


def _invalid() -> Invalid:
    return Invalid("this is not the vector of a replica")
