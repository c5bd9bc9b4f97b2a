"""What a client says of the content that it sends, held against the content itself.

The checks and their order are the protocol's: compression, length, hash.
"""

from __future__ import annotations

from typing import Final

import zstandard

from perdure.adapters.cxdb.codec.fields import PAYLOAD_BYTES_MAX
from perdure.adapters.cxdb.codec.requests import COMPRESSION_NONE, COMPRESSION_ZSTD, AppendTurn, PutBlob
from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX, content_hash
from perdure.errors import Invalid, LimitExceeded

_CHUNK_BYTES: Final = 262_144  # what is decompressed at once
_WINDOW_BYTES_MAX: Final = PAYLOAD_BYTES_MAX  # what a decompressor may look back on; no payload is longer


class BlobHashMismatch(Invalid):
    """A blob that is not what its hash says."""


def turn_content(turn: AppendTurn) -> bytes:
    """The content of a turn, as it was before anybody compressed it.

    Raises ``Invalid`` with the protocol's text for what is not as declared, and ``LimitExceeded`` for content that no
    turn may have, before any of it is decompressed.
    """
    content = _decompressed(turn)
    if len(content) != turn.uncompressed_len:
        raise Invalid("uncompressed length mismatch", declared=turn.uncompressed_len, actual=len(content))
    if content_hash(content) != turn.content_hash.hex():
        raise Invalid("content hash mismatch", declared=turn.content_hash.hex())
    return content


def check_blob(blob: PutBlob) -> None:
    """Raise ``BlobHashMismatch`` for content with another hash."""
    if content_hash(blob.content) != blob.content_hash.hex():
        raise BlobHashMismatch("blob hash mismatch", declared=blob.content_hash.hex())


def _decompressed(turn: AppendTurn) -> bytes:
    if turn.compression == COMPRESSION_NONE:
        return turn.payload
    if turn.compression != COMPRESSION_ZSTD:
        raise Invalid(f"unsupported compression: {turn.compression}")
    if turn.uncompressed_len > TURN_PAYLOAD_BYTES_MAX:
        raise LimitExceeded(
            f"{turn.uncompressed_len} bytes of payload are declared, at most {TURN_PAYLOAD_BYTES_MAX} "
            "(turn_payload_bytes_max); send less at once",
            limit="turn_payload_bytes_max",
            allowed=TURN_PAYLOAD_BYTES_MAX,
            actual=turn.uncompressed_len,
        )
    chunks: list[bytes] = []
    size = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
    try:
        with decompressor.stream_reader(turn.payload, read_across_frames=True) as reader:
            # Of what is longer than declared, one byte more is seen and no other.
            while chunk := reader.read(min(_CHUNK_BYTES, turn.uncompressed_len + 1 - size)):
                chunks.append(chunk)
                size += len(chunk)
                if size > turn.uncompressed_len:
                    raise Invalid("uncompressed length mismatch", declared=turn.uncompressed_len)
    except zstandard.ZstdError as exc:
        raise Invalid(f"zstd decode failed: {exc}") from exc
    return b"".join(chunks)
