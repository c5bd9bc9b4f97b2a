"""How long the disk takes to make bytes durable, and a disk that takes longer than this one."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

from perdure.adapters.filesystem.file_ops import FileOps

SLOW_SYNC_S: Final = 0.001  # what a sync takes on the disk of a server in a cloud

_PAGE = b"\x5a" * 8192
_PAGES = 256
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the one


def sync_latencies_s(directory: Path, *, count: int) -> list[float]:
    """Seconds of ``count`` writes of one page, each followed by fdatasync, into a file that exists already."""
    path = directory / "fsync-probe"
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, _PAGE * _PAGES, 0)
        os.fsync(file)
        taken: list[float] = []
        for index in range(count):
            began = time.perf_counter()
            os.pwrite(file, _PAGE, index % _PAGES * len(_PAGE))
            _sync(file)
            taken.append(time.perf_counter() - began)
        return taken
    finally:
        os.close(file)
        path.unlink()


class StretchedFiles(FileOps):
    """Files of this disk, on which no sync takes less than ``SLOW_SYNC_S``."""

    def __init__(self) -> None:
        self._never = threading.Event()

    def sync(self, fd: int) -> None:
        """As it is, and then for as long as it should have taken."""
        ends = time.perf_counter() + SLOW_SYNC_S
        super().sync(fd)
        left_s = ends - time.perf_counter()
        if left_s > 0:
            self._never.wait(left_s)
