"""Operating-system errors become Perdure's errors here and nowhere else in this adapter."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from perdure.errors import Forbidden, Invalid, PerdureError, PersistenceError


def from_os_error(exc: OSError, *, doing: str, path: Path) -> PerdureError:
    """The error for ``exc``, met while ``doing`` something with ``path``: says what to do about it."""
    where = f"cannot {doing} {path}: {exc.strerror or exc}"
    facts: dict[str, Any] = {"path": str(path), "errno": exc.errno}
    match exc.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Forbidden(f"{where}; make it writable for this user or choose another directory", **facts)
        case errno.ENOSPC | errno.EDQUOT:
            return PersistenceError(
                f"{where}; the disk is full: free some space on that file system and try again",
                code="disk_full",
                **facts,
            )
        case errno.ENOTDIR | errno.EISDIR | errno.ENAMETOOLONG | errno.ELOOP:
            return Invalid(f"{where}; name another directory", code="invalid_path", **facts)
        case _:
            return PersistenceError(f"{where}; look at the disk and at the system's log, then try again", **facts)
