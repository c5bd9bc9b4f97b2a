"""Every import contract in pyproject.toml holds, and each is seen to break on one planted import, alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
VERDICT = re.compile(r"^(?P<name>.+?) (?P<verdict>KEPT|BROKEN)(?: \(.*\))?$", re.MULTILINE)

# Contract id -> the module to plant in, and the import to plant. Each pair breaks its own contract and no other.
PLANTED = {
    "layers": ("perdure/ports/__init__.py", "import perdure.core"),
    "adapters-protected": ("perdure/cli/__init__.py", "import perdure.adapters.webhooks"),
    "adapters-independent": ("perdure/adapters/webhooks/__init__.py", "import perdure.adapters.postgres"),
    "domain-pure": ("perdure/domain/__init__.py", "import time"),
    "postgres-driver": ("perdure/core/__init__.py", "import psycopg"),
    "document-port": ("perdure/core/__init__.py", "import perdure.ports.documents"),
    "vendor-clients": ("perdure/core/__init__.py", "import boto3"),
    "http-client": ("perdure/core/__init__.py", "import httpx"),
}


def verdicts(source: Path) -> dict[str, str]:
    """Run import-linter over the package in ``source``; contract names to KEPT or BROKEN."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=source,
        # The copy, not the installed package, is what must be read.
        env={"PYTHONPATH": str(source), "PATH": "", "COLUMNS": "200", "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {match["name"]: match["verdict"] for match in VERDICT.finditer(run.stdout)}
    assert set(found) == {contract["name"] for contract in CONTRACTS}, run.stdout + run.stderr
    assert (run.returncode == 0) == ("BROKEN" not in found.values())
    return found


def test_every_contract_is_kept() -> None:
    assert {name for name, verdict in verdicts(SRC).items() if verdict != "KEPT"} == set()


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["id"])
def test_a_planted_import_breaks_its_contract_and_no_other(contract: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(SRC / "perdure", tmp_path / "perdure", ignore=shutil.ignore_patterns("__pycache__", "*.sql"))
    module, planted = PLANTED[contract["id"]]
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{planted}\n")

    broken = {name for name, verdict in verdicts(tmp_path).items() if verdict == "BROKEN"}

    assert broken == {contract["name"]}


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract["id"] for contract in CONTRACTS} == set(PLANTED)
