"""Where units of work are: their partitions, and the sort keys in them. See ``perdure.adapters.documents.keys``.

A listing is a document that says where to look, in a partition other than what it lists. Its key ends with who
announced it, so that one of a commit that failed is never taken for one of a commit that came through.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.adapters.documents import keys
from perdure.domain.container import Space
from perdure.ports.work_rules import place_mark

UNIT: Final = "u"
ATTRIBUTES: Final = "v"  # the newest versions
LEASES: Final = "l."  # what announcements of leases begin with, and those of what may be left half done
UNFINISHED: Final = "p."

SEQUENCE_MAX: Final = 10**19 - 1  # of the digits in a key; no unit lives so long

_FIRST_ID: Final = UUID(int=0)


def unit_partition(space: Space, unit_id: UUID) -> str:
    """One unit, one partition: the unit, its attributes, its history, and the marks of its children."""
    return keys.partition("work", *keys.space_parts(space), str(unit_id))


def space_partition(space: Space) -> str:
    """What lists the units of a space, their history and their leases."""
    return keys.partition("works", "space", *keys.space_parts(space))


def instance_partition(space: Space, instance_id: str) -> str:
    """What lists the units of an instance, and their history."""
    return keys.partition("works", "instance", *keys.space_parts(space), instance_id)


def actor_partition(space: Space, actor_id: str) -> str:
    """What lists the history of an actor."""
    return keys.partition("works", "actor", *keys.space_parts(space), actor_id)


def entry_sort(sequence: int) -> str:
    """A history entry, in the order of the numbers; there are none below 1, nor above what the key holds."""
    return f"e.{min(max(sequence, 0), SEQUENCE_MAX):019d}"


def entry_range(*, above: int, below: int | None = None) -> keys.Range:
    """The history entries above one number, and below another."""
    return entry_sort(above + 1), f"e.{keys.LAST}" if below is None else entry_sort(below)


def version_sort(life: int, key: str, version: int) -> str:
    """A version of an attribute, in the order of key and version. A unit made again has another life."""
    return f"t.{life:016d}.{keys.encode(key)}.{version:019d}"


def version_of(sort: str) -> tuple[str, int]:
    """The key and version in the sort key of a version. Raises ``ValueError`` for what is none."""
    _, _, key, version = sort.split(".")
    return keys.decode(key), int(version)


def version_range(life: int) -> keys.Range:
    """All versions of all attributes of a life."""
    return f"t.{life:016d}.", f"t.{life:016d}.{keys.LAST}"


def request_sort(life: int, request_id: str) -> str:
    """What says that a request was done."""
    return f"q.{life:016d}.{keys.hashed(request_id)}"


def request_range(life: int) -> keys.Range:
    """All requests of a life."""
    return f"q.{life:016d}.", f"q.{life:016d}.{keys.LAST}"


def child_sort(life: int, child_id: UUID, child_life: int) -> str:
    """What a parent, in a life of its own, counts of a child; one that was made again is another one."""
    return f"c.{life:016d}.{child_id.hex}.{child_life:016d}"


def children_stem() -> str:
    """What the listing of a child begins with, in its parent's partition."""
    return "k."


def units_stem(status: str | None) -> str:
    """What the listing of a unit begins with: by its status, or (None) whatever that is."""
    return "a." if status is None else f"s.{keys.encode(status)}."


def history_stem(actor_id: str | None) -> str:
    """What the listing of a history entry begins with: by its actor, or (None) whoever that is."""
    return "h." if actor_id is None else f"b.{keys.hashed(actor_id)}."


def listing_sort(stem: str, moment: datetime, row_id: UUID, *rest: str) -> str:
    """A listing in the order of time and id; ``rest`` says what it lists and who announced it."""
    return ".".join((stem + place_mark(moment, row_id), *rest))


def listing_of(sort: str, stem: str) -> Sequence[str]:
    """The mark of a place, and the rest, of a listing."""
    return sort.removeprefix(stem).split(".")


def listing_range(stem: str, *, since: datetime | None, until: datetime | None, mark: str | None) -> keys.Range:
    """The listings from one moment, up to another, and after a mark."""
    start = stem if since is None else stem + place_mark(since, _FIRST_ID)
    end = stem + keys.LAST if until is None else stem + place_mark(until, _FIRST_ID)
    return (start if mark is None else max(start, stem + mark + keys.LAST)), end
