"""Envelopes for tests, of both schemas."""

from __future__ import annotations

import json
from typing import Any

import blake3

from perdure.domain.tasklists.snapshot_format import Codec, Snapshot, decode_snapshot, encode_snapshot

CODEC = Codec(marker="yrs-v1")
PAYLOAD = b"milk\x00\xff\n{}"


def snapshot(payload: bytes = PAYLOAD, **changes: Any) -> Snapshot:
    """A snapshot of the current schema."""
    fields: dict[str, Any] = {"entity_id": "groceries", "generation": 7, "created_at_ms": 1_700_000_000_000}
    return Snapshot(**{**fields, "codec": CODEC, "payload": payload, **changes})


def encoded(payload: bytes = PAYLOAD, **changes: Any) -> bytes:
    """Its file."""
    return b"".join(encode_snapshot(snapshot(payload, **changes)))


def previous(payload: bytes = PAYLOAD, *, numbers: object = None, **changes: Any) -> bytes:
    """A file of the previous schema."""
    fields: dict[str, Any] = {
        "schema_version": 1,
        "codec_marker": CODEC.marker,
        "codec_version": 1,
        "integrity": {"algorithm": "blake3", "digest_hex": blake3.blake3(payload).hexdigest()},
        "payload": list(payload) if numbers is None else numbers,
    }
    return json.dumps({**fields, **changes}, separators=(",", ":")).encode()


def decoded(data: bytes, codec: Codec | None = CODEC) -> Snapshot:
    """What is in a file of the list ``groceries``."""
    return decode_snapshot(data, entity_id="groceries", codec=codec, named_ms=42)
