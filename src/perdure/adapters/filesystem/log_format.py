"""What stands in the files, byte by byte; nothing here opens one.

A segment is a header and frames. A frame is one write: the commits that were waiting together, each of them in it
wholly. Its digest covers its content, its length and its place, so that a frame found elsewhere is no frame.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from perdure.errors import Corrupt, DigestMismatch, LegacyArtifact
from perdure.ports.documents import Document

FORMAT_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 8 * 1_048_576  # twice what is ever written: a longer one is a damaged length

_SEGMENT_MAGIC: Final = b"PRDUSEG\n"
_MANIFEST_MAGIC: Final = b"PRDUMAN\n"
_MAGIC: Final = struct.Struct("<8sH")  # magic, format version: what every version of the format begins with
_PLACE: Final = struct.Struct("<QQ")  # segment number, offset
_NUMBER: Final = struct.Struct("<Q")
_DIGEST_BYTES: Final = 16
SEGMENT_HEADER_BYTES: Final = _MAGIC.size + _NUMBER.size + _DIGEST_BYTES

# 0xF7 occurs in no UTF-8 text, so neither names nor bodies can hold a marker.
_MARKER: Final = b"\xf7PRD"
_FRAME: Final = struct.Struct("<4sI")  # marker, bytes of content
FRAME_HEADER_BYTES: Final = _FRAME.size + _DIGEST_BYTES

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ADVICE: Final = "nothing was changed: keep a copy of the directory, look at the disk, and restore a backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one commit did to one partition."""

    partition: str
    documents: Sequence[Document]
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentName:
    """A segment that belongs to the log. ``length`` is None for the last one, which still grows."""

    number: int
    length: int | None


class _StoredDocument(msgspec.Struct, array_like=True, frozen=True):
    sort: str
    version: int
    commit_id: str
    expires_us: int | None
    body: bytes


class _StoredChange(msgspec.Struct, array_like=True, frozen=True):
    partition: str
    documents: list[_StoredDocument]
    removed: list[str]


class _StoredSegment(msgspec.Struct, array_like=True, frozen=True):
    number: int
    length: int | None


_encoder: Final = msgspec.msgpack.Encoder()
_changes_decoder: Final = msgspec.msgpack.Decoder(list[_StoredChange])
_manifest_decoder: Final = msgspec.msgpack.Decoder(list[_StoredSegment])


def encode_changes(changes: Sequence[Change]) -> bytes:
    """The content of a frame."""
    return _encoder.encode(
        [
            _StoredChange(change.partition, [_stored(document) for document in change.documents], [*change.removed])
            for change in changes
        ]
    )


def decode_changes(content: bytes | memoryview, *, where: str) -> Iterator[Change]:
    """The changes of a frame whose digest was right, in order."""
    try:
        stored = _changes_decoder.decode(content)
    except msgspec.DecodeError as exc:
        raise Corrupt(f"{where} holds a record that is intact and means nothing; {_ADVICE}") from exc
    for change in stored:
        yield Change(
            partition=change.partition,
            documents=[_document(document) for document in change.documents],
            removed=change.removed,
        )


def encode_segment_header(number: int) -> bytes:
    """What the file of segment ``number`` begins with."""
    head = _MAGIC.pack(_SEGMENT_MAGIC, FORMAT_VERSION) + _NUMBER.pack(number)
    return head + _digest(head)


def check_segment_header(data: bytes, number: int, *, where: str) -> None:
    """Raise unless ``data`` begins like the file of segment ``number``."""
    _check_version(data, _SEGMENT_MAGIC, where=where)
    if data[:SEGMENT_HEADER_BYTES] != encode_segment_header(number):
        raise DigestMismatch(f"{where} does not begin as segment {number} does; {_ADVICE}", segment=number, offset=0)


def encode_frame(content: bytes, *, number: int, offset: int) -> bytes:
    """A frame for one place in one segment."""
    assert len(content) <= FRAME_BYTES_MAX, "whoever gathers a frame bounds it"
    head = _FRAME.pack(_MARKER, len(content))
    return head + _digest(head, _PLACE.pack(number, offset), content) + content


