"""The ledger's clock moves when a test says so, on every connection, and comes back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure.errors import Invalid
from perdure.testing.clock import DatabaseClock
from tests.support.databases import DIRECT, Database, engines

INSTANT = "SELECT perdure.instant() - clock_timestamp()"


@engines(*DIRECT)
async def test_time_moves_for_every_connection_and_adds_up(database: Database) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    await clock.advance(3600)
    await clock.advance(1800.5)
    assert clock.ahead_s == 5400.5
    ahead = database.query(INSTANT)[0][0]
    assert timedelta(seconds=5399) < ahead <= timedelta(seconds=5400.5)
    assert await clock.now() > database.query("SELECT clock_timestamp() + interval '89 minutes'")[0][0]


async def test_reset_gives_the_real_time_back(database: Database) -> None:
    clock = DatabaseClock(database.dsn("superuser"))
    before = database.query(
        "SELECT pg_get_functiondef('perdure.instant'::regproc), proowner, proacl FROM pg_proc "
        "WHERE oid = 'perdure.instant'::regproc"
    )
    await clock.advance(60)
    await clock.reset()
    after = database.query(
        "SELECT pg_get_functiondef('perdure.instant'::regproc), proowner, proacl FROM pg_proc "
        "WHERE oid = 'perdure.instant'::regproc"
    )
    assert after == before
    assert clock.ahead_s == 0


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
async def test_time_does_not_go_back_or_out_of_bounds(seconds: float) -> None:
    with pytest.raises(Invalid, match="finite number"):
        await DatabaseClock("host=unused").advance(seconds)


def test_the_clock_does_not_show_its_dsn() -> None:
    assert "secret" not in repr(DatabaseClock("postgresql://owner:secret@localhost/ledger"))
