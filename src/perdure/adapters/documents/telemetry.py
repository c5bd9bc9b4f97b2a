"""Telemetry over a document driver: a partition for each day of a space, an entry and two ways to it each.

::

    tel.<space>.<day>     e.<type>.<id>               the entry
                          i.<instance>.<type>.<id>    found by its instance
                          u.<unit>.<type>.<id>        found by its unit
    teldays.<space>       <e, i or u>.d.<day>         on which days there is something to be found

An entry and what leads to it are one commit. A day is written down before the first entry of it, so that none is ever
missing; one that is there for nothing costs a look. Days and ids are in the order of time, and so are pages.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from perdure.adapters.documents import telemetry_keys as keys
from perdure.adapters.documents.decoding import decoded
from perdure.adapters.documents.keys import LAST, after
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Space, check_place
from perdure.domain.telemetry import (
    LogsQuery,
    LogType,
    TelemetryPage,
    TelemetryRecord,
    check_logs_query,
    check_write,
    telemetry_container,
)
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    GET_DOCUMENTS_MAX,
    SCAN_DOCUMENTS_MAX,
    Document,
    Expect,
    Put,
)
from perdure.ports.patience import Patience

COMMITS_AT_ONCE: Final = 4  # of one write: more wait for the same partition on most engines
DAYS_KNOWN_MAX: Final = 20_000  # remembered as written down; a day is written down again if it was forgotten
DAYS_LOOK: Final = 16  # read at a time

_ALL: Final = "e"
_DAY_MS: Final = 86_400_000
_ID_MS_SHIFT: Final = 80  # below the milliseconds of an id of version 7
_ENTRY_OVERHEAD_BYTES: Final = 2_048  # the fields beside details and error, names and what engines add
_POINTER: Final = b"{}"
_ABSENT: Final = msgspec.Raw()
_LETTERS: Final = {
    LogType.INTERACTION: "i",
    LogType.TELEMETRY: "t",
    LogType.ERROR: "e",
    LogType.GUARDIAN_DECISION: "g",
    LogType.STATE_TRANSITION: "s",
}

Day: TypeAlias = "tuple[str, str]"


class _Kept(msgspec.Struct, omit_defaults=True):
    """An entry as a document holds it."""

    entry_id: UUID
    instance_id: str
    log_type: LogType
    timestamp: datetime
    unit_id: str | None = None
    actor_id: str | None = None
    role_id: str | None = None
    interaction_id: str | None = None
    event_details: msgspec.Raw = _ABSENT
    error_metadata: msgspec.Raw = _ABSENT


_DECODER: Final = msgspec.json.Decoder(_Kept)


class DocumentTelemetry:
    """A ``TelemetryStore`` of one (mode, env)."""

    def __init__(self, driver: ResilientDriver, *, mode: str, env: str) -> None:
        self._driver = driver
        self._mode = mode
        self._env = env
        self._known: OrderedDict[Day, None] = OrderedDict()

    async def write(self, space: Space, records: Sequence[TelemetryRecord], *, timeout_s: float) -> None:
        """As the port promises; each commit is whole, and an entry is found every way or not at all."""
        self._check(space)
        check_write(records)
        patience = self._driver.patience(timeout_s)
        await self._write_days(space, records, patience)
        gate = asyncio.Semaphore(COMMITS_AT_ONCE)

        async def commit(partition: str, writes: Sequence[Put]) -> None:
            """One commit, when there is room for it."""
            async with gate:
                await self._driver.commit(partition, writes, timeout_s=patience.left_s)

        commits = self._commits(space, records)
        outcomes = await asyncio.gather(*(commit(*one) for one in commits), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def logs(self, space: Space, query: LogsQuery, *, timeout_s: float) -> TelemetryPage:
        """As the port promises: day after day, a range for each type, merged."""
        self._check(space)
        check_logs_query(query)
        patience = self._driver.patience(timeout_s)
        holder = _holder(query)
        found: list[str] = []
        async for day in _Days(self._driver, space, holder, query, patience):
            found += await self._of_day(space, holder, day, query, query.limit + 1 - len(found), patience)
            if len(found) > query.limit:
                break
        wanted = found[: query.limit]
        next_after = keys.telemetry_id(wanted[-1]) if len(found) > query.limit else None
        records = await self._read(space, wanted, patience)
        if query.unit_id is not None and query.instance_id is not None:
            records = [record for record in records if record.instance_id == query.instance_id]
        return TelemetryPage(records=tuple(records), next_after=next_after)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _commits(self, space: Space, records: Sequence[TelemetryRecord]) -> list[tuple[str, list[Put]]]:
        commits: list[tuple[str, list[Put]]] = []
        open_commits: dict[int, tuple[list[Put], int]] = {}
        for record in {record.entry_id: record for record in records}.values():
            puts = self._puts(record)
            size_bytes = record.size_bytes + _ENTRY_OVERHEAD_BYTES
            day = _day(record.entry_id)
            writes, held_bytes = open_commits.get(day, ([], 0))
            if not writes or len(writes) + len(puts) > COMMIT_WRITES_MAX or held_bytes + size_bytes > COMMIT_BYTES_MAX:
                writes, held_bytes = [], 0
                commits.append((keys.telemetry_partition(space, day), writes))
            writes += puts
            open_commits[day] = (writes, held_bytes + size_bytes)
        return commits

    def _puts(self, record: TelemetryRecord) -> list[Put]:
        letter = _LETTERS[record.log_type]
        holders = [(_ALL, _body(record)), (keys.telemetry_holder("i", record.instance_id), _POINTER)]
        if record.unit_id is not None:
            holders.append((keys.telemetry_holder("u", record.unit_id), _POINTER))
        return [
            Put(
                sort=keys.telemetry_sort(holder, letter, record.entry_id),
                version=self._driver.new_version(),
                body=body,
                # Of the same id: the same entry, written again.
                expect=Expect.ANY,
            )
            for holder, body in holders
        ]

    async def _write_days(self, space: Space, records: Sequence[TelemetryRecord], patience: Patience) -> None:
        partition = keys.telemetry_days_partition(space)
        wanted: dict[Day, None] = {}
        for record in records:
            day = _day(record.entry_id)
            holders = [_ALL, keys.telemetry_holder("i", record.instance_id)]
            if record.unit_id is not None:
                holders.append(keys.telemetry_holder("u", record.unit_id))
            wanted |= {(partition, keys.telemetry_day_sort(holder, day)): None for holder in holders}
        new = [day for day in wanted if day not in self._known]
        for first in range(0, len(new), COMMIT_WRITES_MAX):
            some = new[first : first + COMMIT_WRITES_MAX]
            puts = [
                Put(sort=sort, version=self._driver.new_version(), body=_POINTER, expect=Expect.ANY) for _, sort in some
            ]
            await self._driver.commit(partition, puts, timeout_s=patience.left_s)
            self._known |= dict.fromkeys(some)
        for known in wanted:
            self._known.move_to_end(known)
        while len(self._known) > DAYS_KNOWN_MAX:
            self._known.popitem(last=False)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _of_day(
        self, space: Space, holder: str, day: int, query: LogsQuery, limit: int, patience: Patience
    ) -> list[str]:
        """The keys of the entries of a day, in order, at most ``limit``."""
        partition = keys.telemetry_partition(space, day)
        types = LogType if query.log_type is None else (query.log_type,)
        bounds = {"before" if query.reverse else "after": query.after}

        async def of_type(letter: str) -> list[Document]:
            """Those of one type."""
            start, end = keys.telemetry_range(holder, letter, **bounds)
            found: list[Document] = []
            more = True
            while more and len(found) < limit:
                page = await self._driver.scan(
                    partition,
                    start=start,
                    end=end,
                    limit=min(limit - len(found), SCAN_DOCUMENTS_MAX),
                    reverse=query.reverse,
                    timeout_s=patience.left_s,
                )
                found += page.documents
                more = page.more
                if more and query.reverse:
                    end = found[-1].sort
                elif more:
                    start = after(found[-1].sort)
            return found

        found = await asyncio.gather(*(of_type(_LETTERS[one]) for one in types))
        merged = sorted((document.sort for some in found for document in some), key=_sort_id, reverse=query.reverse)
        return merged[:limit]

    async def _read(self, space: Space, sorts: Sequence[str], patience: Patience) -> list[TelemetryRecord]:
        # What leads to an entry ends as the key of the entry does: type and id.
        places: dict[str, list[str]] = {}
        wanted = [f"{_ALL}.{'.'.join(sort.rsplit('.', 2)[1:])}" for sort in sorts]
        for sort in wanted:
            places.setdefault(keys.telemetry_partition(space, _day(keys.telemetry_id(sort))), []).append(sort)
        asked = [
            (partition, some[first : first + GET_DOCUMENTS_MAX])
            for partition, some in places.items()
            for first in range(0, len(some), GET_DOCUMENTS_MAX)
        ]
        answers = await asyncio.gather(
            *(self._driver.get(partition, some, timeout_s=patience.left_s) for partition, some in asked)
        )
        documents = {sort: document for answer in answers for sort, document in answer.items()}
        return [_record(documents[sort]) for sort in wanted if sort in documents]

    def _check(self, space: Space) -> None:
        check_place(telemetry_container(space), mode=self._mode, env=self._env)


class _Days:
    """The days on which there may be something that a query asks for, in its order."""

    def __init__(
        self, driver: ResilientDriver, space: Space, holder: str, query: LogsQuery, patience: Patience
    ) -> None:
        self._driver = driver
        self._partition = keys.telemetry_days_partition(space)
        self._stem = keys.telemetry_days(holder)
        self._reverse = query.reverse
        self._patience = patience
        self._start, self._end = self._stem, self._stem + LAST
        if query.after is not None:
            at = keys.telemetry_day_sort(holder, _day(query.after))
            self._start, self._end = (self._start, after(at)) if query.reverse else (at, self._end)
        self._found: list[int] = []
        self._more = True

    def __aiter__(self) -> _Days:
        return self

    async def __anext__(self) -> int:
        while not self._found:
            if not self._more:
                raise StopAsyncIteration
            page = await self._driver.scan(
                self._partition,
                start=self._start,
                end=self._end,
                limit=DAYS_LOOK,
                reverse=self._reverse,
                timeout_s=self._patience.left_s,
            )
            self._more = page.more
            self._found = [keys.telemetry_day(document.sort) for document in page.documents]
            if page.documents and self._reverse:
                self._end = page.documents[-1].sort
            elif page.documents:
                self._start = after(page.documents[-1].sort)
        return self._found.pop(0)


def _holder(query: LogsQuery) -> str:
    if query.unit_id is not None:
        return keys.telemetry_holder("u", query.unit_id)
    if query.instance_id is not None:
        return keys.telemetry_holder("i", query.instance_id)
    return _ALL


def _day(entry_id: UUID) -> int:
    return (entry_id.int >> _ID_MS_SHIFT) // _DAY_MS


def _sort_id(sort: str) -> str:
    return sort.rpartition(".")[2]


def _body(record: TelemetryRecord) -> bytes:
    return msgspec.json.encode(
        _Kept(
            entry_id=record.entry_id,
            instance_id=record.instance_id,
            log_type=record.log_type,
            timestamp=record.timestamp,
            unit_id=record.unit_id,
            actor_id=record.actor_id,
            role_id=record.role_id,
            interaction_id=record.interaction_id,
            event_details=_ABSENT if record.event_details is None else msgspec.Raw(record.event_details),
            error_metadata=_ABSENT if record.error_metadata is None else msgspec.Raw(record.error_metadata),
        )
    )


def _record(document: Document) -> TelemetryRecord:
    kept = decoded(_DECODER, document, what="an entry of telemetry")
    return TelemetryRecord(
        entry_id=kept.entry_id,
        instance_id=kept.instance_id,
        log_type=kept.log_type,
        unit_id=kept.unit_id,
        actor_id=kept.actor_id,
        role_id=kept.role_id,
        interaction_id=kept.interaction_id,
        event_details=bytes(kept.event_details) or None,
        error_metadata=bytes(kept.error_metadata) or None,
        timestamp=kept.timestamp,
    )