def read_frame(data: memoryview, *, number: int, offset: int) -> memoryview | None:
    """The content of the frame at ``offset``, or None if there is no intact one."""
    begin = offset + FRAME_HEADER_BYTES
    if begin > len(data):
        return None
    marker, length = _FRAME.unpack_from(data, offset)
    if marker != _MARKER or length > FRAME_BYTES_MAX or begin + length > len(data):
        return None
    content = data[begin : begin + length]
    digest = _digest(data[offset : offset + _FRAME.size], _PLACE.pack(number, offset), content)
    return content if data[offset + _FRAME.size : begin] == digest else None


def is_torn_tail(data: bytes, *, offset: int) -> bool:
    """Whether what follows ``offset`` can be a write that was cut short: one frame at most, and none begun after it.

    A mark of a later frame, intact or not, means that the one at ``offset`` was once complete.
    """
    if len(data) - offset > FRAME_HEADER_BYTES + FRAME_BYTES_MAX:
        return False
    return data.find(_MARKER, offset + 1) == -1


def damage(*, where: str, number: int, offset: int) -> DigestMismatch:
    """The error for a frame that is not what was written, and not a write that was cut short."""
    return DigestMismatch(
        f"{where} is damaged at byte {offset}: the record there does not match its checksum and is not the last "
        f"one; {_ADVICE}",
        segment=number,
        offset=offset,
    )


def encode_manifest(segments: Sequence[SegmentName]) -> bytes:
    """The file that says which segments make the log, in order."""
    head = _MAGIC.pack(_MANIFEST_MAGIC, FORMAT_VERSION)
    content = _encoder.encode([_StoredSegment(segment.number, segment.length) for segment in segments])
    return head + _digest(head, content) + content


def decode_manifest(data: bytes, *, where: str) -> list[SegmentName]:
    """The segments of the log, in order; of the last only the length is open."""
    _check_version(data, _MANIFEST_MAGIC, where=where)
    head, digest = data[: _MAGIC.size], data[_MAGIC.size : _MAGIC.size + _DIGEST_BYTES]
    content = data[_MAGIC.size + _DIGEST_BYTES :]
    if digest != _digest(head, content):
        raise DigestMismatch(f"{where} does not match its checksum; {_ADVICE}")
    try:
        stored = _manifest_decoder.decode(content)
    except msgspec.DecodeError as exc:
        raise Corrupt(f"{where} is intact and means nothing; {_ADVICE}") from exc
    return [SegmentName(number=segment.number, length=segment.length) for segment in stored]


def missing(*, where: str) -> Corrupt:
    """The error for a file that belongs to the log and is not there, or is not as long as it was."""
    return Corrupt(f"{where}; {_ADVICE}")


def stored_bytes(document: Document) -> int:
    """About what a document takes in a frame."""
    return len(document.sort) + len(document.commit_id) + len(document.body) + 24


def _check_version(data: bytes, magic: bytes, *, where: str) -> None:
    if len(data) < _MAGIC.size:
        raise DigestMismatch(f"{where} has {len(data)} bytes and is cut short; {_ADVICE}")
    found, version = _MAGIC.unpack_from(data)
    if found != magic:
        raise DigestMismatch(f"{where} does not begin as it was written; {_ADVICE}")
    if version > FORMAT_VERSION:
        raise LegacyArtifact(
            f"{where} has format {version}, and this release reads up to {FORMAT_VERSION}; use a newer release",
            found=version,
            supported=FORMAT_VERSION,
        )


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _stored(document: Document) -> _StoredDocument:
    expires_at = document.expires_at
    return _StoredDocument(
        document.sort,
        document.version,
        document.commit_id,
        None if expires_at is None else (expires_at - _EPOCH) // _MICROSECOND,
        document.body,
    )


def _document(stored: _StoredDocument) -> Document:
    return Document(
        sort=stored.sort,
        version=stored.version,
        body=stored.body,
        commit_id=stored.commit_id,
        expires_at=None if stored.expires_us is None else _EPOCH + stored.expires_us * _MICROSECOND,
    )
