"""Pending entries on disk, so that a process that is killed loses at most what was recorded in the last moment.

A directory holds segments: files of JSON lines, each appended to by one process, which keeps it locked. A segment is
removed when all that stands in it is written. One that nobody has locked was left behind by a process that is gone; it
is written at the next start, up to its last whole line. Ids make it harmless that some of it was written before.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from perdure.core.telemetry_buffer import Held, TelemetryBuffer
from perdure.core.telemetry_lines import decode_line, encode_line, open_private, write_all
from perdure.domain.telemetry import TelemetryRecord
from perdure.errors import Corrupt

SEGMENTS_OF_MAX: Final = 8  # a segment is as long as an eighth of what may be spilled, and is removed as a whole
SUFFIX: Final = ".spill"

_log = logging.getLogger(__name__)


class Segment:
    """A file that entries are appended to, and how many of them are not settled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self.held: list[Held] = []
        self.descriptor = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_EXCL)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def append(self, lines: bytes, held: Sequence[Held]) -> None:
        """Add lines and see them on disk."""
        write_all(self.descriptor, lines)
        os.fsync(self.descriptor)
        self.size_bytes += len(lines)
        self.held.extend(held)
        for one in held:
            one.is_spilled = True

    def forget_settled(self) -> bool:
        """Whether nothing of it has to be kept any more."""
        self.held = [one for one in self.held if not one.is_done]
        return not self.held

    def close(self, *, remove: bool) -> None:
        """Let go of the file."""
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


class Spill:
    """Appends what is fresh in a buffer to segments, every ``window_ms``, in a thread of its own.

    ``record`` makes the record of an entry. ``spilled`` counts what is on disk, ``unspilled`` what found no room.
    """

    def __init__(
        self,
        buffer: TelemetryBuffer,
        folder: Path,
        *,
        record: Callable[[Held], TelemetryRecord],
        new_id: Callable[[], UUID],
        window_ms: int,
        bytes_max: int,
    ) -> None:
        self.spilled = self.unspilled = 0
        self._buffer = buffer
        self._folder = folder
        self._record = record
        self._new_id = new_id
        self._window_s = window_ms / 1000
        self._segment_bytes = max(bytes_max // SEGMENTS_OF_MAX, 1)
        self._bytes_max = bytes_max
        self._segments: list[Segment] = []
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; what is pending already is fresh."""
        self._buffer.spill_fresh()
        self._thread = threading.Thread(target=self._run, name="perdure-telemetry-spill", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, with everything pending on disk; segments of what is written are removed."""
        self._stopping.set()
        if os.getpid() != self._pid:
            return  # a child: thread, segments and locks are the parent's
        if self._thread is not None:
            self._thread.join()
        self.once()
        with self._lock:
            for segment in self._segments:
                segment.close(remove=segment.forget_settled())
            self._segments = []

    def once(self) -> None:
        """Put on disk what is fresh, and remove what is written."""
        with self._lock:
            self._remove_settled()
            fresh = self._buffer.take_fresh()
            if not fresh:
                return
            try:
                self._append(fresh)
            except OSError:
                self.unspilled += len(fresh)
                raise

    def _run(self) -> None:
        while not self._stopping.wait(self._window_s):
            try:
                self.once()
            except OSError as exc:
                _log.warning("telemetry cannot be spilled to %s (%s); it is in memory only", self._folder, exc.strerror)

    def _append(self, fresh: Sequence[Held]) -> None:
        data = b"".join(encode_line(self._record(held)) for held in fresh)
        if sum(segment.size_bytes for segment in self._segments) + len(data) > self._bytes_max:
            self.unspilled += len(fresh)
            return
        if not self._segments or self._segments[-1].size_bytes + len(data) > self._segment_bytes:
            self._segments.append(Segment(self._folder / f"{self._new_id()}{SUFFIX}"))
        self._segments[-1].append(data, fresh)
        self.spilled += len(fresh)

    def _remove_settled(self) -> None:
        kept: list[Segment] = []
        for segment in self._segments:
            if segment.forget_settled():
                segment.close(remove=True)
            else:
                kept.append(segment)
        self._segments = kept


def left_behind(folder: Path) -> Iterator[tuple[Path, Sequence[TelemetryRecord]]]:
    """Segments of processes that are gone, oldest first, each locked while its records are looked at.

    Whoever has written them removes the file. What follows the last whole line, or the first that is no record, is cut.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    yield path, _whole_records(path)
            except BlockingIOError:
                _log.debug("%s belongs to a process that is running", path.name)
            finally:
                os.close(descriptor)


def _whole_records(path: Path) -> Sequence[TelemetryRecord]:
    records: list[TelemetryRecord] = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            records.append(decode_line(line if line.endswith(b"\n") else b""))
        except Corrupt as exc:
            _log.warning("%s is cut after %d entries: %s", path.name, len(records), exc.message)
            break
    return records
