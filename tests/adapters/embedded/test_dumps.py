"""A backup holds every row of every tenant, and a restore brings back every one."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import EmbeddedConfig, dumps
from perdure.errors import Conflict, DigestMismatch, Invalid, NotFound

SCHEMA = """
    CREATE SCHEMA ledger;
    CREATE TABLE ledger.events (tenant int, body text, PRIMARY KEY (tenant, body));
    ALTER TABLE ledger.events ENABLE ROW LEVEL SECURITY;
    ALTER TABLE ledger.events FORCE ROW LEVEL SECURITY;
    CREATE POLICY mine ON ledger.events USING (tenant = current_setting('app.tenant', true)::int);
    CREATE TABLE ledger."Odd (name)" (text text);
    CREATE TABLE ledger.empty (number int);
    GRANT USAGE ON SCHEMA ledger TO app;
    GRANT SELECT ON ledger.events TO app;
"""
ROWS = {"ledger.events": 60, 'ledger."Odd (name)"': 3, "ledger.empty": 0}


class EnoughError(Exception):
    """Raised by a listener who wants no more."""


def silent(_: str) -> None:
    """Hear nothing."""


@pytest.fixture
async def filled(config: EmbeddedConfig) -> AsyncIterator[EmbeddedConfig]:
    server = await embedded.join(config)
    async with await psycopg.AsyncConnection.connect(server.dsn("owner")) as owner:
        await owner.execute(SCHEMA)
        for tenant in (1, 2):
            await owner.execute("SELECT set_config('app.tenant', %s, true)", (str(tenant),))
            await owner.execute(
                "INSERT INTO ledger.events SELECT %s, E'two\nlines ' || n FROM generate_series(1, 30) n", (tenant,)
            )
        odd = ["\\.\n\\.", "x" * 3_000_000, "\\" * 1_048_575 + ".\n"]
        for text in odd:
            await owner.execute('INSERT INTO ledger."Odd (name)" VALUES (%s)', (text,))
    yield config
    await embedded.leave(server)


async def test_a_backup_holds_every_tenants_rows_and_a_restore_brings_them_back(filled: EmbeddedConfig, tmp_path: Path):
    told: list[str] = []
    target = tmp_path / "a backup.dump"
    report = await embedded.backup(filled, target, progress=told.append)
    assert report.rows == ROWS
    assert report.rows_total == 63
    assert report.size_bytes == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert 'dumping contents of table "ledger.events"' in told
    other = replace(filled, data_dir=tmp_path / "elsewhere")
    restored = await embedded.restore(other, target, progress=told.append)
    assert restored.rows == ROWS
    server = await embedded.join(other)
    async with await psycopg.AsyncConnection.connect(server.dsn("app")) as app:
        assert await (await app.execute("SELECT count(*) FROM ledger.events")).fetchone() == (0,)
        await app.execute("SELECT set_config('app.tenant', '2', true)")
        assert await (await app.execute("SELECT count(*) FROM ledger.events")).fetchone() == (30,)
    await embedded.leave(server)


async def test_neither_backup_nor_restore_overwrites(filled: EmbeddedConfig, tmp_path: Path):
    target = tmp_path / "kept.dump"
    await embedded.backup(filled, target, progress=silent)
    before = target.read_bytes()
    with pytest.raises(Conflict, match="never overwrites"):
        await embedded.backup(filled, target, progress=silent)
    assert target.read_bytes() == before
    with pytest.raises(Conflict, match="is not empty"):
        await embedded.restore(filled, target, progress=silent)


async def test_a_backup_that_fails_leaves_no_file(filled: EmbeddedConfig, tmp_path: Path):
    folder = tmp_path / "backups"
    folder.mkdir()

    def gives_up(sentence: str) -> None:
        if sentence.startswith("dumping contents"):
            raise EnoughError

    with pytest.raises(EnoughError):
        await embedded.backup(filled, folder / "b.dump", progress=gives_up)
    assert list(folder.iterdir()) == []


async def test_a_backup_to_a_place_that_is_not_there_is_refused(filled: EmbeddedConfig, tmp_path: Path):
    with pytest.raises(NotFound, match="check the path"):
        await embedded.backup(filled, tmp_path / "nowhere" / "b.dump", progress=silent)


async def test_what_is_no_backup_is_refused(config: EmbeddedConfig, tmp_path: Path):
    with pytest.raises(NotFound, match="there is no backup file"):
        await embedded.restore(config, tmp_path / "nothing", progress=silent)
    (tmp_path / "letter").write_text("dear reader")
    with pytest.raises(Invalid, match="custom format"):
        await embedded.restore(config, tmp_path / "letter", progress=silent)
    assert not config.data_dir.exists()


async def test_a_backup_cut_short_is_refused_and_the_database_stays_empty(filled: EmbeddedConfig, tmp_path: Path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    await embedded.backup(filled, whole, progress=silent)
    cut.write_bytes(whole.read_bytes()[:-200])
    other = replace(filled, data_dir=tmp_path / "elsewhere")
    with pytest.raises(DigestMismatch, match="is damaged"):
        await embedded.restore(other, cut, progress=silent)
    assert not other.data_dir.exists()
    await embedded.restore(other, whole, progress=silent)


def test_rows_that_do_not_arrive_are_noticed():
    with pytest.raises(DigestMismatch, match="a: 3 expected, 2 found, b: 1 expected, 0 found"):
        dumps._compare({"a": 3, "b": 1, "c": 0}, {"a": 2}, what="it", source="the file")
