"""The previous schema of snapshots, kept readable for one release: one JSON object with the payload as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import blake3

from perdure.domain.canonical import JsonValue
from perdure.domain.tasklists.failures import IntegrityMismatch, InvalidEncoding

PREVIOUS_SCHEMA_VERSION: Final = 1

_ALGORITHM: Final = "blake3"
_FIELDS: Final = frozenset({"schema_version", "codec_marker", "codec_version", "integrity", "payload"})
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousSnapshot:
    """What an envelope of the previous schema says: nothing about whose it is, when it was made or which it is."""

    codec_marker: str
    codec_version: int
    payload: bytes = field(repr=False)


def read_previous(fields: dict[str, JsonValue], *, alone: bool) -> PreviousSnapshot:
    """The previous schema's envelope in these fields, verified: its digest covers the payload only.

    ``alone``: nothing follows the object in its file. Raises ``InvalidEncoding`` and ``IntegrityMismatch``.
    """
    if not alone or fields.keys() != _FIELDS:
        raise InvalidEncoding("it is not an envelope of any schema", reason="fields")
    schema = fields["schema_version"]
    if type(schema) is not int or schema != PREVIOUS_SCHEMA_VERSION:  # true is 1 to a comparison
        raise InvalidEncoding("it is not an envelope of any schema", reason="fields")
    marker, version, integrity = fields["codec_marker"], fields["codec_version"], fields["integrity"]
    if not isinstance(marker, str) or type(version) is not int or not isinstance(integrity, dict):
        raise InvalidEncoding("a field of the envelope has the wrong type", reason="fields")
    digest = integrity.get("digest_hex")
    if integrity.keys() != {"algorithm", "digest_hex"} or integrity["algorithm"] != _ALGORITHM:
        raise InvalidEncoding("the envelope names an algorithm that is unknown", reason="unknown_value")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise InvalidEncoding("the digest is not 64 lower-case hexadecimal digits", reason="fields")
    payload = _bytes(fields["payload"])
    if blake3.blake3(payload).hexdigest() != digest:
        raise IntegrityMismatch("the digest is not that of the payload", reason="digest_hex")
    return PreviousSnapshot(codec_marker=marker, codec_version=version, payload=payload)


def _bytes(numbers: JsonValue) -> bytes:
    # bool is an int to bytes(), and true is not a byte.
    if not isinstance(numbers, list) or any(type(number) is not int for number in numbers):
        raise InvalidEncoding("the payload is not a list of bytes", reason="payload")
    try:
        return bytes(numbers)  # type: ignore[arg-type]  # all are integers, just checked
    except ValueError as exc:
        raise InvalidEncoding("a byte of the payload is not 0 to 255", reason="payload") from exc
