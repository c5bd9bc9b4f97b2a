"""`tools/engines` leaves a machine alone that has everything, and says what it could not bring to one that has not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import engine_missing

ROOT = Path(__file__).parents[2]
NEEDED = ("bash", "env", "dirname", "cat")
RUNTIMES = ("java", "node", "gcc")


def machine(folder: Path, *programs: str) -> Path:
    """A folder for PATH that holds these programs, and so neither apt-get nor sudo."""
    folder.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found is not None, f"{name} is not on this machine"
        (folder / name).symlink_to(found)
    return folder


def run(engines: Path, path: Path, *, ci: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [engines], env={"PATH": str(path), "CI": ci}, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("ci", ["true", ""])
def test_what_is_installed_is_not_installed_again(tmp_path: Path, ci: str) -> None:
    if not (ROOT / "build" / "emulators" / "loopback.so").exists():
        engine_missing("what tools/engines installs", "run tools/engines")
    path = machine(tmp_path / "bin", *NEEDED, *RUNTIMES)
    # Somebody who asks a registry for anything here is answered with an error.
    (path / "npm").symlink_to(shutil.which("false") or "/bin/false")

    done = run(ROOT / "tools" / "engines", path, ci=ci)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_what_cannot_be_installed_is_an_error_in_ci_and_a_warning_elsewhere(tmp_path: Path, ci: str, code: int) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tree" / "tools")

    done = run(tmp_path / "tree" / "tools" / "engines", machine(tmp_path / "bin", *NEEDED), ci=ci)

    assert done.returncode == code
    assert "no apt-get to install with; wanted: " in done.stderr
    assert ("CI=true, so a missing engine is an error" in done.stderr) == (ci == "true")
    assert ("tests on the missing engines will be skipped" in done.stderr) == (ci != "true")
    assert not (tmp_path / "tree" / "build").exists()
