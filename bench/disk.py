"""How long the disk under the data directory takes to make one page durable, as the write-ahead log asks it to."""

from __future__ import annotations

import os
import time
from pathlib import Path

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
