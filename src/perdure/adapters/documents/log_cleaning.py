"""Removing documents that are no part of a log any more, in the background of what made them so.

Every removal is of a document in the very version read, after a header, read later than the document, said that it is
dead. What is dead stays dead: epochs only grow in one life, a floor only rises, and another life's documents have
another version. So a cleaner may be as slow as it likes, and several may clean at the same time. Within a range the
oldest go first, so that the last entry, by which others find the end of a log, goes last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.log_documents import Life, read_entry, read_marker
from perdure.adapters.documents.log_looking import LogLooking, wait
from perdure.adapters.documents.removals import see_removed
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.errors import Corrupt
from perdure.ports.documents import COMMIT_WRITES_MAX, Document, ExpectationFailed, Remove
from perdure.ports.patience import Patience

PAGE_DOCUMENTS: Final = 500  # read at a time; their bodies come with them
TRIMMED_MAX: Final = COMMIT_WRITES_MAX // 2  # an entry and its marker go together

IsDead = Callable[[Document, Life], bool]


class LogCleaning:
    """Removes what headers say is dead."""

    def __init__(self, driver: ResilientDriver, looking: LogLooking) -> None:
        self._driver = driver
        self._looking = looking

    async def clean(self, log: Container, *, patience: Patience) -> None:
        """Remove earlier epochs, and what was trimmed. Does nothing for a log that is not there or being erased."""
        life = await self._looking.life(log, patience=patience)
        if life is None or life.header.stage == "erasing":
            return
        for dead in (keys.markers_before_range(life.header.epoch), keys.epochs_before_range(life.header.epoch)):
            await self._remove(log, dead, _is_of_earlier_epoch, patience=patience)
        await self._remove_trimmed(log, life, patience=patience)

    async def remove_all(self, log: Container, life: Life, *, patience: Patience) -> bool:
        """Remove everything but the header of a log that is being erased; False if somebody else ended that."""

        def is_dead(_: Document, now: Life) -> bool:
            """Whether nobody wrote since."""
            return now.version == life.version

        audits = () if life.header.audits_stay else (keys.audit_range(),)
        for dead in (*keys.log_ranges(), *audits):
            await self._remove(log, dead, is_dead, patience=patience)
        now = await self._looking.life(log, patience=patience)
        return now is not None and now.version == life.version

    async def _remove(self, log: Container, dead: keys.Range, is_dead: IsDead, *, patience: Patience) -> None:
        start, end = dead
        partition = keys.log_partition(log)
        while True:
            page = await self._driver.scan(
                partition, start=start, end=end, limit=PAGE_DOCUMENTS, timeout_s=patience.left_s
            )
            if not page.documents:
                return
            life = await self._looking.life(log, patience=patience)
            if life is None or not all(is_dead(document, life) for document in page.documents):
                return  # somebody else was faster, and there is a new log
            if not await self._commit(partition, page.documents, patience=patience):
                await wait(patience)
            elif not page.more:
                return

    async def _remove_trimmed(self, log: Container, life: Life, *, patience: Patience) -> None:
        """Remove entries up to the floor, each with its marker."""
        partition = keys.log_partition(log)
        epoch, floor = life.header.epoch, life.header.floor
        start, end = keys.entry_sort(epoch, 0), keys.entry_sort(epoch, floor + 1)
        more = floor > 0
        while more:
            page = await self._driver.scan(
                partition, start=start, end=end, limit=TRIMMED_MAX, timeout_s=patience.left_s
            )
            if not page.documents:
                return
            markers = await self._markers_of(log, page.documents, floor=floor, patience=patience)
            now = await self._looking.life(log, patience=patience)
            if now is None or now.header.stamp != life.header.stamp or now.header.epoch != epoch:
                return
            more = page.more
            if not await self._commit(partition, [*page.documents, *markers], patience=patience):
                await wait(patience)
                more = True

    async def _markers_of(
        self, log: Container, documents: Sequence[Document], *, floor: int, patience: Patience
    ) -> Sequence[Document]:
        """The markers that still mark trimmed entries; an id that was appended again has a marker that stays."""
        epoch = keys.epoch_of(documents[0].sort)
        ids = [entry_id for document in documents if (entry_id := _entry_id(log, document)) is not None]
        sorts = list(dict.fromkeys(keys.marker_sort(epoch, entry_id) for entry_id in ids))
        if not sorts:
            return ()
        found = await self._driver.get(keys.log_partition(log), sorts, timeout_s=patience.left_s)
        return [document for document in found.values() if read_marker(log, document).sequence <= floor]

    async def _commit(self, partition: str, documents: Sequence[Document], *, patience: Patience) -> bool:
        for first in range(0, len(documents), COMMIT_WRITES_MAX):
            removals = [
                Remove(sort=document.sort, expect=document.version, token=document.token)
                for document in documents[first : first + COMMIT_WRITES_MAX]
            ]
            try:
                await see_removed(self._driver, partition, removals, timeout_s=patience.left_s)
            except ExpectationFailed:
                return False  # another cleaner is at work here
        return True


def _is_of_earlier_epoch(document: Document, life: Life) -> bool:
    return keys.epoch_of(document.sort) < life.header.epoch


def _entry_id(log: Container, document: Document) -> str | None:
    try:
        entry = read_entry(log, document)
    except Corrupt:
        return None  # nobody can say any more which marker was its own; that goes with the epoch
    return None if entry is None else entry.entry_id
