"""The log: segments in order, and the manifest that names them. One thread calls it.

The manifest is replaced by a rename, so a directory holds the log of before or of after, never a mixture. What it does
not name is not part of the log, and the next start removes it. A segment is complete and on the disk before the
manifest names it, and is removed only after the manifest without it is on the disk.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from perdure.adapters.filesystem import log_format
from perdure.adapters.filesystem.directory import MANIFEST_DRAFT_NAME, MANIFEST_NAME, segment_number, segment_path
from perdure.adapters.filesystem.file_ops import FileOps, read_all, sync_directory, write_all
from perdure.adapters.filesystem.log_format import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, Change, SegmentName
from perdure.adapters.filesystem.segment import Segment
from perdure.errors import OutcomeUnknown, PersistenceError

SEGMENT_BYTES_MAX: Final = 64 * 1_048_576  # one is read as a whole at the start; a frame more is possible

_logger = logging.getLogger(__name__)


class SegmentLog:
    """The log of one directory whose lock is held. Errors of the system come out as ``OSError``."""

    def __init__(self, files: FileOps, directory: Path, *, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        self._files = files
        self._directory = directory
        self._segment_bytes_max = segment_bytes_max
        self._sealed: list[SegmentName] = []
        self._active: Segment | None = None
        self._numbers = itertools.count(1)
        self._refusal: str | None = None

    @property
    def length(self) -> int:
        """Bytes of all segments."""
        sealed = sum(segment.length or 0 for segment in self._sealed)
        return sealed + (0 if self._active is None else self._active.length)

    @property
    def refusal(self) -> str | None:
        """Why nothing can be written any more until the directory is opened again; None if it can."""
        return self._refusal

    def open(self, load: Callable[[Change], None]) -> None:
        """Hand everything that was committed to ``load``, in order, and get ready to append."""
        names = self._files.names(self._directory)
        if MANIFEST_NAME in names:
            segments = self._read_manifest()
            self._remove_leftovers(names, {segment.number for segment in segments})
        else:
            self._begin(names)
            segments = []
        self._numbers = itertools.count(max((segment.number for segment in segments), default=0) + 1)
        for segment in segments[:-1]:
            self._read_sealed(segment, load)
        self._sealed = segments[:-1]
        if segments:
            self._active = self._read_last(segments[-1], load)
        else:
            self._roll()

    def append(self, content: bytes, *, sync: bool) -> None:
        """Write one frame, and return when it is on the disk if ``sync``.

        Raises ``OSError`` when it is known not to be written, ``OutcomeUnknown`` when it may be, and
        ``PersistenceError`` when an earlier failure forbids to go on.
        """
        self._require_sound()
        if self._last.length >= self._segment_bytes_max:
            self._roll()
        last = self._last
        try:
            last.append(content)
        except OSError as exc:
            if not last.torn:
                raise
            self._refuse("a write failed half way and could not be undone")
            raise self._in_doubt(exc) from exc
        if sync:
            try:
                self._sync_last()
            except OSError as exc:
                raise self._in_doubt(exc) from exc

    def probe(self) -> None:
        """Raise unless the directory is still there and takes commits."""
        self._require_sound()
        if self._files.kind(self._directory / MANIFEST_NAME) != "other":
            raise PersistenceError(
                f"{self._directory} is not there any more, or its manifest is not; put it back, and open it again",
                code="directory_gone",
            )

    def sync(self) -> None:
        """Return when everything appended is on the disk."""
        self._require_sound()
        self._sync_last()

    def begin_compaction(self) -> Sequence[int]:
        """Begin a new segment, and name those before it: their content may be rewritten while this one grows."""
        self._require_sound()
        self._roll()
        return [segment.number for segment in self._sealed]

    def create_segment(self) -> Segment:
        """A segment that is not part of the log yet. Any thread may ask."""
        return Segment.create(self._files, self._directory, next(self._numbers))

    def discard(self, numbers: Collection[int]) -> None:
        """Remove files that are not part of the log; what cannot be removed is left for the next start. Any thread."""
        for number in numbers:
            try:
                self._files.remove(segment_path(self._directory, number))
            except OSError as exc:
                _logger.warning("a segment that is no longer needed stays until the next start: %s", exc.strerror)

    def replace(self, old: Collection[int], new: Sequence[SegmentName]) -> None:
        """Let ``new`` take the place of the segments ``old``, which were the first, and remove those."""
        self._require_sound()
        # What was rewritten may hold effects of commits in the last segment: they may not outlive those.
        self._sync_last()
        self._sync_names()
        kept = [segment for segment in self._sealed if segment.number not in old]
        self._publish([*new, *kept], self._last)
        self.discard(old)

    def close(self, *, sync: bool) -> None:
        """Let go of the files, after syncing them if ``sync``."""
        last, self._active = self._active, None
        if last is None:
            return
        try:
            if sync and self._refusal is None:
                last.sync()
        finally:
            last.close()

    @property
    def _last(self) -> Segment:
        assert self._active is not None, "opened before it is used"
        return self._active

    def _require_sound(self) -> None:
        if self._refusal is not None:
            raise PersistenceError(
                f"{self._directory} takes no more commits because {self._refusal}; close it, look at the disk, and "
                "open it again",
                code="reopen_needed",
            )

    def _in_doubt(self, exc: OSError) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self._directory} failed while this commit was written ({exc.strerror or exc}), so it may or may not be "
            "on the disk; close the directory, open it again, and look"
        )

    def _refuse(self, reason: str) -> None:
        if self._refusal is None:
            self._refusal = reason
            _logger.error("the document directory takes no more commits until it is opened again: %s", reason)

    def _sync_last(self) -> None:
        try:
            self._last.sync()
        except BaseException:
            self._refuse("a sync failed, and what the disk has is not known")
            raise

    def _sync_names(self) -> None:
        try:
            sync_directory(self._files, self._directory)
        except BaseException:
            self._refuse("a sync of the directory failed, and what the disk has is not known")
            raise

    def _roll(self) -> None:
        """Begin a new last segment; what was the last one is complete and on the disk then, whatever the policy."""
        sealed = list(self._sealed)
        if self._active is not None:
            self._sync_last()
            sealed.append(SegmentName(number=self._active.number, length=self._active.length))
        new = self.create_segment()
        try:
            self._sync_names()
            self._publish(sealed, new)
        except BaseException:
            with contextlib.suppress(OSError):
                new.close()
            if self._refusal is None:  # otherwise the manifest may name it already
                self.discard([new.number])
            raise

    def _publish(self, sealed: list[SegmentName], last: Segment) -> None:
        self._write_manifest([*sealed, SegmentName(number=last.number, length=None)])
        before, self._active = self._active, last
        self._sealed = sealed
        if before is not None and before is not last:
            with contextlib.suppress(OSError):  # it is complete and synced, and the descriptor is gone either way
                before.close()

    def _write_manifest(self, segments: Sequence[SegmentName]) -> None:
        """Make these the log. Before the rename nothing has happened; from there on only a new start knows."""
        draft = self._directory / MANIFEST_DRAFT_NAME
        fd = self._files.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            try:
                write_all(self._files, fd, log_format.encode_manifest(segments), 0)
                self._files.sync(fd)
            finally:
                self._files.close(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.remove(draft)
            raise
        try:
            self._files.rename(draft, self._directory / MANIFEST_NAME)
        except BaseException:
            self._refuse("a rename failed, and what the disk has is not known")
            raise
        self._sync_names()

    def _begin(self, names: Collection[str]) -> None:
        """Make an empty log, before its first segment, so that segments without a manifest are always a loss."""
        if any(segment_number(name) is not None for name in names):
            path = self._directory / MANIFEST_NAME
            raise log_format.missing(where=f"{path} is missing, and segments are there")
        self._write_manifest(())

    def _read_manifest(self) -> list[SegmentName]:
        path = self._directory / MANIFEST_NAME
        fd = self._files.open(path, os.O_RDONLY)
        try:
            data = read_all(self._files, fd)
        finally:
            self._files.close(fd)
        return log_format.decode_manifest(data, where=str(path))

    def _remove_leftovers(self, names: Collection[str], belonging: Collection[int]) -> None:
        for name in names:
            number = segment_number(name)
            if name == MANIFEST_DRAFT_NAME or (number is not None and number not in belonging):
                self._files.remove(self._directory / name)

    def _read_sealed(self, name: SegmentName, load: Callable[[Change], None]) -> None:
        path = segment_path(self._directory, name.number)
        segment, data = self._reopen(name)
        segment.close()
        if len(data) != name.length:
            raise log_format.missing(where=f"{path} has {len(data)} bytes, and had {name.length} when it was completed")
        end = self._read_frames(data, name.number, load)
        if end < len(data):
            raise log_format.damage(where=str(path), number=name.number, offset=end)

    def _read_last(self, name: SegmentName, load: Callable[[Change], None]) -> Segment:
        segment, data = self._reopen(name)
        try:
            end = self._read_frames(data, name.number, load)
            if end < len(data):
                self._cut_torn_tail(segment, data, end)
        except BaseException:
            with contextlib.suppress(OSError):
                segment.close()
            raise
        return segment

    def _cut_torn_tail(self, segment: Segment, data: bytes, end: int) -> None:
        if not log_format.is_torn_tail(data, offset=end):
            where = str(segment_path(self._directory, segment.number))
            raise log_format.damage(where=where, number=segment.number, offset=end)
        segment.cut(end)
        _logger.warning("cut off a write that was interrupted: %d bytes", len(data) - end)

    def _reopen(self, name: SegmentName) -> tuple[Segment, bytes]:
        try:
            return Segment.reopen(self._files, self._directory, name.number)
        except FileNotFoundError as exc:
            path = segment_path(self._directory, name.number)
            raise log_format.missing(where=f"{path} is missing, and belongs to the log") from exc

    def _read_frames(self, data: bytes, number: int, load: Callable[[Change], None]) -> int:
        """Load every frame up to the first that is not intact, and return where that one begins."""
        where = str(segment_path(self._directory, number))
        log_format.check_segment_header(data, number, where=where)
        view = memoryview(data)
        offset = SEGMENT_HEADER_BYTES
        while (content := log_format.read_frame(view, number=number, offset=offset)) is not None:
            for change in log_format.decode_changes(content, where=where):
                load(change)
            offset += FRAME_HEADER_BYTES + len(content)
        return offset
