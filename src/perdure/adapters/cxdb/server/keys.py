"""Idempotency keys: any bytes on the wire, text in a store. No two keys give the same text."""

from __future__ import annotations

from typing import Final

_BYTES: Final = "hex:"


def key_text(key: bytes) -> str | None:
    """The text of a key, None for an empty one, which means none.

    UTF-8 is itself. Other bytes, and a text that could be taken for such, are written in hex.
    """
    if not key:
        return None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return _BYTES + key.hex()
    return _BYTES + key.hex() if text.startswith(_BYTES) else text
