"""Looking at a log: what there is of it right now, in as few reads as that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.log_documents import Life, LogState, Marker, read_entry, read_life, read_marker
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.errors import TimedOut
from perdure.ports.documents import GET_DOCUMENTS_MAX
from perdure.ports.patience import Patience

CONFLICT_PAUSE_S_MAX: Final = 0.2  # who waits for longer than a turn of others lasts sleeps through its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen: a header in whatever stage, and the log if it is ready, expired or not."""

    life: Life | None
    state: LogState | None


class LogLooking:
    """Reads headers, last entries and markers."""

    def __init__(self, driver: ResilientDriver) -> None:
        self._driver = driver

    async def life(self, log: Container, *, patience: Patience) -> Life | None:
        """The header, in whatever stage."""
        found = await self._driver.get(keys.log_partition(log), [keys.HEADER], timeout_s=patience.left_s)
        return read_life(log, found[keys.HEADER]) if keys.HEADER in found else None

    async def look(self, log: Container, *, patience: Patience) -> Look:
        """The header and, read after it, the last entry.

        In this order, because a writer that knows the gate of this header must know of everything that was there when
        the gate was made.
        """
        while True:
            life = await self.life(log, patience=patience)
            if life is None or life.header.stage != "ready":
                return Look(life=life, state=None)
            state = await self.tail(log, life, patience=patience)
            if state is not None:
                return Look(life=life, state=state)
            await wait(patience)

    async def tail(self, log: Container, life: Life, *, patience: Patience) -> LogState | None:
        """The last entry of a life; None if that life may be over."""
        header = life.header
        start, end = keys.entry_range(header.epoch, first=header.floor + 1)
        page = await self._driver.scan(
            keys.log_partition(log), start=start, end=end, limit=1, reverse=True, timeout_s=patience.left_s
        )
        if page.documents:
            entry = read_entry(log, page.documents[0])
            if entry is None:
                return None  # a fence: this life was judged to be over
            return LogState(life=life, sequence=entry.sequence, touched_at=entry.recorded_at)
        return await self.without_entries(log, life, patience=patience)

    async def without_entries(self, log: Container, life: Life, *, patience: Patience) -> LogState | None:
        """A life of which no entry was found; None if it may be over."""
        # Nothing is there, or it was removed since the header was read. Removal begins with the oldest, so a last entry
        # that is still there is the last one.
        again = await self.life(log, patience=patience)
        if again is None or again.version != life.version:
            return None
        return LogState(life=life, sequence=life.header.floor, touched_at=life.header.touched_at)

    async def current(self, log: Container, *, patience: Patience) -> LogState | None:
        """The log, if there is one that is not past its lifetime."""
        state = (await self.look(log, patience=patience)).state
        return None if state is None or state.is_expired(self._driver.environment.clock.now()) else state

    async def is_there(self, log: Container, *, patience: Patience) -> bool:
        """Whether there is such a log; where no entry has a say in it, the header is enough."""
        life = await self.life(log, patience=patience)
        if life is None or life.header.stage != "ready":
            return False
        if life.header.settings.ttl_s is None and life.header.settings.expires_at is None:
            return True
        return await self.current(log, patience=patience) is not None

    async def markers(
        self, log: Container, epoch: int, entry_ids: Sequence[str], *, patience: Patience
    ) -> Mapping[str, Marker]:
        """The markers of these ids that are there, by id; whether what they mark is trimmed is not looked at."""
        sorts = {keys.marker_sort(epoch, entry_id): entry_id for entry_id in entry_ids}
        wanted = list(sorts)
        markers: dict[str, Marker] = {}
        for first in range(0, len(wanted), GET_DOCUMENTS_MAX):
            some = wanted[first : first + GET_DOCUMENTS_MAX]
            found = await self._driver.get(keys.log_partition(log), some, timeout_s=patience.left_s)
            markers |= {sorts[sort]: read_marker(log, document) for sort, document in found.items()}
        return markers


async def wait(patience: Patience) -> None:
    """A pause after somebody else was first. Raises ``TimedOut`` when there is no time for one."""
    if not await patience.pause(at_most_s=CONFLICT_PAUSE_S_MAX):
        raise TimedOut("others kept changing this log until the time was over; nothing was done, try again")
