"""``perdure turns purge``, ``hold``, ``release``, ``holds`` and ``perdure objects gc``, on a database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app
from perdure.domain.turn import INLINE_BYTES_MAX, content_hash
from perdure.errors import Invalid, NotFound, PerdureError
from tests.support.databases import Database, run_apart
from tests.support.retained import TYPE_ID, record
from tests.support.stories import ACTOR, plane_on

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LARGE = b"x" * (INLINE_BYTES_MAX + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Somebody at the keyboard, and conversations: one that is over, one with a fork that is not, one to come."""

    database: Database
    over: str
    needed: str
    fork: str
    later: str

    def run(self, *words: str) -> Result:
        """``perdure`` with these words."""
        where = ["--dsn", self.database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
        return CliRunner().invoke(app, [*words, *where])

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
            acme = plane.scope("t_acme", actor=ACTOR)
            made: list[str] = []
            turns: list[str] = []
            for ends_at in (LONG_AGO, LONG_AGO + timedelta(days=1), datetime(2999, 1, 1, tzinfo=UTC)):
                context = await acme.turns.create()
                payload = record(ends_at, retention_class="chats")
                await acme.turns.append(context.context_id, payload, type_id=TYPE_ID)
                last = await acme.turns.append(context.context_id, LARGE + ends_at.isoformat().encode(), type_id="t")
                made.append(context.context_id)
                turns.append(last.turn_id)
            fork = await acme.turns.fork(turns[1])
            await acme.objects.put(b"mine")
            return Desk(database=database, over=made[0], needed=made[1], fork=fork.context_id, later=made[2])

    return run_apart(written())


def test_a_purge_says_what_went_and_what_stays_and_why(desk: Desk):
    told = desk.done("turns", "purge", "--dry-run")
    assert sorted(told.stdout.splitlines()) == sorted(
        [
            f"context {desk.over}: would be removed",
            f"context {desk.needed}: kept, because context {desk.fork} goes on from it",
        ]
    )
    assert told.stderr == "1 contexts would be removed, 1 kept\n"
    assert desk.printed("turns", "purge", "--before", "2020-01-01T00:00:00Z", "--dry-run")["removed"] == 1
    assert desk.printed("turns", "purge", "--before", "2019-12-31T00:00:00Z")["items"] == []
    done = desk.printed("turns", "purge")
    assert (done["dry_run"], done["removed"], done["kept"]) == (False, 1, 1)
    kept = {one["context_id"]: one for one in done["items"]}[desk.needed]
    assert (kept["outcome"], kept["reason"], kept["because"]) == ("kept", "fork", desk.fork)
    assert (kept["retention_class"], kept["expires_at"]) == ("chats", "2020-01-02T00:00:00Z")
    listed = {one["context_id"] for one in desk.printed("turns", "contexts")["items"]}
    assert listed == {desk.needed, desk.fork, desk.later}
    assert isinstance(desk.refusal("turns", "show", desk.over), NotFound)
    assert isinstance(desk.refusal("turns", "purge", "--before", "2999-01-01T00:00:00Z"), Invalid)


def test_a_hold_keeps_until_it_is_released_and_both_are_told(desk: Desk):
    assert desk.done("turns", "hold", desk.over, "--reason", "case 7").stdout.startswith(
        f"context {desk.over} is held since 20"
    )
    assert desk.printed("turns", "hold", "--class", "chats", "--reason", "audit")["retention_class"] == "chats"
    assert desk.done("turns", "purge").stderr == "0 contexts removed, 2 kept\n"
    assert desk.done("turns", "release", desk.over, "--reason", "closed").stdout == "released\n"
    assert desk.done("turns", "release", desk.over, "--reason", "closed").stdout == "it was not held\n"
    assert f"context {desk.over}: kept, because its class chats is held" in desk.done("turns", "purge").stdout
    held = desk.printed("turns", "holds")["items"]
    assert [(one["context_id"], one["retention_class"], one["lifted_because"]) for one in held] == [
        (None, "chats", None),
        (desk.over, None, "closed"),
    ]
    table = desk.done("turns", "holds").stdout
    assert "case 7" in table
    assert "class chats" in table
    assert desk.printed("turns", "release", "--class", "chats", "--reason", "closed") == {"released": True}
    assert desk.printed("turns", "purge")["removed"] == 1
    assert isinstance(desk.refusal("turns", "hold", desk.over, "--reason", "too late"), NotFound)
    assert isinstance(desk.refusal("turns", "hold", "--reason", "what?"), Invalid)


def test_garbage_is_collected_when_its_grace_is_over(desk: Desk):
    digest = content_hash(LARGE + LONG_AGO.isoformat().encode())
    desk.done("turns", "purge")
    assert desk.printed("objects", "gc") == {"dry_run": False, "removed": 0, "bytes": 0, "items": []}
    assert desk.database.query(
        "UPDATE perdure.objects SET created_at = created_at - interval '6 minutes' RETURNING true"
    )
    told = desk.done("objects", "gc", "--dry-run", "--grace", "5m")
    assert told.stdout == f"{digest}\n"
    assert told.stderr == f"1 objects ({len(LARGE) + 25} bytes) would be removed\n"
    done = desk.printed("objects", "gc", "--grace", "5m")
    assert [one["digest"] for one in done["items"]] == [digest]
    assert len(desk.printed("objects", "ls")["items"]) == 3
    assert desk.done("turns", "show", desk.fork).exit_code == 0
    for wrong in ("4m", "never", "999999999d"):
        assert isinstance(desk.refusal("objects", "gc", "--grace", wrong), Invalid)
