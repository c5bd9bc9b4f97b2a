"""What a store of telemetry keeps, once each, and how it is read back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pytest

from perdure.domain.container import Space
from perdure.domain.telemetry import (
    ENTRY_BYTES_MAX,
    ID_CHARS_MAX,
    LOGS_PAGE_MAX,
    WRITE_ENTRIES_MAX,
    LogsQuery,
    LogType,
    TelemetryPage,
    TelemetryRecord,
)
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.backend import Backend
from perdure.ports.telemetry import TelemetryStore
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, StoreContract, new_id, new_space

WHEN: Final = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
DAY_MS: Final = 86_400_000


def record_of(
    *, log_type: LogType = LogType.TELEMETRY, entry_id: UUID | None = None, instance: str = "site-1", **fields: Any
) -> TelemetryRecord:
    """A record with as few words as a test needs."""
    given: dict[str, Any] = {
        "unit_id": None,
        "actor_id": None,
        "role_id": None,
        "interaction_id": None,
        "event_details": None,
        "error_metadata": None,
        "timestamp": WHEN,
    }
    return TelemetryRecord(
        entry_id=new_id() if entry_id is None else entry_id,
        instance_id=instance,
        log_type=log_type,
        **{**given, **fields},
    )


def days_later(entry_id: UUID, days: int) -> UUID:
    """An id of so many days later."""
    return UUID(int=entry_id.int + ((days * DAY_MS) << 80))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The telemetry of one space, as one client sees it."""

    store: TelemetryStore
    space: Space

    async def write(self, *records: TelemetryRecord) -> None:
        """One write."""
        await self.store.write(self.space, records, timeout_s=TIMEOUT_S)

    async def page(self, **query: Any) -> TelemetryPage:
        """One page."""
        return await self.store.logs(self.space, LogsQuery(**query), timeout_s=TIMEOUT_S)

    async def all(self, *, limit: int = 100, **query: Any) -> list[TelemetryRecord]:
        """All that a query finds, page after page."""
        found: list[TelemetryRecord] = []
        after: UUID | None = None
        while True:
            page = await self.page(limit=limit, after=after, **query)
            assert len(page.records) <= limit
            found += page.records
            after = page.next_after
            if after is None:
                return found


