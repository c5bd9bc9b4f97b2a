"""What agents remember: messages of a session, and blackboards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from perdure.domain.canonical import JsonObject, JsonValue, exact_json, exact_value
from perdure.domain.ids import check_text
from perdure.domain.log import ENTRY_BYTES_MAX, Entry, NewEntry, check_entry_id
from perdure.domain.versioned import VALUE_BYTES_MAX, VersionedRow
from perdure.errors import Corrupt, Invalid

ROLE_CHARS_MAX: Final = 64  # a word such as user or assistant
PATCH_DEPTH_MAX: Final = 100  # of a patch, which is merged level by level
MESSAGE_FIELDS: Final = ("role", "content", "metadata", "timestamp", "message_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a session.

    ``content`` is text or any JSON value. ``message_id`` makes appending idempotent; one is made if none is given.
    ``timestamp`` is the sender's, informational; ``sequence`` is its place, None before it is kept.
    """

    role: str
    content: JsonValue
    metadata: JsonObject = field(default_factory=dict)
    timestamp: datetime | None = None
    message_id: str | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as a whole.

    ``ttl_s`` is its sliding lifetime, counted from the last message; ``expires_at`` an absolute end. ``sequence`` is
    the number of its last message and ``version`` counts changes of its settings and metadata.
    """

    session: str
    user: str
    sequence: int
    earliest: int
    version: int
    ttl_s: int | None
    expires_at: datetime | None
    metadata: JsonObject
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Messages of a session, oldest first. ``next_cursor`` reads what comes after the last of them."""

    session: Session
    messages: tuple[Message, ...]
    next_cursor: str
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Where a message is. ``duplicate`` says that it was there before."""

    message_id: str
    sequence: int
    cursor: str
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackboard:
    """Shared working data under a key, with a version. ``scope`` is whose it is: project, user or session."""

    key: str
    data: JsonObject
    metadata: JsonObject
    scope: str
    user: str | None
    session: str | None
    version: int
    incarnation: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What an erasure removed."""

    sessions: int
    blackboards: int


def message_entry(message: Message, *, message_id: str, now: datetime) -> NewEntry:
    """The entry that keeps a message. Raises ``Invalid``, and ``LimitExceeded`` above 256 KiB."""
    check_text(message.role, what="a role", limit="role_chars_max", chars_max=ROLE_CHARS_MAX)
    if message.timestamp is not None and message.timestamp.tzinfo is None:
        raise Invalid("the timestamp of a message needs a zone, as in datetime.now(UTC)")
    entry_id = check_entry_id(message_id, what="a message id")
    said: JsonObject = {"role": message.role, "content": message.content, "metadata": message.metadata}
    if message.timestamp is not None:
        said["timestamp"] = _instant(message.timestamp)
    content = exact_json(said, what=f"message {entry_id[:80]!r}", bytes_max=ENTRY_BYTES_MAX, limit="entry_bytes_max")
    body = exact_json(
        {"timestamp": _instant(now), **said, "message_id": entry_id},
        what=f"message {entry_id[:80]!r}",
        bytes_max=ENTRY_BYTES_MAX,
        limit="entry_bytes_max",
    )
    return NewEntry(entry_id=entry_id, fingerprint=hashlib.sha256(content).hexdigest(), body=body)


def message_of(entry: Entry) -> Message:
    """The message that an entry keeps. Raises ``Corrupt`` if it is none."""
    value = exact_value(entry.body)
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise Corrupt("a stored message has no role; it was changed from outside")
    metadata = value.get("metadata")
    return Message(
        role=str(value["role"]),
        content=value.get("content"),
        metadata=dict(metadata) if isinstance(metadata, dict) else {},
        timestamp=datetime.fromisoformat(str(value["timestamp"])),
        message_id=entry.entry_id,
        sequence=entry.sequence,
    )


def board_value(data: Mapping[str, JsonValue], metadata: Mapping[str, JsonValue], *, key: str) -> bytes:
    """The row that keeps a blackboard. Raises ``Invalid``, and ``LimitExceeded`` above 256 KiB."""
    if not isinstance(data, Mapping):
        raise Invalid(f"the data of a blackboard is a JSON object, not {type(data).__name__}")
    value = {"data": dict(data), "metadata": dict(metadata)}
    return exact_json(value, what=f"blackboard {key[:80]!r}", bytes_max=VALUE_BYTES_MAX, limit="value_bytes_max")


def board_of(row: VersionedRow, *, user: str | None, session: str | None) -> Blackboard:
    """The blackboard that a row keeps. Raises ``Corrupt`` if it is none."""
    value = exact_value(row.value)
    data = value.get("data") if isinstance(value, dict) else None
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(data, dict) or not isinstance(metadata, dict):
        raise Corrupt("a stored blackboard has no data; it was changed from outside")
    return Blackboard(
        key=row.key,
        data=data,
        metadata=metadata,
        scope="project" if user is None else "user" if session is None else "session",
        user=user,
        session=session,
        version=row.version,
        incarnation=row.incarnation,
        created_at=row.created_at,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
    )


def merge_patch(target: JsonValue, patch: JsonValue, *, depth: int = 0) -> JsonValue:
    """``target`` with ``patch`` merged into it (RFC 7396): objects merge deeply, null removes, all else replaces."""
    if depth > PATCH_DEPTH_MAX:
        raise Invalid(f"a patch is nested deeper than {PATCH_DEPTH_MAX} levels (patch_depth_max)")
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value, depth=depth + 1)
    return merged


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
