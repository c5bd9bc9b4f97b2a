"""An entry's details as they were when it was recorded: encoded at once, never raising, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from perdure.core.recorder_redaction import Redaction, may_hold_secret
from perdure.domain.limits import JSON_DEPTH_MAX
from perdure.domain.telemetry import (
    ENTRY_BYTES_MAX,
    OVERSIZED,
    UNSERIALISABLE,
    WITHHELD,
    TelemetryEntry,
    TelemetryRecord,
)

_INTEGER_BITS_MAX: Final = 63  # what every JSON reader on the way takes as an integer
_MARKED: Final = f'{{"{UNSERIALISABLE}":'.encode()
_NUL: Final = b"\\u0000"  # as JSON spells the one character that databases refuse


def _marked(value: object) -> dict[str, str]:
    return {UNSERIALISABLE: type(value).__name__}


# Sees nothing but its arguments, so that threads may share it.
_encode: Final[Callable[[object], bytes]] = msgspec.json.Encoder(enc_hook=_marked).encode


def snapshot(value: object) -> bytes:
    """A value as JSON, now. What is no JSON is replaced by a marker that names its type. It never raises."""
    try:
        return _encode(value)
    except Exception:  # noqa: BLE001 - a cycle, a key that is no text, a huge integer: the slow way finds which
        return _slowly(value)


def _slowly(value: object) -> bytes:
    try:
        return _encode(_plain(value, 0))
    except Exception as exc:  # noqa: BLE001 - whatever an object of the caller does when it is looked at
        return _encode({UNSERIALISABLE: type(exc).__name__})


def _plain(value: object, depth: int) -> object:
    """The value with a marker in place of everything that is no JSON."""
    if depth > JSON_DEPTH_MAX:
        return _marked(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else _single(value)


def _single(value: object) -> object:
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS_MAX:
        return _marked(value)
    try:
        return msgspec.Raw(_encode(value))
    except Exception:  # noqa: BLE001 - as above
        return _marked(value)


def _key(key: object) -> str:
    text = key if isinstance(key, str) else f"{type(key).__name__}:{key}"
    return text.encode("utf-8", "replace").decode()


def within(details: bytes | None, error: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Both, with the largest values replaced by markers until they are at most ``ENTRY_BYTES_MAX`` together."""
    # The error first: it is the smaller one, and what somebody will look for.
    error = None if error is None else _cut(error, ENTRY_BYTES_MAX // 2)
    left = ENTRY_BYTES_MAX - len(error or b"")
    return (None if details is None else _cut(details, left)), error


def _cut(text: bytes, bytes_max: int) -> bytes:
    if len(text) <= bytes_max:
        return text
    whole = _encode({OVERSIZED: len(text)})
    if not text.startswith(b"{"):
        return whole
    parts = dict(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    size = len(text)
    for name, part in sorted(parts.items(), key=lambda item: len(bytes(item[1])), reverse=True):
        marker = msgspec.Raw(_encode({OVERSIZED: len(bytes(part))}))
        size -= len(bytes(part)) - len(bytes(marker))
        parts[name] = marker
        if size <= bytes_max:
            cut = _encode(parts)
            return cut if len(cut) <= bytes_max else whole
    return whole


class Preparing:
    """Makes records of what was snapshotted: without secrets, without what databases refuse."""

    def __init__(self, redaction: Redaction, *, is_off: bool = False, always: bool = False) -> None:
        self._redaction = redaction
        self._is_off = is_off
        self._always = always
        self.redacted = 0
        self.unserialisable = 0

    def record(self, entry: TelemetryEntry, details: bytes | None, error: bytes | None) -> TelemetryRecord:
        """The record of an entry. It never raises: what a redactor fails on is withheld."""
        return TelemetryRecord(
            entry_id=entry.entry_id,
            instance_id=entry.instance_id,
            log_type=entry.log_type,
            unit_id=entry.unit_id,
            actor_id=entry.actor_id,
            role_id=entry.role_id,
            interaction_id=entry.interaction_id,
            event_details=None if details is None else self._clean(entry, details),
            error_metadata=None if error is None else self._clean(entry, error),
            timestamp=entry.timestamp,
        )

    def _clean(self, entry: TelemetryEntry, text: bytes) -> bytes:
        has_nul = _NUL in text
        self.unserialisable += _MARKED in text
        suspicious = not self._is_off and (self._always or may_hold_secret(text.decode()))
        if not (has_nul or suspicious):
            return text
        try:
            value = msgspec.json.decode(text)
            if suspicious:
                value = self._redact(entry, value)
            if has_nul:
                value = _without_nul(value)
            (cleaned, _) = within(snapshot(value), None)
        except Exception as exc:  # noqa: BLE001 - whatever a redactor raises, what it was given must not get out
            return _encode({WITHHELD: type(exc).__name__})
        assert cleaned is not None, "what goes in comes out"
        return cleaned

    def _redact(self, entry: TelemetryEntry, value: Any) -> object:
        # The default rules take the first keys for fields, which are never secrets; here they may be.
        is_whole = self._always and isinstance(value, dict)
        after, count = self._redaction.apply(entry.log_type.value, value if is_whole else {"value": value})
        self.redacted += count or 0
        return after if is_whole else after.get("value")


def _without_nul(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value
