"""The command itself: what it prints where, its exit status, and how soon it is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perdure.cli.main import COMMANDS

PERDURE = [sys.executable, "-m", "perdure.cli.main"]
HEAVY = ("perdure.compose.plane", "psycopg", "rich.console")


def perdure(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PERDURE, *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def test_the_version_is_printed():
    found = perdure("--version")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("perdure ")


def test_help_names_every_command():
    found = perdure("--help")
    assert found.returncode == 0
    assert all(name in found.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "name", ["events", "migrate", "outbox", "pg", "relay", "routes", "runs", "signals", "tenants", "trace"]
)
def test_every_command_is_there_with_its_help(name: str):
    found = perdure(name, "--help")
    assert found.returncode == 0, found.stderr
    assert f"perdure {name}" in found.stdout


def test_misuse_is_2_and_a_refusal_is_1_with_one_line_on_stderr(tmp_path: Path):
    assert perdure("nonsense").returncode == 2
    assert perdure("runs", "list", "--limit", "0").returncode == 2
    refused = perdure("runs", "list", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("perdure: there is no plane under .perdure")
    assert list(tmp_path.iterdir()) == []  # looking creates nothing


def test_the_commands_own_modules_import_nothing_heavy():
    program = (
        "import sys; import perdure; before = set(sys.modules); import perdure.cli.main; "
        "print([name for name in sys.modules if name not in before and name in sys.argv[1:]])"
    )
    found = subprocess.run([sys.executable, "-c", program, *HEAVY], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
