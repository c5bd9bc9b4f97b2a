"""The envelope of a snapshot: one line of canonical JSON, then the payload, and one digest over both.

``docs/reference/tasklist-snapshots.md`` says the same for readers in other languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import blake3

from perdure.domain.canonical import JsonValue, canonical_json
from perdure.domain.tasklists.entity_ids import check_entity_id
from perdure.domain.tasklists.failures import (
    EntityMismatch,
    IntegrityMismatch,
    InvalidEncoding,
    SnapshotDecode,
    UnexpectedCodec,
    UnsupportedLegacyEncryptedArtifact,
    UnsupportedSchemaVersion,
)
from perdure.domain.tasklists.snapshot_json import ParsedObject, is_legacy_encrypted, parse_object
from perdure.domain.tasklists.snapshot_migration import PREVIOUS_SCHEMA_VERSION, read_previous
from perdure.errors import Invalid, LimitExceeded, PerdureError

FORMAT: Final = "perdure-tasklist-snapshot"
SCHEMA_VERSION: Final = 2
MIN_SUPPORTED: Final = PREVIOUS_SCHEMA_VERSION
ALGORITHM: Final = "blake3"
SNAPSHOT_BYTES_MAX: Final = 64 * 1_048_576  # a list of 10 000 tasks has 4 MiB; a file is in memory while it is judged
HEADER_BYTES_MAX: Final = 4_096  # every field has a bound, and the largest header has about 800 bytes
CODEC_MARKER_CHARS_MAX: Final = 64  # a word, not a document

Header: TypeAlias = "dict[str, JsonValue]"

_FIELDS: Final = frozenset(
    {
        "format",
        "schema_version",
        "codec_marker",
        "codec_version",
        "entity_id",
        "generation",
        "created_at_ms",
        "payload_len",
        "integrity",
    }
)
_WHOLE_NUMBERS: Final = ("codec_version", "generation", "created_at_ms", "payload_len")


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How a payload is encoded: opaque here, compared with what the reader expects."""

    marker: str
    version: int = 1

    def __post_init__(self) -> None:
        if not 0 < len(self.marker) <= CODEC_MARKER_CHARS_MAX or not self.marker.isascii():
            raise Invalid(f"a codec marker has 1 to {CODEC_MARKER_CHARS_MAX} ASCII characters")
        if self.version < 1:
            raise Invalid(f"the version of codec {self.marker} is {self.version}; expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot that is whole. ``generation`` counts the snapshots of a list; one of before it counted has 0.

    ``migrated`` says that it was of the previous schema: write it again.
    """

    entity_id: str
    generation: int
    created_at_ms: int
    codec: Codec
    payload: bytes = field(repr=False)
    migrated: bool = False


def encode_snapshot(snapshot: Snapshot) -> Sequence[bytes]:
    """The file, in pieces to be written one after the other. Raises ``LimitExceeded`` beyond ``SNAPSHOT_BYTES_MAX``.

    The payload is not copied.
    """
    header: Header = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "codec_marker": snapshot.codec.marker,
        "codec_version": snapshot.codec.version,
        "entity_id": check_entity_id(snapshot.entity_id),
        "generation": snapshot.generation,
        "created_at_ms": snapshot.created_at_ms,
        "payload_len": len(snapshot.payload),
        "integrity": {"algorithm": ALGORITHM},
    }
    digest = _digest(header, snapshot.payload)
    line = canonical_json({**header, "integrity": {"algorithm": ALGORITHM, "digest_hex": digest}}) + b"\n"
    size = len(line) + len(snapshot.payload)
    if size > SNAPSHOT_BYTES_MAX:
        raise LimitExceeded(
            f"a snapshot of {size} bytes is too large, at most {SNAPSHOT_BYTES_MAX} (snapshot_bytes_max); "
            "split the list",
            limit="snapshot_bytes_max",
            allowed=SNAPSHOT_BYTES_MAX,
            actual=size,
        )
    return [line, snapshot.payload]


def decode_snapshot(data: bytes, *, entity_id: str, codec: Codec | None, named_ms: int) -> Snapshot:
    """The snapshot in a file of that list. Nothing of it is believed before its digest was compared.

    In this order: ``UnsupportedLegacyEncryptedArtifact`` for an encrypted one of an older release, ``InvalidEncoding``
    for what is no envelope, ``UnsupportedSchemaVersion`` for another schema than this one and the one before,
    ``IntegrityMismatch``, and for one that is whole ``UnexpectedCodec`` or ``EntityMismatch``. ``named_ms`` is what the
    file's name says, for an envelope that does not say when it was made; any codec is fine where ``codec`` is None.
    """
    if len(data) > SNAPSHOT_BYTES_MAX:
        raise InvalidEncoding(
            f"{len(data)} bytes are more than a snapshot has (snapshot_bytes_max)", reason="snapshot_bytes_max"
        )
    line, header = _header(data)
    if "format" not in header:
        return _decode_previous(
            header, entity_id=entity_id, codec=codec, named_ms=named_ms, alone=len(line) == len(data)
        )
    version = header.get("schema_version")
    if header["format"] == FORMAT and type(version) is int and version != SCHEMA_VERSION:
        raise _unsupported(version)
    digest = _check_header(header, line)
    payload = memoryview(data)[len(line) + 1 :]
    if header["payload_len"] != len(payload):
        raise IntegrityMismatch(
            f"the envelope promises {header['payload_len']} bytes of payload and has {len(payload)}",
            reason="payload_len",
        )
    if _digest({**header, "integrity": {"algorithm": ALGORITHM}}, payload) != digest:
        raise IntegrityMismatch("the digest is not that of header and payload", reason="digest_hex")
    whole = _snapshot(header, bytes(payload))
    if codec is not None and whole.codec != codec:
        raise _unexpected(whole.codec.marker, whole.codec.version, expected=codec)
    if whole.entity_id != entity_id:
        raise EntityMismatch(
            f"the snapshot is one of list {whole.entity_id!a}, in the directory of {entity_id!a}; "
            "move it back to where it belongs",
            reason="entity_id",
        )
    return whole


def is_movable(failure: PerdureError) -> bool:
    """Whether what failed so is damaged, and may be put aside; what is whole or unread stays where it is."""
    return isinstance(failure, InvalidEncoding | IntegrityMismatch)


def is_about_payload(failure: PerdureError) -> bool:
    """Whether the envelope was whole and only what is in it was not understood."""
    return isinstance(failure, UnexpectedCodec | EntityMismatch | SnapshotDecode)


def _header(data: bytes) -> tuple[bytes, Header]:
    line, parsed = _parse(data)
    if is_legacy_encrypted(parsed.fields):
        raise UnsupportedLegacyEncryptedArtifact(
            "UnsupportedLegacyEncryptedArtifact: an encrypted snapshot of an older release; this one reads the "
            "plaintext format only: export it with the release that wrote it, or move it away and let peers send the "
            "state again"
        )
    if parsed.has_duplicates:
        raise InvalidEncoding("the envelope names a field twice", reason="duplicate_field")
    return line, parsed.fields


def _parse(data: bytes) -> tuple[bytes, ParsedObject]:
    end = data.find(b"\n", 0, HEADER_BYTES_MAX + 1)
    parsed = parse_object(data[:end]) if end > 0 else None
    # Otherwise it may be the first line of a document that is laid out for people.
    if parsed is not None and ("format" in parsed.fields or not data[end + 1 :].strip()):
        return data[:end], parsed
    whole = parse_object(data)
    if whole is None:
        raise InvalidEncoding(
            "it is not an envelope: neither a line of JSON and a payload, nor JSON", reason="not_json"
        )
    return data, whole


def _canonical(header: Header) -> bytes:
    try:
        return canonical_json(header)
    except (Invalid, LimitExceeded) as exc:
        raise InvalidEncoding("the envelope holds what canonical JSON does not have", reason="canonical") from exc


def _check_header(header: Header, line: bytes) -> str:
    integrity = header.get("integrity")
    if header.keys() != _FIELDS or not isinstance(integrity, dict) or integrity.keys() != {"algorithm", "digest_hex"}:
        raise InvalidEncoding("the envelope has other fields than this schema", reason="fields")
    if header["format"] != FORMAT or header["schema_version"] != SCHEMA_VERSION or integrity["algorithm"] != ALGORITHM:
        raise InvalidEncoding("the envelope names a format or an algorithm that is unknown", reason="unknown_value")
    if any(type(header[name]) is not int or _number(header[name]) < 0 for name in _WHOLE_NUMBERS):
        raise InvalidEncoding("a number of the envelope is not a whole number", reason="fields")
    if not isinstance(header["codec_marker"], str) or not isinstance(header["entity_id"], str):
        raise InvalidEncoding("a name in the envelope is not text", reason="fields")
    digest = integrity["digest_hex"]
    # One value has one encoding, so a flipped bit anywhere in the line, a space or a doubled key is found here.
    if not isinstance(digest, str) or _canonical(header) != line:
        raise InvalidEncoding("the envelope is not in canonical form", reason="canonical")
    return digest


def _snapshot(header: Header, payload: bytes) -> Snapshot:
    return Snapshot(
        entity_id=str(header["entity_id"]),
        generation=_number(header["generation"]),
        created_at_ms=_number(header["created_at_ms"]),
        codec=_codec(str(header["codec_marker"]), _number(header["codec_version"])),
        payload=payload,
    )


def _codec(marker: str, version: int) -> Codec:
    try:
        return Codec(marker=marker, version=version)
    except Invalid as exc:
        raise InvalidEncoding(f"the envelope's codec cannot be: {exc.message}", reason="codec_marker") from exc


def _decode_previous(header: Header, *, entity_id: str, codec: Codec | None, named_ms: int, alone: bool) -> Snapshot:
    version = header.get("schema_version")
    if type(version) is int and version not in {MIN_SUPPORTED, SCHEMA_VERSION}:
        raise _unsupported(version)
    previous = read_previous(header, alone=alone)
    found = _codec(previous.codec_marker, previous.codec_version)
    if codec is not None and found != codec:
        raise _unexpected(found.marker, found.version, expected=codec)
    # What the previous schema did not say is filled in: the directory says whose it is, the name when it was made.
    return Snapshot(
        entity_id=entity_id,
        generation=0,
        created_at_ms=named_ms,
        codec=found,
        payload=previous.payload,
        migrated=True,
    )


def _digest(header: Header, payload: bytes | memoryview) -> str:
    hasher = blake3.blake3(canonical_json(header))
    hasher.update(payload)
    return hasher.hexdigest()


def _number(value: JsonValue) -> int:
    assert type(value) is int, "checked with the header"
    return value


def _unsupported(found: int) -> UnsupportedSchemaVersion:
    return UnsupportedSchemaVersion(
        f"the snapshot is of schema {found}; this release reads {MIN_SUPPORTED} to {SCHEMA_VERSION}: "
        "use the release that wrote it, or the one between",
        found=found,
        min_supported=MIN_SUPPORTED,
        max_supported=SCHEMA_VERSION,
    )


def _unexpected(marker: str, version: int, *, expected: Codec) -> UnexpectedCodec:
    return UnexpectedCodec(
        f"the payload is of codec {ascii(marker)[:80]} version {version}; expected {expected.marker} version "
        f"{expected.version}: use the release that wrote it",
        marker=marker[:CODEC_MARKER_CHARS_MAX],
        version=version,
    )