class TelemetryKeepingContract(StoreContract):
    """Writing is idempotent, reading goes by unit, instance and type, and a space is a space."""

    @pytest.fixture
    def trail(self, backend: Backend) -> Trail:
        """A space in which nothing happened yet."""
        assert backend.telemetry is not None
        return Trail(store=backend.telemetry, space=new_space())

    async def _rival(self, trail: Trail, open_another: OpenAnother) -> Trail:
        """The same trail in the hands of another client, if what that one writes is seen here at once."""
        other = await open_another()
        if other.capabilities.consistency != "strong":
            return trail
        assert other.telemetry is not None
        return replace(trail, store=other.telemetry)

    async def test_a_record_is_read_back_as_it_was_written(self, trail: Trail) -> None:
        full = record_of(
            log_type=LogType.GUARDIAN_DECISION,
            unit_id="unit/1 #\u00fc\U0001f600",
            actor_id="a" * ID_CHARS_MAX,
            role_id="role",
            interaction_id="i-9",
            event_details='{"matched":[1,2.5,null,"ü\\n"],"nested":{"deep":true}}'.encode(),
            error_metadata=b'"text"',
            timestamp=WHEN.astimezone(UTC),
        )
        bare = record_of()
        await trail.write(full, bare)
        assert await trail.all() == [full, bare]

    async def test_r78_a_batch_that_is_written_again_is_kept_once(
        self, trail: Trail, open_another: OpenAnother
    ) -> None:
        first = [record_of(unit_id=f"u{number % 3}") for number in range(7)]
        await trail.write(*first)
        more = [*first[3:], *(record_of(unit_id="u0") for _ in range(3)), first[0]]
        await (await self._rival(trail, open_another)).write(*more)
        await trail.write(*first)
        kept = {one.entry_id: one for one in (*first, *more)}
        assert await trail.all() == sorted(kept.values(), key=lambda one: one.entry_id)
        assert len(await trail.all(unit_id="u0")) == 3 + 3

    async def test_logs_are_found_by_unit_by_instance_by_type_and_by_both(self, trail: Trail) -> None:
        kept = [
            record_of(
                instance=f"site-{number % 2}", unit_id=f"u{number % 3}" if number % 4 else None, log_type=log_type
            )
            for number, log_type in enumerate([*LogType] * 3)
        ]
        await trail.write(*kept)
        for query in (
            {"unit_id": "u1"},
            {"instance_id": "site-1"},
            {"log_type": LogType.ERROR},
            {"unit_id": "u2", "log_type": LogType.INTERACTION},
            {"instance_id": "site-0", "log_type": LogType.STATE_TRANSITION},
            {"unit_id": "u1", "instance_id": "site-1"},
            {"unit_id": "nobody"},
        ):
            expected = [one for one in kept if all(getattr(one, name) == value for name, value in query.items())]
            assert await trail.all(limit=2, **query) == expected, query
            assert await trail.all(limit=2, reverse=True, **query) == expected[::-1], query

    async def test_pages_go_on_across_days_in_both_directions(self, trail: Trail) -> None:
        first = new_id()
        days = [
            record_of(entry_id=days_later(first, day), unit_id="u", log_type=[*LogType][day % 5]) for day in range(9)
        ]
        await trail.write(*days[4:])
        await trail.write(*days[:4])
        queries: tuple[dict[str, Any], ...] = ({}, {"unit_id": "u"}, {"instance_id": "site-1"})
        for query in queries:
            for limit in (1, 4, 100):
                assert await trail.all(limit=limit, **query) == days
                assert await trail.all(limit=limit, reverse=True, **query) == days[::-1]
        rest = await trail.page(limit=3, after=days[4].entry_id)
        assert ([*rest.records], rest.next_after) == (days[5:8], days[7].entry_id)
        between = await trail.page(limit=9, after=UUID(int=days[4].entry_id.int + 1), reverse=True)
        assert [*between.records] == days[4::-1]

    async def test_a_page_of_exactly_what_there_is_is_the_last(self, trail: Trail) -> None:
        kept = [record_of() for _ in range(3)]
        await trail.write(*kept)
        assert await trail.page(limit=3) == TelemetryPage(records=tuple(kept), next_after=None)
        assert (await trail.page(limit=2)).next_after == kept[1].entry_id
        assert await trail.page(limit=3, after=kept[2].entry_id) == TelemetryPage(records=(), next_after=None)

    async def test_no_space_sees_another(self, trail: Trail) -> None:
        spaces = [
            trail.space,
            new_space(),
            replace(trail.space, project="other"),
            replace(trail.space, surface="s"),
            replace(trail.space, app="s"),
        ]
        shared = new_id()
        for number, space in enumerate(spaces):
            await replace(trail, space=space).write(record_of(entry_id=shared, unit_id="u", actor_id=f"agent-{number}"))
        for number, space in enumerate(spaces):
            mine = replace(trail, space=space)
            for found in (await mine.all(), await mine.all(unit_id="u")):
                assert [one.actor_id for one in found] == [f"agent-{number}"]
        with pytest.raises(Invalid):
            await replace(trail, space=replace(trail.space, env="prod")).write(record_of())

    async def test_many_writers_at_the_same_time_lose_nothing(self, trail: Trail, open_another: OpenAnother) -> None:
        rival = await self._rival(trail, open_another)
        batches = [[record_of(unit_id=f"u{batch % 2}") for _ in range(5)] for batch in range(6)]
        await asyncio.gather(
            *((trail, rival)[number % 2].write(*batch) for number, batch in enumerate([*batches, *batches]))
        )
        everything = sorted((one for batch in batches for one in batch), key=lambda one: one.entry_id)
        assert await trail.all() == everything

    async def test_what_a_write_and_a_page_may_hold_is_kept_at_the_edge_and_refused_beyond(self, trail: Trail) -> None:
        large = record_of(event_details=_text(ENTRY_BYTES_MAX - 2), error_metadata=b"{}", unit_id="large")
        await trail.write(large)
        assert await trail.all(unit_id="large") == [large]
        with pytest.raises(LimitExceeded, match="entry_bytes_max"):
            await trail.write(record_of(event_details=_text(ENTRY_BYTES_MAX), error_metadata=b"{}"))
        with pytest.raises(LimitExceeded, match="write_entries_max"):
            await trail.write(*[record_of()] * (WRITE_ENTRIES_MAX + 1))
        for limit, error in ((0, Invalid), (LOGS_PAGE_MAX + 1, LimitExceeded)):
            with pytest.raises(error):
                await trail.page(limit=limit)
        assert await trail.page(limit=LOGS_PAGE_MAX, unit_id="nobody") == TelemetryPage(records=(), next_after=None)
        await trail.write()


def _text(length: int) -> bytes:
    return b'"' + b"x" * (length - 2) + b'"'
