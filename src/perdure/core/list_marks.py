"""Cursors of lists whose order is a backend's own: the backend's mark, bound to the place that it was given by."""

from __future__ import annotations

import hashlib

from perdure.core.backends import fingerprint
from perdure.core.stores import Call
from perdure.errors import CursorInvalid


def encode_mark(call: Call, mark: str | None) -> str | None:
    """The cursor to go on from a mark of the backend that is being asked."""
    return None if mark is None else f"{_place(call)}.{mark}"


def decode_mark(call: Call, cursor: str | None) -> str | None:
    """The mark in a cursor.

    Raises ``CursorInvalid`` (reason ``unknown``) for one that another backend gave, before the route was led here: the
    order is another here, and going on from there would leave something out.
    """
    if cursor is None:
        return None
    place, _, mark = cursor.partition(".")
    if place != _place(call) or not mark:
        kind = call.resolved.route.kind
        raise CursorInvalid(
            "this list is kept in another place now, and in another order; begin again without a cursor",
            code=f"{kind}.cursor_invalid",
            reason="unknown",
        )
    return mark


def _place(call: Call) -> str:
    return hashlib.sha256(fingerprint(call.resolved.route.target)).hexdigest()[:12]
