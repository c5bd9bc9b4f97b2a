"""``perdure runs``, ``signals``, ``trace``, ``events`` and ``tenants`` on a real ledger."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app
from perdure.errors import Invalid, NotFound
from tests.support.databases import Database, run_apart
from tests.support.stories import ACTOR, Story, failure, plane_on, triage

ANA = "019ab000-0000-7000-8000-0000000000aa"
TRACE = """\
correlation ID, DURATION, 16 events
└── signal billing/msg-13 FAILED  API_CALL from agent:planner, id ID
    └── run invoice-triage FAILED  DURATION, BOOKING_REFUSED, id ID
        ├── 0 classify COMPLETED  12.5 ms, DECISION
        │   ├── tool ocr COMPLETED  7 ms
        │   └── effect SEND_EMAIL DEAD_LETTER  RUN_CANCELLED: the run ended before this was delivered, outbox ID
        ├── 1 book FAILED  DURATION, TOOL_SEQUENCE, the booking was refused
        │   └── tool erp FAILED  3 ms, account is closed
        └── checkpoint 0 (16 bytes) after event 9
"""


@pytest.fixture
def story(database: Database) -> Story:
    async def written() -> Story:
        async with plane_on(database) as plane:
            story = await failure(plane.scope("t_acme", actor=ACTOR))
            await triage(plane.scope("t_acme", actor=ACTOR), 14)
            return story

    return run_apart(written())


def perdure(database: Database, *words: str) -> Result:
    where = ["--dsn", database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
    return CliRunner().invoke(app, [*words, *where])


def printed(database: Database, *words: str) -> Any:
    result = perdure(database, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def normal(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"^(correlation ID), [^,]+,", r"\1, DURATION,", text)
    text = re.sub(r"(invoice-triage FAILED  )[^,]+", r"\1DURATION", text)
    return re.sub(r"(book FAILED  )[^,]+", r"\1DURATION", text)


def test_a_trace_is_a_readable_tree(database: Database, story: Story):
    shown = perdure(database, "trace", "billing/msg-13")
    assert shown.exit_code == 0, shown.output
    assert normal(shown.stdout) == TRACE
    assert "\x1b" not in shown.stdout
    with_events = perdure(database, "trace", str(story.mail.id), "--events").stdout
    assert with_events.startswith(shown.stdout.splitlines()[0])
    assert re.search(r"2 SIGNAL_PROCESSING_STARTED  caused by 1", with_events)


def test_a_trace_in_json_has_rows_events_and_durations(database: Database, story: Story):
    found = printed(database, "trace", str(story.run.id))
    assert found["correlation_id"] == str(story.run.correlation_id)
    assert [run["status"] for run in found["runs"]] == ["FAILED"]
    assert found["steps"][0]["duration_ms"] == 12.5
    assert len(found["events"]) == 16
    assert {"signals", "tool_calls", "effects", "outbox", "checkpoints", "duration_ms"} <= found.keys()


def test_runs_are_listed_page_by_page(database: Database, story: Story):
    first = printed(database, "runs", "list", "--limit", "1")
    second = printed(database, "runs", "list", "--limit", "1", "--cursor", first["next_cursor"])
    assert [run["status"] for run in (*first["items"], *second["items"])] == ["RUNNING", "FAILED"]
    assert second["next_cursor"] is None
    table = perdure(database, "runs", "list", "--status", "failed", "--since", "24h")
    assert table.stdout.splitlines()[0].split() == ["STARTED", "STATUS", "NAME", "STEPS", "EFFECTS", "TOOK", "ID"]
    assert table.stdout.splitlines()[1].endswith(str(story.run.id))
    nothing = perdure(database, "runs", "list", "--name", "nothing")
    assert (nothing.stdout, nothing.stderr) == ("", "no run is like that\n")
    more = perdure(database, "runs", "list", "--limit", "1")
    assert more.stderr == f"more: --cursor {first['next_cursor']}\n"


def test_a_run_is_shown_with_its_parts(database: Database, story: Story):
    shown = perdure(database, "runs", "show", str(story.run.id)).stdout
    assert "status       FAILED" in shown
    assert re.search(r"1 +FAILED +TOOL_SEQUENCE +book +1 .*the booking was refused", shown)
    assert re.search(r"SEND_EMAIL +DEAD_LETTER +0 +RUN_CANCELLED", shown)
    found = printed(database, "runs", "show", str(story.run.id))
    assert [len(found[part]["items"]) for part in ("steps", "tool_calls", "effects", "outbox", "checkpoints")] == [
        2, 2, 1, 1, 1,
    ]  # fmt: skip


@pytest.mark.usefixtures("story")
def test_signals_are_listed_by_status_and_age(database: Database):
    found = printed(database, "signals", "list", "--status", "PROCESSING")
    assert [signal["source_id"] for signal in found["items"]] == ["msg-14"]
    assert printed(database, "signals", "list", "--older-than", "1h")["items"] == []
    assert "billing/msg-13" in perdure(database, "signals", "list").stdout


@pytest.mark.usefixtures("story")
def test_the_log_is_shown_from_its_end_or_after_a_number(database: Database):
    last = printed(database, "events", "tail", "--limit", "2")["items"]
    assert [event["sequence_number"] for event in last] == [24, 25]
    first = printed(database, "events", "tail", "--after", "0", "--limit", "2")["items"]
    assert [event["event_type"] for event in first] == ["SIGNAL_RECEIVED", "SIGNAL_PROCESSING_STARTED"]
    line = perdure(database, "events", "tail", "--after", "2", "--limit", "1").stdout
    assert line.split()[:1] == ["3"]
    assert "RUN_STARTED" in line


@pytest.mark.usefixtures("story")
def test_a_follower_goes_on_until_it_is_interrupted_or_nobody_reads(database: Database):
    where = ["--dsn", database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
    command = [sys.executable, "-m", "perdure.cli.main", "events", "tail", "--follow", "--after", "0", "--json", *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert [json.loads(follower.stdout.readline())["sequence_number"] for _ in range(25)] == list(range(1, 26))
        follower.send_signal(signal.SIGINT)
        _, complaints = follower.communicate(timeout=60)
        assert (follower.returncode, complaints.strip()) in ((130, ""), (130, "Aborted."))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        follower.stdout.close()
        assert follower.wait(timeout=60) == 1
        assert follower.stderr.read() == ""


def test_tenants_and_members_are_administered(database: Database):
    def tenants(*words: str) -> Result:
        result = CliRunner().invoke(app, ["tenants", *words, "--dsn", database.direct_dsn("owner")])
        assert result.exit_code == 0, result.output
        return result

    assert tenants("add", "t_acme").stdout == "t_acme is there now\n"
    assert tenants("add", "t_acme").stdout == "t_acme was there already\n"
    assert json.loads(tenants("grant", ANA, "t_acme", "--role", "admin", "--json").stdout)["granted"] is True
    assert f"{ANA} (admin)" in tenants("list").stdout
    [listed] = json.loads(tenants("list", "--json").stdout)["items"]
    assert [member["user_id"] for member in listed["members"]] == [ANA]
    assert tenants("revoke", ANA, "t_acme").stdout == f"{ANA} is no member of t_acme any more\n"
    actors = database.query("SELECT DISTINCT actor FROM perdure.audit_trail")
    assert all(str(actor).startswith("user:") for (actor,) in actors)


@pytest.mark.usefixtures("story")
def test_what_cannot_be_found_or_read_is_refused_with_advice(database: Database):
    assert isinstance(perdure(database, "trace", ANA).exception, NotFound)
    assert isinstance(perdure(database, "runs", "show", "nonsense").exception, Invalid)
    assert isinstance(perdure(database, "runs", "list", "--since", "yesterday").exception, Invalid)
    without = CliRunner().invoke(
        app, ["runs", "list", "--dsn", database.direct_dsn("app"), "--mode", "lab", "--env", "dev"]
    )
    assert "--tenant" in str(without.exception)
