"""A document as an item of the container, and back.

``id`` is the sort key, ``p`` the partition (the partition key), ``v`` the version, ``b`` and ``s`` the body
(see ``bodies``), ``c`` the commit's id, ``x`` the expiry in microseconds since 1970 as text (a JSON number would be a
double here), and ``ttl`` the engine's own: the seconds until it may remove the item.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from perdure.adapters.cosmos.bodies import pack, unpack
from perdure.errors import Corrupt
from perdure.ports.documents import Document, Put

PARTITION_PATH: Final = "/p"
FIELDS: Final = "c.id, c.v, c.b, c.s, c.c, c.x, c._etag"
TTL_GRACE_S: Final = 86_400
"""The engine removes nothing before a day after its expiry: its clock and ours need not agree, and an item that has
come to the end of its ``ttl`` is gone for every reader at once."""
TTL_MAX_S: Final = 2_147_483_647  # the engine's largest; what lives longer is left to our own sweeps

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ROUND_UP: Final = 1


def to_item(partition: str, put: Put, *, commit_id: str, now: datetime) -> dict[str, Any]:
    """The item that keeps this document."""
    text, swapped = pack(put.body)
    item: dict[str, Any] = {"id": put.sort, "p": partition, "v": put.version, "b": text, "c": commit_id}
    if swapped:
        item["s"] = swapped
    if put.expires_at is not None:
        item["x"] = str((put.expires_at - _EPOCH) // _MICROSECOND)
        ttl_s = int((put.expires_at - now).total_seconds()) + _ROUND_UP + TTL_GRACE_S
        if ttl_s <= TTL_MAX_S:
            item["ttl"] = max(1, ttl_s)
    return item


def to_document(item: Mapping[str, Any]) -> Document:
    """The document that an item keeps. Raises ``Corrupt`` for an item that ``to_item`` cannot have made."""
    try:
        expires_us = item.get("x")
        return Document(
            sort=_text(item["id"]),
            version=_whole(item["v"]),
            body=unpack(_text(item["b"]), _text(item.get("s", ""))),
            commit_id=_text(item["c"]),
            expires_at=None if expires_us is None else _EPOCH + int(_text(expires_us)) * _MICROSECOND,
            token=_text(item["_etag"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise Corrupt(
            "an item of the container is not one that Perdure writes; keep the container for Perdure alone and look "
            f"who wrote it ({type(exc).__name__})"
        ) from None  # the error may hold what is stored


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
