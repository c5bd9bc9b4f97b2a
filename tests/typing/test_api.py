"""The types of the public API are part of it: mypy agrees with api.py, and would not with anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API = ROOT / "tests" / "typing" / "api.py"

pytestmark = pytest.mark.fast


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_mypy_sees_the_promised_types() -> None:
    checked = mypy(API)

    assert checked.returncode == 0, checked.stdout


def test_mypy_would_see_another_type(tmp_path: Path) -> None:
    planted = tmp_path / "api.py"
    text = API.read_text(encoding="utf-8")
    planted.write_text(text.replace("acme.trace(run.correlation_id), Trace)", "acme.trace(run.correlation_id), str)"))

    checked = mypy(planted)

    # One in each colour: the awaited one and the plain one.
    assert checked.returncode == 1
    assert checked.stdout.count("[assert-type]") == 2, checked.stdout
