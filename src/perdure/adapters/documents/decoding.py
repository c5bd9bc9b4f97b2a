"""What documents hold, read. Fields that a newer release wrote are passed over."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from perdure.errors import Corrupt
from perdure.ports.documents import Document

Kept = TypeVar("Kept")


def decoded(decoder: msgspec.json.Decoder[Kept], document: Document, *, what: str) -> Kept:
    """The content of a document. Raises ``Corrupt``, which says what should be there and nothing of what is."""
    try:
        return decoder.decode(document.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Corrupt(
            f"a document stands where {what} should be and is none; was it written by something else?",
            sort=document.sort,
        ) from exc
