"""How what is asked of the store of logs is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from perdure.domain.log import LogHead, LogSettings, NewEntry
from perdure.errors import KeyReused


def distinct(entries: Sequence[NewEntry]) -> Sequence[NewEntry]:
    """The entries, each id once, in order. Raises ``KeyReused`` if one id has two contents."""
    first: dict[str, NewEntry] = {}
    for entry in entries:
        if first.setdefault(entry.entry_id, entry).fingerprint != entry.fingerprint:
            raise reused(entry.entry_id)
    return list(first.values())


def reused(entry_id: str) -> KeyReused:
    """The error for an id under which something else is kept."""
    return KeyReused(
        f"entry {ascii(entry_id)[:80]} is there with other content, and nothing was written; an id means one content",
        entry_id=entry_id,
    )


def settings_json(settings: LogSettings | None) -> str | None:
    """Settings as a function takes them; attributes in hexadecimal, since they are bytes."""
    return None if settings is None else msgspec.json.encode(_settings(settings)).decode()


def head_json(head: LogHead) -> str:
    """A head of another store as a function takes it."""
    return msgspec.json.encode(
        {
            "epoch": head.epoch,
            "earliest": head.earliest,
            "version": head.version,
            "created_at": head.created_at,
            "updated_at": head.updated_at,
            **_settings(head.settings),
        }
    ).decode()


def _settings(settings: LogSettings) -> Mapping[str, Any]:
    return {
        "ttl_s": settings.ttl_s,
        "expires_at": settings.expires_at,
        "attributes": settings.attributes.hex(),
    }
