"""``perdure migrate`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from perdure.adapters.postgres.migration_files import released_migrations
from perdure.cli.commands.migrate import migrate
from perdure.compose.migrate import Target
from perdure.errors import Invalid
from tests.support.databases import Database

VERSIONS = [m.version for m in released_migrations()]


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(migrate)
    return CliRunner().invoke(app, arguments)


def test_up_then_status_then_down(empty_database: Database) -> None:
    dsn = empty_database.direct_dsn("superuser")
    done = run("--dsn", dsn, "--mode", "lab", "--env", "dev")
    assert done.exit_code == 0, done.output
    assert [int(line.split()[1]) for line in done.output.splitlines()] == VERSIONS
    assert run("--dsn", dsn).output == "the schema is up to date; nothing was applied\n"
    assert f"the schema is current: at {VERSIONS[-1]}" in run("--dsn", dsn, "--status").output
    undone = run("--dsn", dsn, "--down", "--to", str(VERSIONS[0]), "--json")
    assert [one["version"] for one in json.loads(undone.output)["migrations"]] == VERSIONS[:0:-1]
    status = json.loads(run("--dsn", dsn, "--status", "--json").output)
    assert (status["state"], status["applied"], status["pending"]) == ("older", VERSIONS[:1], VERSIONS[1:])


def test_verify_exits_1_and_names_the_difference(database: Database) -> None:
    dsn = database.direct_dsn("superuser")
    assert "nothing was changed by hand" in run("--dsn", dsn, "--verify").output
    database.query("GRANT INSERT ON perdure.runs TO perdure_app")
    found = run("--dsn", dsn, "--verify")
    assert (found.exit_code, "+relation runs: grants INSERT, SELECT to perdure_app" in found.output) == (1, True)
    told = json.loads(run("--dsn", dsn, "--verify", "--json").output)
    assert (told["ok"], told["state"]) == (False, "current")


def test_sql_prints_a_script_and_touches_nothing() -> None:
    printed = run("--sql", "--mode", "saas", "--env", "prod", "--to", str(VERSIONS[0]))
    assert printed.exit_code == 0
    assert str(VERSIONS[0]) in printed.output
    assert str(VERSIONS[1]) not in printed.output


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("--sql",), "say --mode and --env"),
        (("--down", "--dsn", "x"), "say how far"),
        (("--status", "--verify"), "say one of them"),
        (("--dsn", "x", "--data-dir", "y"), "say one of them"),
    ],
)
def test_what_is_missing_or_doubled_is_refused_with_advice(arguments: tuple[str, ...], advice: str) -> None:
    refused = run(*arguments)
    assert isinstance(refused.exception, Invalid)
    assert advice in str(refused.exception)


def test_the_embedded_database_needs_no_arguments_but_its_place(tmp_path: Path) -> None:
    place = ("--data-dir", str(tmp_path / "a place" / ".perdure"))
    assert len(json.loads(run(*place, "--json").output)["migrations"]) == len(VERSIONS)
    assert json.loads(run(*place, "--verify", "--json").output)["ok"] is True


def test_a_target_does_not_show_its_dsn() -> None:
    assert "secret" not in repr(Target(dsn="postgresql://owner:secret@localhost/ledger"))
