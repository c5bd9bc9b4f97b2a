"""A directory as an object: its entries in one canonical encoding, so that equal directories have equal hashes.

A tree is a msgpack array of maps, sorted by the bytes of the names. Each map has five keys, digits as text, and numbers
of fixed width. Other writers use integer keys, leave out what is empty, or write nil for an empty directory: all of
that is read, and none of it is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

import msgspec

from perdure.errors import Corrupt, Invalid, LimitExceeded

TREE_ENTRIES_MAX: Final = 100_000  # what capturing clients stop at; a larger directory is no working copy
TREE_BYTES_MAX: Final = 16 * 1_048_576  # that many entries with names of a hundred bytes
TREE_ENTRY_BYTES_MAX: Final = 16_384  # the longest name four times over: room for keys of later writers
TREE_NAME_BYTES_MAX: Final = 4_096  # the longest path of the usual systems, and a name is a part of one
TREE_HASH_BYTES: Final = 32  # BLAKE3-256

_U32_MAX: Final = 2**32 - 1
_U64_MAX: Final = 2**64 - 1
_FIXARRAY_MAX: Final = 15
_ARRAY16_MAX: Final = 2**16 - 1
_ARRAY16: Final = struct.Struct(">BH")
_ARRAY32: Final = struct.Struct(">BI")
# Everything after the name: kind (cc), mode (ce), size (cf) and hash (c4 20), each behind its key.
_AFTER_NAME: Final = struct.Struct(">2sBB2sBI2sBQ2sBB32s")
_NIL: Final = b"\xc0"


class EntryKind(IntEnum):
    """What an entry is. An unknown number is read as a file."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One name in a directory.

    ``hash`` is that of a file's content, of a directory's own tree, or of a link's target as bytes; ``size`` is the
    length of the content or target, and 0 for a directory. Of an entry that was read, nothing is promised but the
    types: check a name before making a path of it, and a hash before looking for it.
    """

    name: str = ""
    kind: EntryKind = EntryKind.FILE
    mode: int = 0
    size: int = 0
    hash: bytes = b""


def encode_tree(entries: Iterable[TreeEntry]) -> bytes:
    """The canonical bytes of a directory, whatever the order of ``entries``.

    Raises ``Invalid`` for a name that is none or there twice, or a value that does not fit, and ``LimitExceeded`` above
    ``TREE_ENTRIES_MAX``, ``TREE_BYTES_MAX`` or ``TREE_NAME_BYTES_MAX``.
    """
    named: dict[bytes, TreeEntry] = {}
    for entry in entries:
        name = _check_name(entry.name)
        if name in named:
            raise Invalid("two entries of a directory have the same name; expected each name once")
        named[name] = entry
        if len(named) > TREE_ENTRIES_MAX:
            raise _too_large(len(named), unit="entries", limit="tree_entries_max", most=TREE_ENTRIES_MAX)
    tree = bytearray(_array_header(len(named)))
    for name in sorted(named):
        tree += b"\x85\xa11"
        tree += msgspec.msgpack.encode(named[name].name)
        tree += _after_name(named[name])
        if len(tree) > TREE_BYTES_MAX:
            raise _too_large(len(tree), unit="bytes", limit="tree_bytes_max", most=TREE_BYTES_MAX)
    return bytes(tree)


def decode_tree(tree: bytes) -> tuple[TreeEntry, ...]:
    """The entries of a directory, in the order in which they were written.

    Raises ``Corrupt`` for what is no directory, and ``LimitExceeded`` above ``TREE_ENTRIES_MAX``, ``TREE_BYTES_MAX`` or
    ``TREE_ENTRY_BYTES_MAX``.
    """
    if len(tree) > TREE_BYTES_MAX:
        raise _too_large(len(tree), unit="bytes", limit="tree_bytes_max", most=TREE_BYTES_MAX)
    if tree == _NIL:
        return ()
    _check_count(tree)
    return tuple(_read_entry(raw) for raw in _decode(_ENTRIES, tree))


def _check_name(name: str) -> bytes:
    # A reader makes a path of it: nothing that leaves the directory, or ends a path early, may stand in a tree.
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Invalid("an entry's name is empty, '.', '..' or holds '/' or NUL; expected the name of one file")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise Invalid("an entry's name holds a lone surrogate, which UTF-8 does not have; rename the file") from None
    if len(encoded) > TREE_NAME_BYTES_MAX:
        raise _too_large(
            len(encoded), what="an entry's name", unit="bytes", limit="tree_name_bytes_max", most=TREE_NAME_BYTES_MAX
        )
    return encoded


def _array_header(count: int) -> bytes:
    if count <= _FIXARRAY_MAX:
        return bytes([0x90 | count])
    if count <= _ARRAY16_MAX:
        return _ARRAY16.pack(0xDC, count)
    return _ARRAY32.pack(0xDD, count)


def _after_name(entry: TreeEntry) -> bytes:
    if len(entry.hash) != TREE_HASH_BYTES:
        raise Invalid(f"an entry's hash has {len(entry.hash)} bytes; expected {TREE_HASH_BYTES}, the raw BLAKE3-256")
    if not (0 <= entry.mode <= _U32_MAX and 0 <= entry.size <= _U64_MAX):
        raise Invalid("an entry's mode or size is outside its field; expected 32 and 64 bits without a sign")
    fields = (b"\xa12", 0xCC, entry.kind, b"\xa13", 0xCE, entry.mode, b"\xa14", 0xCF, entry.size, b"\xa15", 0xC4)
    return _AFTER_NAME.pack(*fields, TREE_HASH_BYTES, entry.hash)


def _check_count(tree: bytes) -> None:
    first = tree[0] if tree else 0
    if first & 0xF0 == 0x90:  # noqa: PLR2004 - how msgpack begins a short array
        count = first & 0x0F
    elif first == 0xDC and len(tree) >= _ARRAY16.size:  # noqa: PLR2004 - an array of up to 2**16 - 1
        _, count = _ARRAY16.unpack_from(tree)
    elif first == 0xDD and len(tree) >= _ARRAY32.size:  # noqa: PLR2004 - a longer one
        _, count = _ARRAY32.unpack_from(tree)
    else:
        raise _corrupt()
    if count > TREE_ENTRIES_MAX:
        raise _too_large(count, unit="entries", limit="tree_entries_max", most=TREE_ENTRIES_MAX)
    if count > len(tree):  # an entry has at least one byte, and nothing is made for those that cannot be there
        raise _corrupt()


def _read_entry(raw: msgspec.Raw) -> TreeEntry:
    # One entry at a time, so that what a hostile map turns into is bounded, and gone before the next.
    body = memoryview(raw)
    if len(body) > TREE_ENTRY_BYTES_MAX:
        raise _too_large(
            len(body), what="an entry", unit="bytes", limit="tree_entry_bytes_max", most=TREE_ENTRY_BYTES_MAX
        )
    fields = {_KEYS[key]: value for key, value in _decode(_ENTRY, body).items() if key in _KEYS}
    kind = _number(fields, "kind", most=_U64_MAX)
    return TreeEntry(
        name=_decode(_NAME, fields["name"]) or "" if "name" in fields else "",
        kind=EntryKind(kind) if kind in _KINDS else EntryKind.FILE,
        mode=_number(fields, "mode", most=_U32_MAX),
        size=_number(fields, "size", most=_U64_MAX),
        hash=_decode(_HASH, fields["hash"]) or b"" if "hash" in fields else b"",
    )


def _number(fields: dict[str, msgspec.Raw], name: str, *, most: int) -> int:
    number = (_decode(_NUMBER, fields[name]) or 0) if name in fields else 0
    if not 0 <= number <= most:
        raise _corrupt()
    return number


_Value = TypeVar("_Value")


def _decode(decoder: msgspec.msgpack.Decoder[_Value], body: bytes | memoryview | msgspec.Raw) -> _Value:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        # The cause would quote what is stored.
        raise _corrupt() from None


def _corrupt() -> Corrupt:
    return Corrupt("an object is no directory: expected a msgpack array of entries; it was not written as a tree")


def _too_large(size: int, *, what: str = "a directory", unit: str, limit: str, most: int) -> LimitExceeded:
    return LimitExceeded(
        f"{what} is too large: {size} {unit}, at most {most} ({limit}); shorten names, or split the directory",
        limit=limit,
        allowed=most,
        actual=size,
    )


_ENTRIES: Final = msgspec.msgpack.Decoder(Sequence[msgspec.Raw])
_ENTRY: Final = msgspec.msgpack.Decoder(dict[int | str, msgspec.Raw])
_NAME: Final = msgspec.msgpack.Decoder(str | None)
_NUMBER: Final = msgspec.msgpack.Decoder(int | None)
_HASH: Final = msgspec.msgpack.Decoder(bytes | None)
_KINDS: Final = frozenset(EntryKind)
_KEYS: Final[dict[int | str, str]] = {
    key: name
    for number, name in enumerate(("name", "kind", "mode", "size", "hash"), start=1)
    for key in (number, str(number))
}
