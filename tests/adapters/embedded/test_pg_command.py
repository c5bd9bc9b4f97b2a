"""``perdure pg`` from the outside: what it prints, where, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from perdure.cli.commands.pg import app

RUN = CliRunner()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[str]:
    place = str(tmp_path / "a place" / ".perdure")
    yield place
    RUN.invoke(app, ["stop", "--force", "--data-dir", place])


def told(*words: str) -> dict[str, object]:
    result = RUN.invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_the_server_is_handled_by_hand(data_dir: str):
    where = ("--data-dir", data_dir)
    assert told("status", *where)["state"] == "not created"
    started = told("start", *where)
    assert (started["state"], started["held"], started["users"]) == ("running", True, [])
    assert told("status", *where) == started
    for role in ("owner", "app", "relay", "maintenance"):
        dsn = RUN.invoke(app, ["dsn", "--role", role, *where]).stdout.strip()
        assert "password" not in dsn.replace("passfile", "")
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT current_user, current_database()").fetchone()
            assert row == (f"perdure_{role}", "perdure")
    shown = RUN.invoke(app, ["status", *where]).stdout
    assert "runs until `perdure pg stop`" in shown
    assert told("stop", *where)["state"] == "stopped"


def test_a_backup_is_restored_from_the_command_line(data_dir: str, tmp_path: Path):
    file, other = str(tmp_path / "b.dump"), str(tmp_path / "other")
    told("start", "--data-dir", data_dir)
    with psycopg.connect(RUN.invoke(app, ["dsn", "--role", "owner", "--data-dir", data_dir]).stdout.strip()) as owner:
        owner.execute("CREATE SCHEMA kept CREATE TABLE numbers (n int)")
        owner.execute("INSERT INTO kept.numbers SELECT generate_series(1, 7)")
    assert told("backup", file, "--data-dir", data_dir)["rows"] == {"kept.numbers": 7}
    result = RUN.invoke(app, ["restore", file, "--data-dir", other])
    assert result.exit_code == 0, result.output
    assert "7 rows in 1 tables, all of them checked" in result.stdout
    assert told("status", "--data-dir", other)["state"] == "stopped"


def test_what_goes_wrong_is_said_on_the_error_output_with_status_1(data_dir: str):
    result = RUN.invoke(app, ["dsn", "--data-dir", data_dir])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "perdure pg start" in result.stderr
