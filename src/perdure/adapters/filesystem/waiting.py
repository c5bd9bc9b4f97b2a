"""Commits that wait for the disk: those that wait at the same moment are written and synced as one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from perdure.errors import OutcomeUnknown, TimedOut
from perdure.ports.document_rules import commit_bytes
from perdure.ports.documents import Write

WRITE_COMMITS_MAX: Final = 128  # judged in one step of the event loop, which nobody else has meanwhile
WRITE_BYTES_MAX: Final = 4 * 1_048_576  # one commit is less than half of it; a frame twice as long is refused
_WRITE_OVERHEAD_BYTES: Final = 40  # of one document in a frame, beside names and body


@dataclass(eq=False, slots=True, kw_only=True)
class WaitingCommit:
    """One commit and who waits for it. ``taken`` means that it may happen."""

    partition: str
    writes: Sequence[Write]
    commit_id: str
    answer: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    taken: bool = False

    @property
    def frame_bytes(self) -> int:
        """At most what it takes in a frame."""
        each = len(self.commit_id) + _WRITE_OVERHEAD_BYTES
        return commit_bytes(self.partition, self.writes) + len(self.writes) * each

    async def wait(self, *, timeout_s: float) -> None:
        """Return when it is acknowledged; raises what became of it, or what is known when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.answer
        except TimeoutError as exc:
            if self.taken:
                raise OutcomeUnknown(
                    f"the disk did not answer within {timeout_s:g} s, so this commit may or may not happen; send it "
                    "again"
                ) from exc
            raise TimedOut(
                f"the commit waited {timeout_s:g} s for those before it and was not begun; try again"
            ) from exc

    def resolve(self, error: Exception | None) -> None:
        """Tell the one who waits, if it still does."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(None)
        else:
            self.answer.set_exception(error)


def take_together(waiting: deque[WaitingCommit]) -> list[WaitingCommit]:
    """The commits of the next write, as many as the bounds allow; callers that gave up are passed over."""
    taken: list[WaitingCommit] = []
    size = 0
    while waiting and len(taken) < WRITE_COMMITS_MAX:
        commit = waiting[0]
        size += commit.frame_bytes
        if taken and size > WRITE_BYTES_MAX:
            break
        waiting.popleft()
        if not commit.answer.done():
            commit.taken = True
            taken.append(commit)
    return taken
