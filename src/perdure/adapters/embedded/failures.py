"""Operating-system errors and the server's own words become Perdure's errors here and nowhere else."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from perdure.errors import BackendDown, Forbidden, Invalid, NotFound, PerdureError, PersistenceError

if TYPE_CHECKING:
    from pathlib import Path

OUTPUT_LINES_MAX = 12
"""How many of a program's last lines an error quotes."""

_DISK_FULL = "free some space on that file system (or choose another with --data-dir) and try again"
_UNWRITABLE = "make it writable for this user or choose another with --data-dir"


def from_os_error(exc: OSError, *, doing: str, path: Path) -> PerdureError:
    """The error for ``exc``, met while ``doing`` something with ``path``: says what to do about it."""
    where = f"cannot {doing} {path}: {exc.strerror or exc}"
    facts: dict[str, Any] = {"path": str(path), "errno": exc.errno}
    match exc.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Forbidden(f"{where}; {_UNWRITABLE}", code="unwritable", **facts)
        case errno.ENOSPC | errno.EDQUOT:
            return PersistenceError(f"{where}; {_DISK_FULL}", code="disk_full", **facts)
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR | errno.ENAMETOOLONG:
            return Invalid(f"{where}; name another path", code="invalid_path", **facts)
        case errno.ENOENT:
            return NotFound(f"{where}; check the path", code="path_not_found", **facts)
        case _:
            return PersistenceError(where, **facts)


def from_output(output: str, *, doing: str, path: Path) -> PerdureError:
    """The error for a PostgreSQL program that gave up while ``doing`` something, judged by its ``output``.

    The programs run with ``LC_MESSAGES=C``, so that their words can be compared.
    """
    lines = last_lines(output)
    said = f"; it said:\n{lines}" if lines else " and said nothing"
    facts: dict[str, Any] = {"path": str(path), "output": lines}
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return PersistenceError(f"{doing} failed: the disk is full; {_DISK_FULL}{said}", code="disk_full", **facts)
    if "Permission denied" in output or "Read-only file system" in output:
        return Forbidden(f"{doing} failed: {path} is not writable; {_UNWRITABLE}{said}", code="unwritable", **facts)
    if "lock file" in output and "already exists" in output:
        return Forbidden(
            f"{doing} failed: a server that Perdure did not start runs on {path}; stop it and try again{said}",
            code="foreign_server",
            **facts,
        )
    return BackendDown(f"{doing} failed{said}", **facts)


def last_lines(output: str) -> str:
    """The last ``OUTPUT_LINES_MAX`` lines of ``output`` that are not empty."""
    return "\n".join([line for line in output.splitlines() if line.strip()][-OUTPUT_LINES_MAX:])
