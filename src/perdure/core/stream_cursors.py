"""Cursors of logs: a position, bound to the container and the tenant that it was given for."""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.domain.container import Container
from perdure.domain.cursor import decode_cursor, encode_cursor
from perdure.domain.log import Position
from perdure.domain.scope import Scope
from perdure.errors import Invalid

CURSOR_NONE: Final = Position(epoch=0, sequence=0)
"""Before the first entry of a log that does not exist yet."""


def encode_position(scope: Scope, container: Container, position: Position) -> str:
    """The opaque cursor of a position in a container."""
    keys = (position.epoch, position.sequence)
    return encode_cursor(_query(container), tenant_id=scope.tenant_id, keys=keys)


def decode_position(scope: Scope, container: Container, cursor: str) -> Position | None:
    """The position of a cursor; None if the text is no cursor of this container and tenant."""
    try:
        keys = decode_cursor(cursor, query=_query(container), tenant_id=scope.tenant_id)
    except Invalid:
        return None
    match keys:
        case (int(epoch), int(sequence)):
            return Position(epoch=epoch, sequence=sequence)
        case _:
            return None


def _query(container: Container) -> str:
    return msgspec.json.encode(container).decode()
