"""A check that cannot fail checks nothing: each tool of ``make check`` is given something bad and must say so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADER = '"""A planted file."""\n\nfrom __future__ import annotations\n\n'


def run(tool: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(tool)
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """An empty copy of the house: the same configuration, no code."""
    (tmp_path / "src" / "perdure" / "domain").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "src" / "perdure" / "domain" / "ruff.toml", tmp_path / "src" / "perdure" / "domain")
    return tmp_path


BAD_LINES = [
    ("core.py", "import time\n\ntime.sleep(1)\n", "TID251"),
    ("core.py", "import uuid\n\nX = uuid.uuid4()\n", "TID251"),
    ("core.py", "import datetime\n\nX = datetime.datetime.now(datetime.UTC)\n", "TID251"),
    ("core.py", "from unittest.mock import patch\n\nX = patch\n", "TID251"),
    ("core.py", "X = 1\n\n\ndef public():\n    return X\n", "D103"),
    ("core.py", 'def run(*, shell: str) -> None:\n    """Run."""\n    eval(shell)\n', "S307"),
    ("domain/run.py", "import os\n\nX = os.getpid()\n", "TID251"),
    ("domain/run.py", "import logging\n\nX = logging\n", "TID251"),
    ("domain/run.py", "from uuid import uuid4\n\nX = uuid4()\n", "TID251"),
    ("domain/run.py", "import time\n\nX = time.monotonic()\n", "TID251"),
]


@pytest.mark.parametrize(("module", "lines", "rule"), BAD_LINES)
def test_ruff_finds_a_planted_line(house: Path, module: str, lines: str, rule: str) -> None:
    (house / "src" / "perdure" / module).write_text(HEADER + lines)

    found = run("ruff", "check", "--no-cache", "--output-format", "concise", ".", cwd=house)

    assert found.returncode == 1
    assert rule in found.stdout


def test_ruff_finds_a_missing_future_import(house: Path) -> None:
    (house / "src" / "perdure" / "core.py").write_text('"""A planted file."""\n\nX = 1\n')

    assert "I002" in run("ruff", "check", "--no-cache", ".", cwd=house).stdout


def test_what_the_domain_may_use_passes(house: Path) -> None:
    (house / "src" / "perdure" / "__init__.py").write_text(HEADER.strip() + "\n")
    (house / "src" / "perdure" / "domain" / "__init__.py").write_text(HEADER.strip() + "\n")
    (house / "src" / "perdure" / "domain" / "ids.py").write_text(
        HEADER + 'from uuid import UUID, uuid5\n\nX = uuid5(UUID(int=0), "a")\n'
    )

    found = run("ruff", "check", "--no-cache", "src", cwd=house)

    assert found.returncode == 0, found.stdout


def test_ruff_finds_a_file_that_is_not_formatted(house: Path) -> None:
    (house / "src" / "perdure" / "core.py").write_text(HEADER + "X = {'a' : 1}\n")

    assert run("ruff", "format", "--no-cache", "--check", ".", cwd=house).returncode == 1


def test_mypy_finds_a_planted_type_error(house: Path) -> None:
    bad = house / "src" / "perdure" / "core.py"
    bad.write_text(HEADER + "X: int = 'one'\n\n\ndef untyped(x):\n    return x\n")

    found = run("mypy", "--cache-dir", "/dev/null", "src", cwd=house)

    assert found.returncode == 1
    assert "[assignment]" in found.stdout
    assert "[no-untyped-def]" in found.stdout


def test_interrogate_finds_a_missing_docstring(house: Path) -> None:
    (house / "src" / "perdure" / "core.py").write_text(HEADER + "def public() -> None:\n    return None\n")

    found = run("interrogate", "--config", "pyproject.toml", "src", cwd=house)

    assert found.returncode == 1
