"""Cursors of lists whose order is a backend's own: the backend's mark, bound to the place that it was given by."""

from __future__ import annotations

import hashlib

from perdure.core.backends import fingerprint
from perdure.core.stores import Call
from perdure.errors import Invalid


def encode_mark(call: Call, mark: str | None) -> str | None:
    """The cursor to go on from a mark of the backend that is being asked."""
    return None if mark is None else f"{_place(call)}.{mark}"


def decode_mark(call: Call, cursor: str | None) -> str | None:
    """The mark in a cursor.

    Raises ``Invalid`` for one that this list did not give, or that it gave where the route led before: the order was
    another there, and going on from it here would leave something out.
    """
    if cursor is None:
        return None
    place, _, mark = cursor.partition(".")
    if place != _place(call) or not mark:
        raise Invalid(
            "the cursor is not one that this list gave where it is kept now; begin again without a cursor",
        )
    return mark


def _place(call: Call) -> str:
    return hashlib.sha256(fingerprint(call.resolved.route.target)).hexdigest()[:12]
