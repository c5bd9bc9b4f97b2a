"""What the runner refuses before it asks any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.adapters.postgres.migration_files import chosen, load_migrations, released_migrations
from perdure.errors import Invalid, Refused
from tests.migrations.tiny import ONE, THREE, TWO, write, write_three


def test_migrations_come_oldest_first_with_both_scripts(tmp_path: Path) -> None:
    loaded = load_migrations(write_three(tmp_path))
    assert [(m.version, m.name) for m in loaded] == [(ONE, "apples"), (TWO, "pears"), (THREE, "plums")]
    assert loaded[0].down_sql == "DROP TABLE perdure.apples;\n"


def test_line_ends_do_not_change_a_checksum_and_anything_else_does(tmp_path: Path) -> None:
    checksums = []
    for name, text in (("lf", "SELECT 1;\nSELECT 2;\n"), ("crlf", "SELECT 1;\r\nSELECT 2;\r\n"), ("not", "SELECT 1;")):
        directory = tmp_path / name
        directory.mkdir()
        (directory / f"{ONE}_a.up.sql").write_bytes(text.encode())
        (directory / f"{ONE}_a.down.sql").write_text("")
        checksums.append(load_migrations(directory)[0].checksum)
    assert checksums[0] == checksums[1] != checksums[2]


@pytest.mark.parametrize(
    "name",
    ["2026_short.up.sql", f"{ONE}_Upper.up.sql", f"{ONE}_a-b.up.sql", f"{ONE}_a.sql", f"{ONE}_.up.sql", "notes.sql"],
)
def test_a_misnamed_file_is_refused(tmp_path: Path, name: str) -> None:
    write_three(tmp_path)
    (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(Invalid, match=r"misnamed; expected YYYYMMDDHHMMSS_name"):
        load_migrations(tmp_path)


@pytest.mark.parametrize("missing", ["up", "down"])
def test_a_migration_needs_both_scripts(tmp_path: Path, missing: str) -> None:
    write_three(tmp_path)
    (tmp_path / f"{TWO}_pears.{missing}.sql").unlink()
    with pytest.raises(Invalid, match=f"no {missing} script"):
        load_migrations(tmp_path)


def test_two_migrations_may_not_share_a_version(tmp_path: Path) -> None:
    write_three(tmp_path)
    write(tmp_path, TWO, "quinces")
    with pytest.raises(Invalid, match="share a version"):
        load_migrations(tmp_path)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no migrations in"):
        load_migrations(tmp_path)


@pytest.mark.parametrize("statement", ["CREATE INDEX CONCURRENTLY i ON t (a);", "SELECT 1;\nvacuum t;"])
def test_what_cannot_run_in_a_transaction_is_refused(tmp_path: Path, statement: str) -> None:
    write(tmp_path, ONE, "a", up=statement)
    with pytest.raises(Invalid, match="cannot run in a transaction"):
        load_migrations(tmp_path)


@pytest.mark.parametrize(
    "statement",
    ["BEGIN;", "COMMIT;", "SELECT 1; -- x\n  commit;", "ROLLBACK", "END;", "SAVEPOINT a;", "SET ROLE postgres;",
     "/* a */ RESET ROLE;", "SET LOCAL ROLE perdure_app;", "SET SESSION AUTHORIZATION postgres;"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["up", "down"])
def test_the_transaction_and_the_role_belong_to_the_runner(tmp_path: Path, statement: str, way: str) -> None:
    write(tmp_path, ONE, "a", **{way: statement})
    with pytest.raises(Invalid, match="the runner owns the transaction"):
        load_migrations(tmp_path)


def test_words_in_comments_strings_names_and_bodies_are_not_statements(tmp_path: Path) -> None:
    up = """
    -- COMMIT; CONCURRENTLY
    /* VACUUM;
       COMMIT; */
    COMMENT ON TABLE perdure.a IS 'it''s; COMMIT; VACUUM';
    CREATE TABLE perdure."VACUUM; COMMIT;" (a int);
    SELECT E'it\\'s; COMMIT;';
    CREATE FUNCTION perdure.f() RETURNS void LANGUAGE plpgsql AS $body$
    BEGIN; PERFORM $$ ; COMMIT; $$; END; $body$;
    """
    write(tmp_path, ONE, "a", up=up)
    assert load_migrations(tmp_path)[0].up_sql == up


def test_a_version_to_go_to_must_exist(tmp_path: Path) -> None:
    loaded = load_migrations(write_three(tmp_path))
    assert chosen(loaded, to=None) == loaded
    assert chosen(loaded, to=TWO) == loaded[:2]
    assert chosen(loaded, to=0) == ()
    with pytest.raises(Refused, match=f"there is no migration 7; expected 0 or one of {ONE}"):
        chosen(loaded, to=7)


def test_the_released_migrations_are_runnable() -> None:
    assert [m.version for m in released_migrations()] == sorted({m.version for m in released_migrations()})
