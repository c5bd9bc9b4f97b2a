"""Rewriting what is still alive, in a thread of its own, while commits go on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from perdure.adapters.filesystem.log_format import Change, SegmentName, encode_changes
from perdure.adapters.filesystem.segment import Segment
from perdure.adapters.filesystem.segment_log import SegmentLog

DEAD_BYTES_MIN: Final = 16 * 1_048_576  # below this a rewrite saves nothing that anybody notices
DEAD_SHARE_MIN: Final = 0.5  # of all bytes: each byte is then rewritten about once for each byte written
CHUNK_BYTES: Final = 262_144  # gathered in one step of the event loop, which nobody else has meanwhile


def is_due(*, log_bytes: int, live_bytes: int, appended_bytes: int, dead_bytes_min: int) -> bool:
    """Whether a rewrite pays.

    ``appended_bytes`` is what was written since the last attempt: as long as that is little, another one frees little
    or fails again.
    """
    dead = log_bytes - live_bytes
    return appended_bytes >= dead_bytes_min and dead >= dead_bytes_min and dead >= DEAD_SHARE_MIN * log_bytes


class Rewriting:
    """New segments that are not part of the log until they are handed to it. One thread at a time calls it."""

    def __init__(self, log: SegmentLog, *, segment_bytes_max: int) -> None:
        self._log = log
        self._segment_bytes_max = segment_bytes_max
        self._segment: Segment | None = None
        self._complete: list[SegmentName] = []

    def write(self, changes: Sequence[Change]) -> None:
        """Write one piece."""
        if self._segment is None:
            self._segment = self._log.create_segment()
        self._segment.append(encode_changes(changes))
        if self._segment.length >= self._segment_bytes_max:
            self._complete_segment(self._segment)

    def finish(self) -> Sequence[SegmentName]:
        """Return when all of it is on the disk."""
        if self._segment is not None:
            self._complete_segment(self._segment)
        return self._complete

    def abandon(self) -> None:
        """Remove all of it again."""
        if self._segment is not None:
            with contextlib.suppress(OSError):  # it is removed in any case
                self._segment.close()
            self._log.discard([self._segment.number])
        self._log.discard([segment.number for segment in self._complete])

    def _complete_segment(self, segment: Segment) -> None:
        segment.sync()
        self._segment = None
        self._complete.append(SegmentName(number=segment.number, length=segment.length))
        segment.close()
