"""``perdure relay`` as a process: it delivers, stops when asked, and says what it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.databases import Database, run_apart
from tests.support.relaying import opened, request, statuses

PROGRAM = "import typer; from perdure.cli.commands.relay import relay; typer.run(relay)"
DELIVERER = """
import os, pathlib
async def send(delivery):
    with open(os.environ["DELIVERED"], "a") as lines:
        lines.write(delivery.idempotency_key + "\\n")
    return {"sent": True}
def not_async(delivery):
    pass
"""


def command(database: Database, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "--dsn", database.dsn("relay"), *arguments]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outgoing.py").write_text(DELIVERER)
    return tmp_path


def environ(folder: Path) -> dict[str, str]:
    return os.environ | {"DELIVERED": str(folder / "delivered")}


async def one_effect(database: Database) -> str:
    async with opened(database) as plane:
        _, (effect,) = await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
    return effect.idempotency_key


def test_draining_delivers_what_is_due_and_ends(database: Database, folder: Path) -> None:
    key = run_apart(one_effect(database))
    drain = command(database, "--drain", "--json", "--deliverer", "SEND_EMAIL=outgoing:send")
    done = subprocess.run(drain, cwd=folder, env=environ(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delivered"] == 1
    assert (folder / "delivered").read_text().split() == [key]
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]


def test_an_interrupt_lets_it_finish(database: Database, folder: Path) -> None:
    run = command(database, "--listen-dsn", database.dsn("relay"), "--deliverer", "*=outgoing:send", "--json")
    with subprocess.Popen(
        run, cwd=folder, env=environ(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert "delivers" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate()
    assert child.returncode == 0, errors
    assert json.loads(output)["delivered"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--deliverer", "SEND_EMAIL"], "expected TYPE=MODULE:FUNCTION"),
        (["--deliverer", "SEND_EMAIL=nowhere:send"], "No module named 'nowhere'"),
        (["--deliverer", "SEND_EMAIL=outgoing:not_async"], "not an async function"),
        (["--webhook-host", "acme.test"], "say --webhooks too"),
        (["--lease-s", "10", "--timeout-s", "20"], "within its lease"),
    ],
)
def test_what_cannot_work_is_said_and_exits_with_1(
    database: Database, folder: Path, arguments: list[str], says: str
) -> None:
    done = subprocess.run(
        command(database, "--drain", *arguments), cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
