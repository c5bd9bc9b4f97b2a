"""Announcing what a commit of a unit makes true in other partitions: where it is listed, and what is to be done after.

What lists a unit or an entry of its history is written before the commit and judged by its readers, so it may be there
for nothing, but is never missing. Each listing names the commit that it was written for (a token), and the documents
in the unit's partition name theirs: a listing counts if the two agree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from perdure.adapters.documents import work_keys
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.pointers import GRACE_S
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.together import together
from perdure.adapters.documents.work_documents import Lease, Unfinished
from perdure.domain.container import Container, Space
from perdure.domain.kinds import Kind
from perdure.domain.work import HistoryEntry, WorkStatus, WorkUnit
from perdure.errors import Unavailable
from perdure.ports.documents import Expect, Put, Remove
from perdure.ports.patience import Patience

SPACES_KNOWN_MAX: Final = 10_000  # spaces that one process knows to be in the directory; a forgotten one costs a commit

Places: TypeAlias = Mapping[str, Sequence[str]]
"""Sort keys by partition."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a commit is about to do to a unit.

    ``begins`` says that the unit is made, ``lists`` that it has another status, ``leases`` that it has a lease for
    others to watch. ``unfinished`` is what will be left to do.
    """

    space: Space
    token: str
    unit: WorkUnit
    entries: Sequence[HistoryEntry]
    begins: bool = False
    lists: bool = False
    leases: bool = False
    unfinished: Unfinished | None = None


class WorkAnnouncing:
    """Writes listings before a commit, and takes them away after one."""

    def __init__(self, driver: ResilientDriver, *, mode: str, env: str) -> None:
        self._driver = driver
        self._directory = Directory(driver, holds="work", mode=mode, env=env)
        self._spaces: set[Space] = set()

    def new_token(self) -> str:
        """A name that no commit had."""
        return self._driver.environment.ids.new().hex

    def settled_at(self, patience: Patience) -> datetime:
        """When nobody waits any more for what is announced now."""
        return self._driver.environment.clock.now() + timedelta(seconds=patience.left_s + GRACE_S)

    async def announce(self, change: Change, *, patience: Patience) -> None:
        """Write every listing of a change, each partition in one commit, all at the same time."""
        puts: dict[str, list[Put]] = {}
        for name, sorts in places(change).items():
            puts[name] = [Put(sort=sort, version=1, body=b"{}", expect=Expect.ANY) for sort in sorts]
        beside = puts.setdefault(work_keys.space_partition(change.space), [])
        if change.unfinished is not None:
            body = msgspec.json.encode(change.unfinished)
            beside.append(Put(sort=_unfinished(change.unfinished), version=1, body=body, expect=Expect.ANY))
        if change.leases and change.unit.heartbeat_at is not None:
            settled_at = self.settled_at(patience)
            beside.append(self.lease_put(change.unit.heartbeat_at, change.unit.unit_id, settled_at=settled_at))
        calls = [
            partial(self._driver.commit, name, some, timeout_s=patience.left_s) for name, some in puts.items() if some
        ]
        if change.begins and change.space not in self._spaces:
            await self._note(change.space, patience=patience)
        await together(calls)

    def lease_put(self, moment: datetime, unit_id: UUID, *, settled_at: datetime) -> Put:
        """What announces that a lease is to be looked at once its heartbeat is older than that."""
        return Put(
            sort=work_keys.listing_sort(work_keys.LEASES, moment, unit_id),
            version=self._driver.new_version(),
            body=msgspec.json.encode(Lease(settled_at=settled_at)),
            expect=Expect.ANY,
        )

    async def withdraw(self, change: Change, *, patience: Patience) -> None:
        """Take away what was announced of a commit that is known not to have been done.

        Nobody is misled by what stays, so a failure is no more than a line in the log.
        """
        unfinished = [] if change.unfinished is None else [_unfinished(change.unfinished)]
        gone = add(places(change), work_keys.space_partition(change.space), unfinished)
        try:
            await self.remove(gone, patience=patience)
        except Unavailable as exc:
            _log.warning("what a commit announced that was not done stays behind (%s)", exc.code)

    async def remove(self, gone: Places, *, patience: Patience) -> None:
        """Remove documents, whether or not they are there."""
        await together(
            [
                partial(
                    self._driver.commit,
                    name,
                    [Remove(sort=sort, expect=Expect.ANY) for sort in sorts],
                    timeout_s=patience.left_s,
                )
                for name, sorts in gone.items()
                if sorts
            ]
        )

    async def remove_unfinished(
        self, space: Space, unfinished: Unfinished, gone: Places, *, patience: Patience
    ) -> None:
        """Remove what is left of a change, and with it the word that something is."""
        name = work_keys.space_partition(space)
        await self.remove(add(gone, name, [_unfinished(unfinished)]), patience=patience)

    async def _note(self, space: Space, *, patience: Patience) -> None:
        """Write down that the space keeps units; whoever copies or erases them finds it by that."""
        container = Container(kind=Kind.WORK, space=space, name=("units",))
        await self._directory.announce(container, timeout_s=patience.left_s)
        if len(self._spaces) >= SPACES_KNOWN_MAX:
            self._spaces.clear()
        self._spaces.add(space)


def places(change: Change) -> dict[str, list[str]]:
    """Where a change is listed."""
    unit, token = change.unit, change.token
    space = work_keys.space_partition(change.space)
    instance = work_keys.instance_partition(change.space, unit.instance_id)
    found: dict[str, list[str]] = {space: [], instance: []}
    made = unit.created_at, unit.unit_id
    if change.begins:
        sort = work_keys.listing_sort(work_keys.units_stem(None), *made, token)
        found = add(found, space, [sort])
        found = add(found, instance, [sort])
        if unit.parent_id is not None:
            child = work_keys.listing_sort(work_keys.children_stem(), *made, token)
            found = add(found, work_keys.unit_partition(change.space, unit.parent_id), [child])
    if change.lists:
        found = _union(found, listings(change.space, unit, [(unit.status, token)]))
    for entry in change.entries:
        found = _union(found, _entry_places(change.space, entry, token))
    return found


def listings(space: Space, unit: WorkUnit | Unfinished, some: Iterable[tuple[WorkStatus, str]]) -> Places:
    """Where a unit is listed by its status, for commits that announced it there."""
    sorts = [
        work_keys.listing_sort(work_keys.units_stem(status), unit.created_at, unit.unit_id, token)
        for status, token in some
    ]
    return {
        work_keys.space_partition(space): sorts,
        work_keys.instance_partition(space, unit.instance_id): list(sorts),
    }


def listings_for_good(space: Space, unit: Unfinished) -> Places:
    """Where a unit is listed whatever its status."""
    sort = work_keys.listing_sort(work_keys.units_stem(None), unit.created_at, unit.unit_id, unit.made)
    found = {
        work_keys.space_partition(space): [sort],
        work_keys.instance_partition(space, unit.instance_id): [sort],
    }
    if unit.parent_id is not None:
        child = work_keys.listing_sort(work_keys.children_stem(), unit.created_at, unit.unit_id, unit.made)
        found[work_keys.unit_partition(space, unit.parent_id)] = [child]
    return found


def add(found: Places, name: str, sorts: Sequence[str]) -> dict[str, list[str]]:
    """The same places, and more in one partition."""
    return _union(found, {name: sorts})


def _union(one: Places, other: Places) -> dict[str, list[str]]:
    return {name: [*one.get(name, ()), *other.get(name, ())] for name in {**one, **other}}


def _entry_places(space: Space, entry: HistoryEntry, token: str) -> Places:
    def sort(actor_id: str | None) -> str:
        stem = work_keys.history_stem(actor_id)
        place = entry.transition_timestamp, entry.history_id
        return work_keys.listing_sort(stem, *place, entry.unit_id.hex, str(entry.sequence), token)

    found = {
        work_keys.space_partition(space): [sort(None)],
        work_keys.instance_partition(space, entry.instance_id): [sort(None)],
    }
    if entry.actor_id is not None:
        found = add(found, work_keys.instance_partition(space, entry.instance_id), [sort(entry.actor_id)])
        found = add(found, work_keys.actor_partition(space, entry.actor_id), [sort(None)])
    return found


def _unfinished(unfinished: Unfinished) -> str:
    stem = work_keys.UNFINISHED
    return work_keys.listing_sort(stem, unfinished.settled_at, unfinished.unit_id, unfinished.token)
