"""Writing the files of a snapshot. Everything here blocks; its callers use a thread.

All is written into a directory beside the one that was asked for, which nobody else may enter, and renamed when it is
whole. Links are made last, so that nothing is ever written through one.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from perdure.errors import Forbidden, Invalid, NotFound, PersistenceError, Unsupported

MODE_MASK: Final = 0o777  # a snapshot of others may ask for setuid; nobody gets that
PARTIAL_PREFIX: Final = ".perdure-restore-"  # what a killed process leaves beside the directory

_Parts = tuple[str, ...]
_FILE_MODE: Final = 0o600
_OWN_MODE: Final = 0o700
_TREE: Final = "tree"


class Place:
    """Where a snapshot is written to."""

    def __init__(self, directory: str) -> None:
        self._name = ascii(directory)[:200]
        self._target = Path(directory)
        self._partial: Path | None = None
        self._folders: list[Path] = []

    def check(self) -> None:
        """Raise ``Invalid`` unless the directory that was asked for is new, or empty."""
        with self._translated():
            self._target = self._target.absolute()
            self._target.parent.stat()
            self._check_target()

    def prepare(self) -> None:
        """Make the directory beside."""
        with self._translated():
            self._partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=self._target.parent))
            self._tree.mkdir()

    def make_directories(self, directories: Iterable[_Parts]) -> None:
        """Make directories, each after the one that it is in."""
        with self._translated():
            for parts in directories:
                folder = self._tree.joinpath(*parts)
                folder.mkdir(mode=_OWN_MODE)
                self._folders.append(folder)

    def write(self, parts: _Parts, content: bytes, mode: int) -> None:
        """Write a file that is not there."""
        with self._translated():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._tree.joinpath(*parts), flags, _FILE_MODE)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                os.fchmod(fd, mode & MODE_MASK)

    def finish(self, links: Iterable[tuple[_Parts, bytes]], modes: Iterable[tuple[_Parts, int]]) -> None:
        """Make the links, give the directories their modes, and the whole its name."""
        with self._translated():
            for parts, target in links:
                self._tree.joinpath(*parts).symlink_to(os.fsdecode(target))
            # The deepest first: a directory that nobody may write to is not entered any more.
            for parts, mode in sorted(modes, key=lambda one: len(one[0]), reverse=True):
                self._tree.joinpath(*parts).chmod(mode & MODE_MASK)
            self._check_target()
            self._rename()

    def discard(self) -> None:
        """Remove what was written, if it has not got its name."""
        if self._partial is None:
            return
        with self._translated():
            for folder in self._folders:
                if folder.exists():
                    folder.chmod(_OWN_MODE)  # or what is in it cannot be removed
            shutil.rmtree(self._partial)

    def _rename(self) -> None:
        tree = self._tree
        try:
            tree.rename(self._target)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise Invalid(f"somebody else wrote to {self._name} meanwhile; name a new directory") from exc
        self._partial = None
        tree.parent.rmdir()

    @property
    def _tree(self) -> Path:
        assert self._partial is not None, "prepared"
        return self._partial / _TREE

    def _check_target(self) -> None:
        if self._target.is_symlink() or (self._target.exists() and not self._target.is_dir()):
            raise Invalid(f"{self._name} is there and no directory; expected a new directory, or an empty one")
        if self._target.is_dir():
            if any(self._target.iterdir()):
                raise Invalid(
                    f"directory {self._name} is not empty, and nothing is overwritten; name a new one, or an empty one"
                )
            if self._target.samefile(Path.cwd()):
                raise Invalid("the current directory cannot be replaced; name another one, or go up first")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ValueError as exc:
            raise Invalid(f"{self._name} is no path of a directory: {exc}") from exc
        except FileNotFoundError as exc:
            raise NotFound(
                f"the directory that {self._name} would be in is not there; make it first",
                resource="directory",
            ) from exc
        except FileExistsError as exc:
            raise Unsupported(
                f"two names of the snapshot are one name on the filesystem of {self._name}; restore it on one that "
                "tells letters apart"
            ) from exc
        except PermissionError as exc:
            raise Forbidden(f"{self._name} cannot be written by this user: {exc.strerror}") from exc
        except OSError as exc:
            raise PersistenceError(f"{self._name} cannot be written: {exc.strerror}") from exc
