"""Where everything is: the names of partitions and sort keys; those of units and telemetry have their own modules.

A name is made of components, each encoded so that it holds neither a separator nor anything an engine refuses, so
different components never give the same name: ``a/b`` is not ``a`` and ``b``, and none is not empty. base32hex keeps
the order of bytes, and of UTF-8 that is the order of code points, so where order matters the key has it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, TypeAlias
from uuid import UUID

from perdure.domain.container import Container, Space, user_of
from perdure.domain.kinds import Kind
from perdure.domain.route import RouteKey
from perdure.domain.versioned import prefix_end

NAME_CHARS_MAX: Final = 900  # a longer name is hashed; below what engines take, with room for what they put around it
NAMES_KNOWN_MAX: Final = 4_096  # partitions that a process need not name again, at a kilobyte or two each
POINTER_SHARDS: Final = 4  # partitions of one queue: changing it would lose what is announced in the others
FIRST: Final = "-"  # of the characters of names: a key and it are the very next key there can be
LAST: Final = "~"  # after every character that an encoded component holds

Holds: TypeAlias = Literal["log", "rows", "work"]
Range: TypeAlias = tuple[str, str]
"""Start (included) and end (not included) of a scan."""

_HASH_BYTES: Final = 16
_EPOCH_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)

HEADER: Final = "h"  # of a log
REGISTRY_VERSION: Final = "v"


# --- components ------------------------------------------------------------------------------------------------------


def encode(text: str) -> str:
    """The text in base32hex without padding, lower case: letters and digits only, in the order of its UTF-8 bytes."""
    return base64.b32hexencode(text.encode()).decode().rstrip("=").lower()


def decode(component: str) -> str:
    """The text that ``encode`` made this of. Raises ``ValueError`` for anything else."""
    text = base64.b32hexdecode(component.upper() + "=" * (-len(component) % 8)).decode()
    if encode(text) != component:
        raise ValueError("not the encoding of any text")
    return text


def join(*components: str | None) -> str:
    """One name of one or more components; None, empty and text are all different."""
    return ".".join("-" if component is None else encode(component) for component in components)


def hashed(*components: str | None) -> str:
    """128 bits of a name: where order means nothing, every name is short."""
    digest = hashlib.sha256(join(*components).encode()).digest()[:_HASH_BYTES]
    return base64.b32hexencode(digest).decode().rstrip("=").lower()


def prefix_range(stem: str, prefix: str) -> Range:
    """Every key that is ``stem`` and the encoding of a text that begins with ``prefix``."""
    end = prefix_end(prefix)
    return stem + encode(prefix), stem + (LAST if end is None else encode(end))


def after(sort: str) -> str:
    """Where a range begins that leaves out this key and nothing behind it."""
    return sort + FIRST


def _capped(name: str) -> str:
    # An encoded name holds no "~", so a hashed one is never another's.
    return name if len(name) <= NAME_CHARS_MAX else f"~{hashlib.sha256(name.encode()).hexdigest()}"


def partition(word: str, *components: str | None) -> str:
    """The name of a partition: a word for what is in it, and components, hashed if they are too long."""
    return f"{word}.{_capped(join(*components))}"


# A partition is named at every read and write, and base32 in Python takes longer than all the rest of one.
@lru_cache(maxsize=NAMES_KNOWN_MAX)
def known_partition(holds: Holds, container: Container) -> str:
    """The partition of a container, remembered."""
    return partition(holds, container.kind, *space_parts(container.space), *container.name)


def space_parts(space: Space) -> tuple[str | None, ...]:
    """What is of a space in every name."""
    return (space.tenant, space.mode, space.env, space.project, space.surface, space.app)


# --- logs ------------------------------------------------------------------------------------------------------------


def log_partition(log: Container) -> str:
    """One log, one partition."""
    return known_partition("log", log)


def gate_sort(epoch: int, version: int) -> str:
    """What an append requires to be there: the gate that was opened with this version of the header."""
    return f"g.{epoch:016d}.{version:016d}"


def entry_sort(epoch: int, sequence: int) -> str:
    """An entry, in the order of the numbers."""
    return f"e.{epoch:016d}.{sequence:019d}"


def entry_number(sort: str) -> int:
    """The number in an entry's key."""
    return int(sort.rpartition(".")[2])


def epoch_of(sort: str) -> int:
    """The epoch in the key of an entry, a marker or a gate."""
    return int(sort.split(".")[1])


def entry_range(epoch: int, *, first: int) -> Range:
    """The entries of an epoch from that number on."""
    return entry_sort(epoch, first), f"e.{epoch:016d}.{LAST}"


def epochs_before_range(epoch: int) -> Range:
    """All entries of all earlier epochs."""
    return "e.", f"e.{epoch:016d}."


