"""How logs end and begin again: trimming, clearing, expiry, erasing, and settings; alone, and among appends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure.domain.log import LogSettings, Position
from perdure.errors import Invalid, StaleVersion
from perdure.testing.contracts.logs_opening import LogsOpening, Shelf, entry, is_dense, outcomes
from perdure.testing.contracts.stores import audit

APPENDERS = 12
SETTLED_S = 3_600.0  # long after everything that was announced may have happened


class LogsLivesContract(LogsOpening):
    """What trimming, clearing, expiry, erasing and configuring promise."""

    # --- trimming ---

    async def test_trimming_removes_the_oldest_and_says_how_many(self, shelf: Shelf) -> None:
        await shelf.fill(10)
        assert await shelf.trim(4) == 3
        assert await shelf.trim(4) == 0
        assert await shelf.trim(0) == 0
        assert is_dense(await shelf.all(), first=4)
        assert await shelf.trim(6) == 2
        assert (await shelf.one_head()).earliest == 6
        assert await shelf.named("nothing").trim(5) == 0

    async def test_numbers_go_on_after_everything_was_trimmed(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(120)
        assert await shelf.trim(1_000_000) == 120
        head = await shelf.one_head()
        assert (head.sequence, head.earliest) == (120, 121)
        assert await shelf.all() == await shelf.all(reverse=True) == []
        assert list((await shelf.page(120)).entries) == []
        assert [one.sequence for one in await shelf.append(entry("n1"))] == [121]
        assert [one.sequence for one in await rival.append(entry("n2"), expected=121)] == [122]
        assert await shelf.ids() == ["n1", "n2"]

    async def test_trimming_by_time_removes_what_was_recorded_before(self, shelf: Shelf) -> None:
        await shelf.fill(3)
        await self.advance(60)
        await shelf.fill(2, first=4)
        moment = (await shelf.all())[3].recorded_at
        assert await shelf.trim(moment) == 3
        assert await shelf.trim(moment) == 0
        assert await shelf.ids() == ["e4", "e5"]
        assert await shelf.trim(moment + timedelta(days=1)) == 2
        assert await shelf.ids() == []
        with pytest.raises(Invalid):
            await shelf.trim(moment.replace(tzinfo=None))

    async def test_trimming_by_time_goes_through_many_pages(self, shelf: Shelf) -> None:
        await shelf.fill(1_200)
        await self.advance(60)
        await shelf.fill(1, first=1_201)
        assert await shelf.trim((await shelf.page(1_200)).entries[0].recorded_at) == 1_200
        assert await shelf.ids() == ["e1201"]

    async def test_an_id_that_was_trimmed_is_free(self, shelf: Shelf) -> None:
        await shelf.fill(3)
        await shelf.trim(3)
        (again,) = await shelf.append(entry("e1", b"[]"))
        assert (again.sequence, again.duplicate) == (4, False)
        position = await shelf.locate("e1")
        assert position is not None
        assert position.sequence == 4

    async def test_trimming_among_appends_leaves_no_gap(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(20)

        async def write(writer: int) -> list[int]:
            hands = (shelf, rival)[writer % 2]
            return [(await hands.append(entry(f"w{writer}-{n}")))[0].sequence for n in range(5)]

        async def trim() -> None:
            for before in (5, 15, 30, 50):
                await rival.trim(before)

        *written, _ = await asyncio.gather(*(write(writer) for writer in range(APPENDERS)), trim())
        numbers = sorted(number for many in written if many is not None for number in many)
        assert numbers == list(range(21, 21 + APPENDERS * 5))
        head = await shelf.one_head()
        assert head.sequence == 20 + APPENDERS * 5
        found = await shelf.all()
        assert is_dense(found, first=head.earliest)
        assert len(found) == head.sequence - head.earliest + 1

    # --- clearing ---

    async def test_clearing_begins_another_epoch_without_entries(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(60)
        await rival.fill(1, first=61)
        before = await shelf.one_head()
        assert await shelf.clear()
        head = await shelf.one_head()
        assert head.epoch > before.epoch
        assert (head.sequence, head.earliest, head.version) == (0, 1, 1)
        assert await shelf.all() == []
        assert await shelf.locate("e1") is None
        assert (await shelf.lost(Position(epoch=before.epoch, sequence=3))).reason == "unknown"
        assert [(one.sequence, one.epoch) for one in await rival.append(entry("e1", b"[]"))] == [(1, head.epoch)]
        assert await shelf.ids() == ["e1"]

    async def test_settings_stay_when_a_log_is_cleared(self, shelf: Shelf) -> None:
        settings = LogSettings(ttl_s=600, attributes=b'{"title":"one"}')
        await shelf.append(entry("e1"), settings=settings)
        await shelf.clear()
        assert (await shelf.one_head()).settings == settings

    async def test_clearing_a_log_that_is_not_there_says_so(self, shelf: Shelf) -> None:
        assert not await shelf.clear()
        assert await shelf.head() is None

    async def test_an_append_during_a_clearing_is_in_the_old_epoch_or_stays(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(30)

        async def write(writer: int) -> list[tuple[int, int, str]]:
            hands = (shelf, rival)[writer % 2]
            done = [(await hands.append(entry(f"w{writer}-{n}")))[0] for n in range(6)]
            return [(one.epoch, one.sequence, one.entry_id) for one in done]

        async def clear() -> None:
            for _ in range(3):
                assert await rival.clear()

        *written, _ = await asyncio.gather(*(write(writer) for writer in range(APPENDERS)), clear())
        head = await shelf.one_head()
        acknowledged = sorted(one for many in written if many is not None for one in many if one[0] == head.epoch)
        assert [(head.epoch, one.sequence, one.entry_id) for one in await shelf.all()] == acknowledged
        assert [number for _, number, _ in acknowledged] == list(range(1, len(acknowledged) + 1))

    # --- expiry ---

    async def test_a_log_past_its_sliding_lifetime_is_not_there(self, shelf: Shelf) -> None:
        await shelf.append(entry("e1"), settings=LogSettings(ttl_s=600))
        await self.advance(500)
        await shelf.append(entry("e2"))
        await self.advance(500)
        assert await shelf.ids() == ["e1", "e2"]
        await self.advance(101)
        await self._is_absent(shelf)

    async def test_a_log_past_its_end_is_not_there_however_busy_it_is(self, shelf: Shelf) -> None:
        await shelf.fill(1)
        ends_at = (await shelf.all())[0].recorded_at + timedelta(seconds=900)
        await shelf.configure(LogSettings(expires_at=ends_at))
        await self.advance(800)
        await shelf.append(entry("e2"))
        assert await shelf.ids() == ["e1", "e2"]
        await self.advance(101)
        await self._is_absent(shelf)

    async def test_an_append_after_expiry_begins_a_new_log(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.append(entry("e1"), entry("e2"), settings=LogSettings(ttl_s=600, attributes=b'{"a":1}'))
        before = await shelf.one_head()
        await rival.append(entry("e3"))
        await self.advance(601)
        with pytest.raises(StaleVersion):
            await shelf.append(entry("e1"), expected=3)
        (again,) = await shelf.append(entry("e1", b"[]"), expected=0)
        head = await shelf.one_head()
        assert (again.sequence, again.duplicate, again.epoch) == (1, False, head.epoch)
        assert head.epoch > before.epoch
        assert (head.settings, head.version) == (LogSettings(), 1)
        assert (await shelf.lost(Position(epoch=before.epoch, sequence=1))).reason == "unknown"
        assert [one.sequence for one in await rival.append(entry("e4"))] == [2]
        assert await rival.ids() == ["e1", "e4"]
        await self.advance(SETTLED_S)
        await shelf.sweep()
        assert await shelf.ids() == ["e1", "e4"]

    async def test_a_lifetime_that_another_client_set_holds_at_once(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(2)
        epoch = (await shelf.one_head()).epoch
        await rival.configure(LogSettings(expires_at=(await shelf.all())[0].recorded_at + timedelta(seconds=60)))
        await self.advance(61)
        (written,) = await shelf.append(entry("e3"))
        assert (written.sequence, written.epoch > epoch) == (1, True)
        assert await shelf.ids() == ["e3"]

    async def test_sweeping_removes_what_is_past_its_lifetime_and_nothing_else(self, shelf: Shelf) -> None:
        await shelf.sweep()
        others = [shelf.named(f"short-{number}") for number in range(3)]
        for other in others:
            await other.append(entry("e1"), settings=LogSettings(ttl_s=60))
        kept = shelf.named("long")
        await kept.append(entry("e1"), settings=LogSettings(ttl_s=100_000))
        busy = shelf.named("busy")
        await busy.append(entry("e1"), settings=LogSettings(ttl_s=5_000))
        await shelf.fill(1)
        await self.advance(SETTLED_S)
        await busy.append(entry("e2"))
        assert await shelf.store.sweep(limit=2, timeout_s=60) == 2
        assert await shelf.sweep() == 1
        assert await shelf.sweep() == 0
        assert {one.name for one in await shelf.containers()} == {shelf.log.name, kept.log.name, busy.log.name}
        await self.advance(SETTLED_S)
        assert await shelf.sweep() == 0
        await self.advance(SETTLED_S)
        assert await shelf.sweep() == 1
        assert {one.name for one in await shelf.containers()} == {shelf.log.name, kept.log.name}

    async def _is_absent(self, shelf: Shelf) -> None:
        assert await shelf.head() is None
        assert await shelf.find_page() is None
        assert await shelf.find_page(reverse=True) is None
        assert await shelf.locate("e1") is None
        assert await shelf.containers() == []
        assert await shelf.trim(100) == 0
        assert not await shelf.clear()
        with pytest.raises(StaleVersion):
            await shelf.configure(LogSettings(), if_version=1)

    # --- settings ---

    async def test_settings_have_versions(self, shelf: Shelf) -> None:
        await shelf.fill(2)
        settings = LogSettings(ttl_s=600, attributes=b'{"title":"two"}')
        head = await shelf.configure(settings)
        assert (head.version, head.settings, head.sequence) == (2, settings, 2)
        assert await shelf.one_head() == head
        assert (await shelf.configure(LogSettings(), if_version=2)).version == 3
        for wrong in (0, 2, 4):
            with pytest.raises(StaleVersion):
                await shelf.configure(settings, if_version=wrong)
        assert (await shelf.one_head()).settings == LogSettings()

    async def test_configuring_makes_a_log_that_is_not_there(self, shelf: Shelf) -> None:
        with pytest.raises(StaleVersion):
            await shelf.configure(LogSettings(), if_version=1)
        assert await shelf.head() is None
        settings = LogSettings(attributes=b'{"title":"one"}')
        head = await shelf.configure(settings, if_version=0)
        assert (head.version, head.sequence, head.earliest, head.settings) == (1, 0, 1, settings)
        assert await shelf.containers() == [shelf.log]
        assert await shelf.all() == await shelf.all(reverse=True) == []
        assert [one.sequence for one in await shelf.append(entry("e1"))] == [1]
        assert (await shelf.one_head()).settings == settings

    async def test_of_many_settings_over_the_same_version_one_is_kept(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(1)
        tried = await outcomes(
            *((shelf, rival)[n % 2].configure(LogSettings(ttl_s=600 + n), if_version=1) for n in range(APPENDERS))
        )
        assert sum(isinstance(one, StaleVersion) for one in tried) == APPENDERS - 1
        assert (await shelf.one_head()).version == 2

    # --- erasing ---

    async def test_an_erased_log_is_gone_with_its_name(self, shelf: Shelf, rival: Shelf) -> None:
        assert not await shelf.erase()
        await shelf.fill(120)
        await rival.fill(1, first=121)
        assert await shelf.erase()
        await self._is_absent(shelf)
        assert not await shelf.erase()
        assert [one.sequence for one in await rival.append(entry("e1"))] == [1]
        assert await rival.ids() == await shelf.ids() == ["e1"]
        assert await shelf.containers() == [shelf.log]

    async def test_an_append_during_an_erasing_is_gone_or_in_a_new_log(self, shelf: Shelf, rival: Shelf) -> None:
        await shelf.fill(30)

        async def write(writer: int) -> list[str]:
            hands = (shelf, rival)[writer % 2]
            done = [(await hands.append(entry(f"w{writer}-{n}")))[0] for n in range(6)]
            return [one.entry_id for one in done]

        await asyncio.gather(*(write(writer) for writer in range(APPENDERS)), rival.erase(), shelf.erase())
        await shelf.append(entry("last"))
        found = await shelf.all()
        assert is_dense(found)
        assert found[-1].entry_id == "last"
        ids = [one.entry_id for one in found]
        for writer in range(APPENDERS):  # what is left of each writer is the end of what it wrote
            mine = [one for one in ids if one.startswith(f"w{writer}-")]
            assert mine == [f"w{writer}-{n}" for n in range(6 - len(mine), 6)]
        assert await shelf.containers() == [shelf.log]

    # --- audit records ---

    async def test_audit_records_are_kept_with_what_they_tell_of(self, shelf: Shelf) -> None:
        assert await shelf.audits() == []
        await shelf.fill(1)
        now = (await shelf.all())[0].recorded_at
        records = [audit(shelf.log, name, now) for name in ("append", "configure", "trim", "clear")]
        await shelf.append(entry("e2"), record=records[0])
        await shelf.configure(LogSettings(ttl_s=60), record=records[1])
        await shelf.trim(2, record=records[2])
        await shelf.clear(record=records[3])
        assert await shelf.audits() == records
        assert await shelf.audits(limit=2) == records[:2]
        assert await shelf.audits(after=records[1].audit_id, limit=2) == records[2:]
        await self.advance(SETTLED_S)
        assert await shelf.sweep() == 1
        assert await shelf.audits() == records
        await shelf.erase()
        assert await shelf.audits() == []

    async def test_a_refused_change_leaves_no_audit_record(self, shelf: Shelf) -> None:
        await shelf.fill(1)
        record = audit(shelf.log, "append", (await shelf.all())[0].recorded_at)
        with pytest.raises(StaleVersion):
            await shelf.append(entry("e2"), expected=7, record=record)
        with pytest.raises(StaleVersion):
            await shelf.configure(LogSettings(), if_version=7, record=record)
        assert await shelf.audits() == []
