"""``perdure work``: units are listed, shown and verified, anchored and swept; what is wrong makes the command fail."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app
from perdure.errors import Invalid, NotFound, PerdureError
from tests.support.databases import Database, run_apart
from tests.support.stories import ACTOR, plane_on

NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Somebody at the keyboard, an invoice that is ACTIVE, and a unit that is PENDING."""

    database: Database
    invoice: UUID
    other: UUID

    def run(self, *words: str) -> Result:
        """``perdure work`` with these words."""
        where = ["--dsn", self.database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
        return CliRunner().invoke(app, ["work", *words, *where])

    def done(self, *words: str) -> Result:
        """A command that succeeds."""
        result = self.run(*words)
        assert result.exit_code == 0, f"{result.output} {result.exception!r}"
        return result

    def printed(self, *words: str) -> Any:
        """The JSON document that it prints."""
        return json.loads(self.done(*words, "--json").stdout)

    def refusal(self, *words: str) -> PerdureError:
        """The error with which a command is refused."""
        result = self.run(*words)
        assert isinstance(result.exception, PerdureError), f"{result.output} {result.exception!r}"
        assert result.stdout == ""
        return result.exception


@pytest.fixture
def desk(database: Database) -> Desk:
    async def written() -> Desk:
        async with plane_on(database) as plane:
            work = plane.scope("t_acme", actor=ACTOR).work
            invoice = await work.create(
                instance="plant-7", schema="invoice/1", attributes={"amount": Decimal("12.50"), "note": "a\nb"}
            )
            invoice = await work.checkout(invoice, owner="worker-1")
            await work.save(invoice, attributes={"amount": Decimal(13)}, reasoning="corrected", actor_id="user:ann")
            other = await work.create(instance="plant-8", parent=invoice)
            return Desk(database=database, invoice=invoice.unit_id, other=other.unit_id)

    return run_apart(written())


def test_units_are_listed_by_status_instance_and_parent(desk: Desk):
    table = desk.done("list").stdout.splitlines()
    assert table[0].split()[:4] == ["UNIT", "INSTANCE", "SCHEMA", "STATUS"]
    assert [line.split()[0] for line in table[1:]] == [str(desk.invoice), str(desk.other)]
    for words, expected in (
        (("--status", "ACTIVE"), desk.invoice),
        (("--instance", "plant-8"), desk.other),
        (("--parent", str(desk.invoice)), desk.other),
    ):
        assert [unit["unit_id"] for unit in desk.printed("list", *words)["items"]] == [str(expected)]
    page = desk.printed("list", "--limit", "1")
    again = desk.printed("list", "--cursor", page["next_cursor"])
    assert [unit["unit_id"] for unit in again["items"]] == [str(desk.other)]
    assert "no units of work" in desk.done("list", "--status", "ARCHIVED").stderr
    assert isinstance(desk.refusal("list", "--status", "BANANA"), Invalid)


def test_a_unit_is_shown_with_its_attributes(desk: Desk):
    shown = desk.done("show", str(desk.invoice)).stdout
    assert "Decimal('13')" in shown
    assert "lease_owner" in shown
    document = desk.printed("show", str(desk.invoice))
    assert document["attributes"] == {"amount": {"$decimal": "13"}, "note": "a\nb"}
    assert document["unit"]["status"] == "ACTIVE"
    assert isinstance(desk.refusal("show", NOBODY), NotFound)
    assert isinstance(desk.refusal("show", "nonsense"), Invalid)


def test_history_is_shown_of_a_unit_or_of_all(desk: Desk):
    lines = desk.done("history", str(desk.invoice)).stdout.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["WORK_CREATED", "STATE_TRANSITION", "ATTRIBUTES_CHANGED"]
    newest = desk.printed("history", str(desk.invoice), "--limit", "1")["items"]
    assert [(entry["sequence"], entry["reasoning"]) for entry in newest] == [(3, "corrected")]
    assert len(desk.printed("history", "--since", "1h")["items"]) == 4
    assert len(desk.printed("history", "--actor", "user:ann", "--instance", "plant-7")["items"]) == 1
    assert "no history" in desk.done("history", "--until", "7d").stderr
    assert isinstance(desk.refusal("history", str(desk.invoice), "--actor", "user:ann"), Invalid)


def test_verifying_succeeds_and_an_anchor_is_kept(desk: Desk, tmp_path: Path):
    assert "OK" in desk.done("verify", str(desk.invoice)).stdout
    line = desk.done("anchor", str(desk.invoice)).stdout.strip()
    kept = tmp_path / "anchor.txt"
    kept.write_text(line + "\n", encoding="utf-8")
    assert desk.printed("verify", str(desk.invoice), "--anchor", f"@{kept}")["check"] == "OK"
    assert desk.printed("anchor", str(desk.invoice))["anchor"] == line
    cut = line.replace(":3:", ":4:")
    result = desk.run("verify", str(desk.invoice), "--anchor", cut, "--json")
    assert (result.exit_code, json.loads(result.stdout)["check"]) == (1, "CHAIN_BROKEN")
    assert json.loads(result.stdout)["first_bad"] == 4
    assert isinstance(desk.refusal("verify", str(desk.invoice), "--anchor", f"@{tmp_path}/none"), Invalid)
    assert isinstance(desk.refusal("verify", NOBODY), NotFound)


def test_drift_and_a_broken_chain_make_the_command_fail(desk: Desk):
    desk.database.query("ALTER TABLE perdure.work_history DISABLE TRIGGER USER")
    desk.database.query("ALTER TABLE perdure.work_units DISABLE TRIGGER USER")
    planted = """INSERT INTO perdure.work_attributes
        SELECT tenant_id, space_id, unit_id, key, version + 1, '99', sequence, actor_id, recorded_at
        FROM perdure.work_attributes WHERE key = 'note' RETURNING 1"""
    assert desk.database.query(planted) == [(1,)]
    result = desk.run("verify", str(desk.invoice))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].split()[:4] == ["note", "changed", "1", "2"]
    document = json.loads(desk.run("verify", str(desk.invoice), "--json").stdout)
    assert (document["check"], document["attributes"][0]["current"]) == ("DRIFT", 99)
    assert "DRIFT" in desk.run("anchor", str(desk.invoice)).stderr
    removed = "DELETE FROM perdure.work_history WHERE unit_id = %s AND sequence = 2 RETURNING 1"
    assert desk.database.query(removed, desk.invoice) == [(1,)]
    result = desk.run("verify", str(desk.invoice), "--json")
    assert (result.exit_code, json.loads(result.stdout)["first_bad"]) == (1, 2)


def test_a_keyed_unit_is_verified_with_the_reference_to_its_key(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERDURE_WORK_KEY", "k" * 32)
    words = ("verify", str(desk.invoice), "--key", "secret://env/PERDURE_WORK_KEY", "--json")
    result = desk.run(*words)
    assert (result.exit_code, json.loads(result.stdout)["check"]) == (1, "UNVERIFIED")
    error = desk.refusal("verify", str(desk.invoice), "--key", "k" * 32)
    assert isinstance(error, Invalid)
    assert "kkk" not in error.message


def test_a_sweep_says_what_it_did(desk: Desk):
    assert desk.printed("sweep") == {"zombied": [], "dead": [], "overdue": [], "missed": 0}
    assert "0 without a sign of life" in desk.done("sweep").stdout
    assert isinstance(desk.refusal("sweep", "--older-than-s", "0"), Invalid)
