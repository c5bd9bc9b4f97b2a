"""How a body becomes a JSON string that is hardly longer than the body.

A body is JSON, and JSON inside a JSON string doubles: every quote and backslash takes a second byte, and a commit of
1.9 MB could become a request of 3.8 MB where the engine takes 2 MB. An encoding (base64: 4/3, base85: 5/4) is over it
just as well. So the characters that JSON escapes change places with characters that the body hardly uses, which costs
nothing for most bodies, keeps them readable in the engine's own tools (`{~name~:~Ada~}`), and at worst lets a string
grow by ``GROWTH_MAX``: of the 98 characters below, the five rarest are what is escaped in the end.
"""

from __future__ import annotations

from typing import Final

from perdure.errors import Corrupt, Invalid

_ESCAPED: Final = b'"\\\n\r\t'  # all that stands bare in JSON and takes two bytes in a JSON string
_UNUSED_FIRST: Final = b"~^`|@$#%"  # rarely used in texts, so the search mostly ends with the first of them
_STAND_INS: Final = _UNUSED_FIRST + bytes(
    character for character in range(0x20, 0x7F) if character not in _ESCAPED + _UNUSED_FIRST
)

GROWTH_MAX: Final = len(_ESCAPED) / len(_ESCAPED + _STAND_INS)


def pack(body: bytes) -> tuple[str, str]:
    """The body as text, and which characters changed places in it: pairs, each a stand-in and what it stands for."""
    counts = {character: body.count(character) for character in _ESCAPED if character in body}
    escaped = sorted(counts, key=counts.__getitem__, reverse=True)
    pairs = [
        (stand_in, character)
        for (stand_in, count), character in zip(_rarest(body, len(escaped)), escaped, strict=True)
        if count < counts[character]
    ]
    try:
        text = _swap(body, pairs).decode()
    except UnicodeDecodeError as exc:
        raise Invalid(
            "the body of a document is not UTF-8; bodies are JSON in UTF-8", start=exc.start, end=exc.end
        ) from None  # the error holds the body
    return text, "".join(chr(stand_in) + chr(character) for stand_in, character in pairs)


def unpack(text: str, swapped: str) -> bytes:
    """The body again. Raises ``Corrupt`` for pairs that ``pack`` cannot have made."""
    if len(swapped) % 2 or not swapped.isascii() or len(set(swapped)) < len(swapped):
        raise Corrupt(f"{len(swapped)} characters say how to read a stored body; expected pairs of different ones")
    characters = swapped.encode()
    return _swap(text.encode(), list(zip(characters[::2], characters[1::2], strict=True)))


def _rarest(body: bytes, number: int) -> list[tuple[int, int]]:
    """The characters that occur least, with their counts; the first that do not occur at all are enough."""
    counted: list[tuple[int, int]] = []
    unused: list[tuple[int, int]] = []
    for character in _STAND_INS:
        if len(unused) == number:
            return unused
        count = body.count(character)
        (counted if count else unused).append((character, count))
    return (unused + sorted(counted, key=lambda one: one[1]))[:number]


def _swap(body: bytes, pairs: list[tuple[int, int]]) -> bytes:
    if not pairs:
        return body
    ones, others = bytes(one for one, _ in pairs), bytes(other for _, other in pairs)
    return body.translate(bytes.maketrans(ones + others, others + ones))
