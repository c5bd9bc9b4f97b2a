"""What a plane promises of telemetry, over any backend: recorded without waiting, written in batches, read back."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from perdure.domain.kinds import Kind
from perdure.domain.telemetry import LogType, TelemetryEntry
from perdure.errors import BackendDown, CursorInvalid, Invalid, NoRoute
from perdure.testing.contracts.routed_opening import RoutedOpening, Town
from perdure.testing.routed import RoutedTenant
from perdure.testing.watched import failing

TELEMETRY = Kind.TELEMETRY


async def _all(tenant: RoutedTenant, **query: Any) -> list[TelemetryEntry]:
    found: list[TelemetryEntry] = []
    cursor: str | None = None
    while True:
        page = await tenant.telemetry.logs(after=cursor, **query)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


class TelemetryRecordingContract(RoutedOpening):
    """Through the routes of a tenant, buffered."""

    kinds: ClassVar[tuple[Kind, ...]] = (TELEMETRY,)

    async def test_what_is_recorded_is_written_in_one_batch_and_read_back_in_order(self, town: Town) -> None:
        mark = len(town.backend.calls)
        for number in range(5):
            assert town.acme.telemetry.record(
                instance_id="site-1",
                unit_id=f"unit-{number % 2}",
                log_type="GUARDIAN_DECISION" if number == 3 else LogType.TELEMETRY,
                event_details={"number": number, "deep": [{"a": None}]},
            )
        assert (town.acme.telemetry.stats().pending, await town.acme.telemetry.flush()) == (5, 5)
        assert town.calls_since(mark) == ["telemetry.write"]
        found = await _all(town.acme, limit=2)
        assert [entry.event_details["number"] for entry in found] == [0, 1, 2, 3, 4]
        assert [entry.unit_id for entry in await _all(town.acme, type="GUARDIAN_DECISION")] == ["unit-1"]
        newest = await town.acme.telemetry.logs(unit="unit-0", reverse=True)
        assert [entry.event_details["number"] for entry in newest] == [4, 2, 0]

    async def test_tenants_are_never_mixed_in_one_write(self, town: Town) -> None:
        await self.settle_in(town, "t_other")
        mark = len(town.backend.calls)
        for number in range(6):
            tenant = (town.acme, town.plane.tenant("t_other"), town.plane.tenant(town.tenant, project="p"))[number % 3]
            assert tenant.telemetry.record(instance_id="site-1", event_details=number)
        assert await town.plane.telemetry.flush() == 6
        assert town.calls_since(mark) == ["telemetry.write"] * 3
        assert [entry.event_details for entry in await _all(town.acme)] == [0, 3]
        assert [entry.event_details for entry in await _all(town.plane.tenant(town.tenant, project="p"))] == [2, 5]

    async def test_r76_a_store_that_is_away_loses_nothing_and_keeps_the_order(self, town: Town) -> None:
        for number in range(3):
            assert town.acme.telemetry.record(instance_id="site-1", event_details=number)
        town.backend.before = failing(BackendDown("nothing answers"), among="telemetry.write")
        for _ in range(4):
            with pytest.raises(BackendDown):
                await town.acme.telemetry.flush()
            stats = town.acme.telemetry.stats()
            assert (stats.pending, stats.in_flight, stats.flushed, stats.is_balanced) == (3, 0, 0, True)
        assert town.acme.telemetry.record(instance_id="site-1", event_details=3)
        town.backend.before = None
        assert await town.acme.telemetry.flush() == 4
        assert [entry.event_details for entry in await _all(town.acme)] == [0, 1, 2, 3]

    async def test_r78_an_answer_that_was_lost_leaves_each_entry_once(self, town: Town) -> None:
        for number in range(3):
            assert town.acme.telemetry.record(instance_id="site-1", unit_id="u", event_details=number)
        town.backend.after = failing(BackendDown("the line was cut"), among="telemetry.write", times=1)
        with pytest.raises(BackendDown):
            await town.acme.telemetry.flush()
        assert await town.acme.telemetry.flush() == 3
        for found in (await _all(town.acme), await _all(town.acme, unit="u")):
            assert [entry.event_details for entry in found] == [0, 1, 2]

    async def test_without_a_route_nothing_is_lost_and_it_says_so(self, town: Town) -> None:
        nobody = town.plane.tenant("t_nowhere")
        assert nobody.telemetry.record(instance_id="site-1")
        with pytest.raises(NoRoute) as caught:
            await nobody.telemetry.flush()
        assert caught.value.code == "telemetry.missing_route"
        assert nobody.telemetry.stats().pending == 1

    async def test_a_request_that_is_wrong_is_refused_before_anything_is_asked(self, town: Town) -> None:
        mark = len(town.backend.calls)
        wrong: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
            ({"type": "NOISE"}, Invalid),
            ({"after": "yesterday"}, CursorInvalid),
            ({"limit": 0}, Invalid),
            ({"unit": ""}, Invalid),
        )
        for query, error in wrong:
            with pytest.raises(error):
                await town.acme.telemetry.logs(**query)
        assert town.acme.telemetry.record(instance_id="") is False
        assert town.acme.telemetry.record(instance_id="site-1", log_type="NOISE") is False
        assert town.acme.telemetry.stats().refused == {"invalid": 2}
        assert town.calls_since(mark) == []
