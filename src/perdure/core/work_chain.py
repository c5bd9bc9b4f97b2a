"""Reading a history as evidence: entry by entry, each against the one before, until one is not as it was written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.core.work_asking import decoded
from perdure.domain.container import Space
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import HISTORY_PAGE_MAX, AttributeVersion, HistoryEntry, HistoryEvent
from perdure.domain.work_anchor import WorkAnchor
from perdure.domain.work_hash import HASH_SCHEME, HASH_SCHEME_KEYED, history_entry_hash, value_digest
from perdure.domain.work_results import AttributeDrift, DriftKind
from perdure.errors import Corrupt, Refused
from perdure.ports.work import WorkStore

SCHEMES: Final = frozenset({HASH_SCHEME, HASH_SCHEME_KEYED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What the history says of one version of an attribute, and where it says so."""

    digest: str | None
    scheme: str
    sequence: int
    actor_id: str | None
    recorded_at: datetime
    adopted: bool  # by a waiver, as it was found: who wrote it is not known
    earlier: tuple[Vouched, ...] = ()  # what it said before the waiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first entry of a chain that is not as it was written, or cannot be judged, and why."""

    first_bad: int
    reason: str


class Chain:
    """The history of one unit as far as it was read.

    ``broken`` is None while every entry is as it was written. ``unreadable`` says why some entries could not be
    verified here although nothing about them is wrong.
    """

    def __init__(self, unit_id: UUID, *, key: bytes | None, anchor: WorkAnchor | None = None) -> None:
        self.last: HistoryEntry | None = None
        self.broken: Break | None = None
        self.unreadable: Break | None = None
        self.vouched: dict[tuple[str, int], Vouched] = {}
        self.newest: dict[str, int] = {}
        self._unit_id = unit_id
        self._key = key
        self._anchor = anchor

    @property
    def entries(self) -> int:
        """How many entries are good."""
        return 0 if self.last is None else self.last.sequence

    @property
    def instance_id(self) -> str | None:
        """The instance that the history is of, if any of it is good."""
        return None if self.last is None else self.last.instance_id

    async def read(self, store: WorkStore, space: Space, *, timeout_s: float) -> None:
        """Read on to the end, or to the first bad entry."""
        try:
            async for entry in _entries(store, space, self._unit_id, after=self.entries, timeout_s=timeout_s):
                self.add(entry)
                if self.broken is not None:
                    return
        except Corrupt:
            await self._locate(store, space, timeout_s)
        anchor = self._anchor
        if self.broken is None and anchor is not None and self.entries < anchor.sequence:
            self._break(self.entries + 1, f"the anchor is of entry {anchor.sequence}, and the history ends before it")

    def add(self, entry: HistoryEntry) -> None:
        """Judge the next entry."""
        expected = self.entries + 1
        if entry.sequence != expected:
            self._break(expected, f"entry {expected} is missing; the next one is {entry.sequence}")
            return
        reason = self._wrong(entry)
        if reason is not None:
            self._break(expected, reason)
            return
        adopted = entry.event is HistoryEvent.CONSTITUTIONAL_WAIVER
        for change in entry.changes:
            known = self.vouched.get((change.key, change.version))
            self.vouched[change.key, change.version] = Vouched(
                digest=change.digest,
                scheme=entry.hash_scheme,
                sequence=entry.sequence,
                actor_id=entry.actor_id,
                recorded_at=entry.transition_timestamp,
                adopted=adopted,
                # Stores may keep a version twice, and only one of the two was changed.
                earlier=() if known is None else (known, *known.earlier),
            )
            self.newest[change.key] = change.version
        self.last = entry

    def drifted(self, versions: Sequence[AttributeVersion]) -> tuple[AttributeDrift, ...]:
        """The versions of attributes that are not what the history says, by key and version; none if they all are."""
        stored = {(version.key, version.version): version for version in versions}
        found = []
        for place in sorted(self.vouched.keys() | stored.keys()):
            drift = self._drift(place, self.vouched.get(place), stored.get(place))
            if drift is not None:
                found.append(self._with_previous(drift, stored))
        return tuple(found)

    def drifted_newest(self, attributes: Mapping[str, AttributeVersion]) -> tuple[AttributeDrift, ...]:
        """The same of attributes in their newest versions, by key: one that is not the newest has drifted too."""
        found = []
        for key in sorted(self.newest.keys() | attributes.keys()):
            stored, newest = attributes.get(key), self.newest.get(key)
            version = newest if stored is None else stored.version
            assert version is not None, "it is either stored or vouched for"
            drift = self._drift((key, version), self.vouched.get((key, version)), stored)
            if drift is None and stored is not None and stored.version != newest:
                drift = self._unvouched(stored)
            if drift is not None:
                found.append(drift)
        return tuple(found)

    def unreadable_after(self, versions: Sequence[AttributeVersion]) -> tuple[AttributeDrift, ...]:
        """The version that follows the last readable one, which is the one that cannot be read."""
        last = (versions[-1].key, versions[-1].version) if versions else ("", 0)
        following = min((place for place in self.vouched if place > last), default=None)
        if following is None:
            return ()
        key, version = following
        said = self.vouched[following]
        drift = AttributeDrift(
            key=key,
            kind=DriftKind.CHANGED,
            expected_version=version,
            expected_digest=said.digest,
            found_version=version,
            found_digest=None,
        )
        return (drift,)

    async def _locate(self, store: WorkStore, space: Space, timeout_s: float) -> None:
        """Find the entry that the store cannot read, one at a time."""
        while self.broken is None:
            try:
                following = await store.history(space, self._unit_id, after=self.entries, limit=1, timeout_s=timeout_s)
            except Corrupt:
                self._break(self.entries + 1, "the entry cannot be read: what is stored there is no entry")
                return
            if not following:
                return
            self.add(following[0])

    def _wrong(self, entry: HistoryEntry) -> str | None:
        last = self.last
        if entry.unit_id != self._unit_id:
            return "the entry is of another unit"
        if entry.previous_entry_hash != (None if last is None else last.entry_hash):
            return "the entry does not follow the one before it"
        if entry.hash_scheme not in SCHEMES:
            self._not_here(entry, "was hashed under a scheme that this release does not know")
        elif last is not None and last.hash_scheme == HASH_SCHEME_KEYED and entry.hash_scheme == HASH_SCHEME:
            return "the entry has no keyed hash, and the one before it has"
        elif entry.hash_scheme == HASH_SCHEME_KEYED and self._key is None:
            self._not_here(entry, "has a keyed hash, and this plane was opened without the key")
        elif self._hash(entry) != entry.entry_hash:
            return "the entry is not the one that was written: its hash does not fit"
        return self._not_anchored(entry)

    def _not_here(self, entry: HistoryEntry, reason: str) -> None:
        if self.unreadable is None:
            self.unreadable = Break(first_bad=entry.sequence, reason=f"entry {entry.sequence} {reason}")

    def _not_anchored(self, entry: HistoryEntry) -> str | None:
        anchor = self._anchor
        if anchor is None or anchor.sequence != entry.sequence:
            return None
        if anchor.entry_hash != entry.entry_hash:
            return "the entry is not the one that the anchor was taken of"
        if anchor.content_hash != entry.new_state_hash:
            return "the anchor is damaged, or not of this entry: its content hash is another"
        return None

    def _hash(self, entry: HistoryEntry) -> str | None:
        try:
            return history_entry_hash(entry, key=key_under(entry.hash_scheme, self._key))
        except Refused:  # what no entry of ours holds: a hash that is none, a text that is not Unicode
            return None

    def _break(self, first_bad: int, reason: str) -> None:
        self.broken = Break(first_bad=first_bad, reason=reason)

    def _drift(
        self, place: tuple[str, int], vouched: Vouched | None, stored: AttributeVersion | None
    ) -> AttributeDrift | None:
        key, version = place
        if vouched is None:
            assert stored is not None, "it is either stored or vouched for"
            return self._unvouched(stored)
        if stored is None:
            if vouched.adopted and vouched.digest is None:
                return None
            return self._differs(DriftKind.REMOVED, place, vouched, found=None, digest=None)
        digests = [self._vouches(one, stored) for one in (vouched, *vouched.earlier)]
        if any(digest is None for digest in digests):
            return None
        return self._differs(DriftKind.CHANGED, (key, version), vouched, found=stored, digest=digests[0])

    def _vouches(self, vouched: Vouched, stored: AttributeVersion) -> str | None:
        """None if it does, or cannot be asked here; the digest that was found instead."""
        if vouched.scheme not in SCHEMES or (vouched.scheme == HASH_SCHEME_KEYED and self._key is None):
            return None
        secret = key_under(vouched.scheme, self._key)
        digest = None if stored.value is None else value_digest(stored.value, key=secret)
        origin = (stored.sequence, stored.actor_id, stored.recorded_at)
        said = (vouched.sequence, vouched.actor_id, vouched.recorded_at)
        if digest == vouched.digest and (vouched.adopted or origin == said):
            return None
        return digest or ""

    def _differs(
        self,
        kind: DriftKind,
        place: tuple[str, int],
        vouched: Vouched,
        *,
        found: AttributeVersion | None,
        digest: str | None,
    ) -> AttributeDrift:
        return AttributeDrift(
            key=place[0],
            kind=kind,
            expected_version=place[1],
            expected_digest=vouched.digest,
            found_version=None if found is None else found.version,
            found_digest=digest or None,
            current=None if found is None else _value(found),
        )

    def _unvouched(self, stored: AttributeVersion) -> AttributeDrift:
        newest = self.newest.get(stored.key)
        said = None if newest is None else self.vouched[stored.key, newest]
        scheme = HASH_SCHEME if said is None else said.scheme
        return AttributeDrift(
            key=stored.key,
            kind=DriftKind.ADDED if said is None else DriftKind.CHANGED,
            expected_version=newest,
            expected_digest=None if said is None else said.digest,
            found_version=stored.version,
            found_digest=None if stored.value is None else value_digest(stored.value, key=key_under(scheme, self._key)),
            current=_value(stored),
        )

    def _with_previous(self, drift: AttributeDrift, stored: dict[tuple[str, int], AttributeVersion]) -> AttributeDrift:
        newest = self.newest.get(drift.key, 0)
        for version in range(newest, 0, -1):
            candidate, vouched = stored.get((drift.key, version)), self.vouched.get((drift.key, version))
            if candidate is None or vouched is None or candidate.value is None:
                continue
            if self._drift((drift.key, version), vouched, candidate) is None:
                return AttributeDrift(
                    key=drift.key,
                    kind=drift.kind,
                    expected_version=drift.expected_version,
                    expected_digest=drift.expected_digest,
                    found_version=drift.found_version,
                    found_digest=drift.found_digest,
                    previous=_value(candidate),
                    current=drift.current,
                )
        return drift


def key_under(scheme: str, key: bytes | None) -> bytes | None:
    """The key under which a scheme hashes: none for the plain one."""
    return key if scheme == HASH_SCHEME_KEYED else None


async def _entries(
    store: WorkStore, space: Space, unit_id: UUID, *, after: int, timeout_s: float
) -> AsyncIterator[HistoryEntry]:
    while True:
        page = await store.history(space, unit_id, after=after, limit=HISTORY_PAGE_MAX, timeout_s=timeout_s)
        for entry in page:
            yield entry
        if len(page) < HISTORY_PAGE_MAX:
            return
        after = page[-1].sequence


def _value(version: AttributeVersion) -> TypedValue:
    return decoded({version.key: version})[0].get(version.key)