def markers_before_range(epoch: int) -> Range:
    """All markers of all earlier epochs."""
    return "i.", f"i.{epoch:016d}."


def log_ranges() -> Sequence[Range]:
    """Everything of a log but its header and audit records: markers first, then entries in their order, and gates."""
    return (("i.", f"i.{LAST}"), ("e.", f"e.{LAST}"), ("g.", f"g.{LAST}"))


def marker_sort(epoch: int, entry_id: str) -> str:
    """Where the number of an entry is found by its id."""
    return f"i.{epoch:016d}.{encode(entry_id)}"


# --- rows ------------------------------------------------------------------------------------------------------------


def rows_partition(rows: Container) -> str:
    """One table or set of boards, one partition."""
    return known_partition("rows", rows)


def row_sort(key: str) -> str:
    """A row, in the byte order of the keys."""
    return f"r.{encode(key)}"


def row_key(sort: str) -> str:
    """The key of a row's sort key. Raises ``ValueError`` for what is none."""
    if not sort.startswith("r."):
        raise ValueError("not the sort key of a row")
    return decode(sort[2:])


def row_range(prefix: str = "") -> Range:
    """All rows whose keys begin with ``prefix``."""
    return prefix_range("r.", prefix)


def anchor_sort(anchor_id: str) -> str:
    """What says, in a partition of rows, that the name of the container was written down."""
    return f"n.{anchor_id}"


def anchor_range() -> Range:
    """All anchors of a partition."""
    return "n.", f"n.{LAST}"


# --- kept beside logs and rows ---------------------------------------------------------------------------------------


def audit_sort(audit_id: UUID) -> str:
    """An audit record, in the partition and the commit of what it is about."""
    return f"a.{audit_id}"


def audit_range() -> Range:
    """All audit records of a partition."""
    return "a.", f"a.{LAST}"


# --- the directory ---------------------------------------------------------------------------------------------------


def directory_partition(holds: Holds, kind: Kind, *, tenant: str, mode: str, env: str) -> str:
    """The names of all logs, or of all sets of rows, of one kind of one tenant."""
    return partition("dir", holds, kind, tenant, mode, env)


def directory_sort(container: Container) -> str:
    """A container's entry: user first, so that all of a user's are one range."""
    name = (container.kind, *space_parts(container.space), *container.name)
    return f"{directory_user(user_of(container))}{hashed(*space_parts(container.space))}.{hashed(*name)}"


def directory_user(user: str | None) -> str:
    """What the entries of a user, or of nobody (None), begin with."""
    return f"c.{'-' if user is None else hashed(user)}."


def directory_range(user: str | None) -> Range:
    """The entries of a user; of everybody and nobody for None."""
    stem = "c." if user is None else directory_user(user)
    return stem, stem + LAST


# --- routes ----------------------------------------------------------------------------------------------------------


def routes_partition(mode: str, env: str) -> str:
    """One registry, one partition: its version and all its routes change together."""
    return partition("routes", mode, env)


def route_sort(key: RouteKey) -> str:
    """A route."""
    return f"r.{_route(key)}"


def routes_range() -> Range:
    """All routes."""
    return "r.", f"r.{LAST}{LAST}"


def history_sort(key: RouteKey, version: int) -> str:
    """What happened to a route at this version."""
    return f"h.{_route(key)}.{version:010d}"


def history_range(key: RouteKey, *, after_version: int) -> Range:
    """The history of a route from the first version above ``after_version``."""
    return history_sort(key, after_version + 1), f"h.{_route(key)}.{LAST}"


def outbox_sort(registry_version: int) -> str:
    """The event of one change of the registry."""
    return f"o.{registry_version:019d}"


def outbox_range() -> Range:
    """All events that wait, oldest first."""
    return "o.", f"o.{LAST}"


def _route(key: RouteKey) -> str:
    # Two ids of 512 bytes do not fit a sort key; the order of routes means nothing, so a hash will do.
    return _capped(join(key.kind, key.tenant, key.project, key.surface))


# --- pointers --------------------------------------------------------------------------------------------------------


def pointer_partition(queue: str, mode: str, env: str, shard: int) -> str:
    """A part of what is due in one queue."""
    return partition("due", queue, mode, env, str(shard))


def pointer_shard(target: str) -> int:
    """Which part a target is announced in."""
    return hashlib.sha256(target.encode()).digest()[0] % POINTER_SHARDS


def pointer_sort(due_at: datetime, target: str) -> str:
    """A pointer, in the order of time."""
    return f"{_due(due_at)}.{hashed(target)}"


def pointer_range(until: datetime) -> Range:
    """Everything due at that moment or before."""
    return "p.", f"{_due(until)}.{LAST}"


def _due(moment: datetime) -> str:
    microseconds = (moment - _EPOCH_BEGINNING) // timedelta(microseconds=1)
    return f"p.{max(microseconds, 0):020d}"
