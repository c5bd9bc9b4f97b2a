"""One segment file: appended to, never changed in place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from perdure.adapters.filesystem.directory import segment_path
from perdure.adapters.filesystem.file_ops import FileOps, read_all, write_all
from perdure.adapters.filesystem.log_format import SEGMENT_HEADER_BYTES, encode_frame, encode_segment_header


class Segment:
    """An open segment. ``length`` is where its last whole frame ends, and ``unsynced`` says whether some may be lost.

    ``torn`` means that what follows ``length`` could not be cut off, so that nothing may be appended any more.
    """

    def __init__(self, files: FileOps, fd: int, *, number: int, length: int) -> None:
        self.number = number
        self.length = length
        self.unsynced = False
        self.torn = False
        self._files = files
        self._fd = fd

    @classmethod
    def create(cls, files: FileOps, directory: Path, number: int) -> Segment:
        """A new segment with nothing in it; if that fails, its file is removed or left for the next start to remove."""
        path = segment_path(directory, number)
        fd = files.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_all(files, fd, encode_segment_header(number), 0)
            files.sync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                files.close(fd)
            with contextlib.suppress(OSError):
                files.remove(path)
            raise
        return cls(files, fd, number=number, length=SEGMENT_HEADER_BYTES)

    @classmethod
    def reopen(cls, files: FileOps, directory: Path, number: int) -> tuple[Segment, bytes]:
        """A segment that exists, and everything in it."""
        fd = files.open(segment_path(directory, number), os.O_RDWR)
        try:
            data = read_all(files, fd)
        except BaseException:
            files.close(fd)
            raise
        return cls(files, fd, number=number, length=len(data)), data

    def append(self, content: bytes) -> None:
        """Write one frame; after an error none of it is there, unless ``torn``."""
        frame = encode_frame(content, number=self.number, offset=self.length)
        try:
            write_all(self._files, self._fd, frame, self.length)
        except BaseException:
            self.torn = True
            self._files.truncate(self._fd, self.length)
            self.torn = False
            raise
        self.length += len(frame)
        self.unsynced = True

    def sync(self) -> None:
        """Return when all of it is on the disk. After an error, never ask again."""
        if self.unsynced:
            self._files.sync(self._fd)
            self.unsynced = False

    def cut(self, length: int) -> None:
        """Cut off what follows ``length``, for good."""
        self._files.truncate(self._fd, length)
        self._files.sync(self._fd)
        self.length = length

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)
