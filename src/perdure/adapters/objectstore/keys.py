"""Where everything is: the keys of objects and of the names of spaces, all of them, and nothing else.

::

    objects/<tenant>/<hash of the space>/<first two digits>/<digest>/<when>.<id>.<media type>
    spaces/<tenant>/<hash of the space>.json

Each put writes a key of its own, so that none is ever written twice: the newest of an address is the object, and one
that is deleted cannot be one that was just put. All that is known of an object is in its key and in what every engine
lists, so that neither attributes nor a second file are needed. A space is known by 128 bits of a hash, since the parts
of its name may hold any character and together be longer than a key; the name itself is in its file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.domain.container import Space, make_space
from perdure.domain.object import MEDIA_TYPE_OF_TURNS, ObjectRef, check_digest, check_media_type
from perdure.errors import Corrupt, PerdureError

_HASH_BYTES: Final = 16  # 128 bits: enough that two names of one tenant never meet
_PARTS: Final = 3  # of the name of a key
_DEPTH: Final = 6  # the segments of an object's key
_EPOCH_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One put of an object: what it says of it, and its key."""

    key: str
    ref: ObjectRef


def space_key(space: Space) -> str:
    """A space, in the keys of what is in it."""
    digest = hashlib.sha256(_name(space)).digest()[:_HASH_BYTES]
    return f"{space.tenant}/{digest.hex()}"


def space_prefix(space: Space) -> str:
    """Below this are all objects of a space, in the order of their addresses."""
    return f"objects/{space_key(space)}"


def shard_prefix(space: Space, shard: str) -> str:
    """Below this are those whose addresses begin with these two digits."""
    return f"{space_prefix(space)}/{shard}"


def object_prefix(space: Space, digest: str) -> str:
    """Below this are all puts of one object, in the order of time."""
    return f"{shard_prefix(space, digest[:2])}/{digest}"


def after_object(space: Space, digest: str) -> str:
    """A key behind every put of an object and before those of the next: "~" is behind all that a name holds."""
    return f"{object_prefix(space, digest)}/~"


def object_key(space: Space, digest: str, *, created_at: datetime, put_id: UUID, media_type: str) -> str:
    """The key of one put."""
    microseconds = (created_at - _EPOCH_BEGINNING) // timedelta(microseconds=1)
    return f"{object_prefix(space, digest)}/{microseconds:020d}.{put_id.hex}.{_encode(media_type)}"


def read_object(meta: Mapping[str, Any]) -> Kept | None:
    """What a listed key says; None for what is no put of an object, whoever left it there."""
    segments = str(meta["path"]).split("/")[-_DEPTH:]
    parts = segments[-1].split(".")
    if len(segments) != _DEPTH or len(parts) != _PARTS:
        return None
    when, _, media_type = parts
    try:
        ref = ObjectRef(
            digest=check_digest(segments[-2]),
            size_bytes=meta["size"],
            media_type=check_media_type(_decode(media_type)),
            created_at=_EPOCH_BEGINNING + timedelta(microseconds=int(when)),
        )
    except (PerdureError, ValueError, OverflowError):
        return None
    return Kept(key=str(meta["path"]), ref=ref)


def merged(earlier: ObjectRef | None, later: ObjectRef) -> ObjectRef:
    """What is known of an object by two puts of it that are there at the same time."""
    if earlier is None:
        return later
    return replace(later, media_type=media_type_of((earlier.media_type, later.media_type)))


def media_type_of(given: Sequence[str]) -> str:
    """What an object is called that was put as each of these, in this order: what somebody said last."""
    return next((each for each in reversed(given) if each != MEDIA_TYPE_OF_TURNS), given[-1])


def shard_of(prefix: str) -> str:
    """The two digits at the end of a listed prefix."""
    return prefix.rstrip("/").rpartition("/")[2]


def names_prefix(tenant: str) -> str:
    """Below this are the names of a tenant's spaces."""
    return f"spaces/{tenant}"


def name_key(space: Space) -> str:
    """Where the name of a space is."""
    return f"spaces/{space_key(space)}.json"


def name_content(space: Space) -> bytes:
    """The name of a space, as it is kept."""
    return _name(space)


def read_name(tenant: str, content: bytes) -> Space:
    """The space of a name that was kept. Raises ``Corrupt`` for what is none."""
    try:
        mode, env, project, surface, app = msgspec.json.decode(
            content, type=tuple[str, str, str, str | None, str | None]
        )
        return make_space(tenant=tenant, mode=mode, env=env, project=project, surface=surface, app=app)
    except (msgspec.MsgspecError, PerdureError) as exc:
        raise Corrupt(f"a file of {names_prefix(tenant)} names no space; was it written by something else?") from exc


def mark_of(key: str) -> str:
    """The place in the list of spaces where the name at this key is."""
    return key.rpartition("/")[2].removesuffix(".json")


def after_mark(tenant: str, mark: str) -> str:
    """The key of the name that is at this place."""
    return f"{names_prefix(tenant)}/{mark}.json"


def is_mark(mark: str) -> bool:
    """Whether some list of spaces may have given this."""
    return len(mark) == 2 * _HASH_BYTES and not set(mark) - set("0123456789abcdef")


def _name(space: Space) -> bytes:
    return msgspec.json.encode([space.mode, space.env, space.project, space.surface, space.app])


def _encode(text: str) -> str:
    return base64.b32hexencode(text.encode()).decode().rstrip("=").lower()


def _decode(text: str) -> str:
    return base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8)).decode()
