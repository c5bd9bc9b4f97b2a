"""Finishing what a commit leaves to do in other partitions: by whoever committed, or, after a crash, by a sweep."""

from __future__ import annotations

import logging
from typing import Final

from perdure.adapters.documents import keys, work_keys
from perdure.adapters.documents.decoding import decoded
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work_announcing import Places, WorkAnnouncing, listings, listings_for_good
from perdure.adapters.documents.work_documents import UNFINISHED, Unfinished, Unit
from perdure.adapters.documents.work_parents import WorkParents
from perdure.adapters.documents.work_reading import WorkReading
from perdure.domain.container import Space
from perdure.errors import Unavailable
from perdure.ports.documents import COMMIT_WRITES_MAX, Expect, Remove
from perdure.ports.patience import Patience

FINISHED_AT_ONCE_MAX: Final = 100  # of one sweep; the rest has time

_log = logging.getLogger(__name__)


class WorkFinishing:
    """Takes away listings that are over, tells parents, and removes what belonged to deleted units."""

    def __init__(
        self, driver: ResilientDriver, reading: WorkReading, announcing: WorkAnnouncing, parents: WorkParents
    ) -> None:
        self._driver = driver
        self._reading = reading
        self._announcing = announcing
        self._parents = parents

    async def finish_or_leave(self, space: Space, unfinished: Unfinished, body: Unit, *, patience: Patience) -> None:
        """Finish what one's own commit left. It is done whatever comes of this, so a failure leaves it to a sweep."""
        try:
            await self._finish(space, unfinished, body, patience=patience)
        except Unavailable as exc:
            _log.warning("what a save of a unit of work left to do waits for a sweep (%s)", exc.code)

    async def sweep(self, space: Space, *, patience: Patience) -> None:
        """Finish what others did not."""
        page = await self._driver.scan(
            work_keys.space_partition(space),
            start=work_keys.UNFINISHED,
            end=work_keys.UNFINISHED + keys.LAST,
            limit=FINISHED_AT_ONCE_MAX,
            timeout_s=patience.left_s,
        )
        for document in page.documents:
            unfinished = decoded(UNFINISHED, document, what="the word that something is to be finished")
            look = await self._reading.peek(space, unfinished.unit_id, patience=patience)
            await self._finish(space, unfinished, look.body, patience=patience)

    async def _finish(self, space: Space, unfinished: Unfinished, body: Unit, *, patience: Patience) -> None:
        """Do what there is to do, as often as it takes: all of it may be done twice."""
        if body.life == unfinished.life and unfinished.parent_id is not None:
            # A deleted child has said what it said, and its parent may not have heard it yet.
            await self._parents.tell(space, unfinished.parent_id, unfinished.unit_id, body, patience=patience)
        if _is_over(body, unfinished):
            await self._clean(space, unfinished, patience=patience)
        gone = self._gone(space, body, unfinished)
        if gone is not None:
            await self._announcing.remove_unfinished(space, unfinished, gone, patience=patience)

    def _gone(self, space: Space, body: Unit, unfinished: Unfinished) -> Places | None:
        """The listings that nobody will ever need; None while the commit may still be on its way."""
        is_settled = self._driver.environment.clock.now() >= unfinished.settled_at
        if body.unit is not None and body.life == unfinished.life:
            if body.listed != unfinished.token and not is_settled:
                return None
            over = [listing for listing in unfinished.listings if listing[1] != body.listed]
            return listings(space, unfinished, over)
        if not _is_over(body, unfinished) and not is_settled:
            return None
        gone = dict(listings(space, unfinished, unfinished.listings))
        for name, sorts in listings_for_good(space, unfinished).items():
            gone[name] = [*gone.get(name, ()), *sorts]
        return gone

    async def _clean(self, space: Space, unfinished: Unfinished, *, patience: Patience) -> None:
        """Remove every version of an attribute and every request of a life that is over."""
        name = work_keys.unit_partition(space, unfinished.unit_id)
        for start, end in (work_keys.version_range(unfinished.life), work_keys.request_range(unfinished.life)):
            more = True
            while more:
                page = await self._driver.scan(
                    name, start=start, end=end, limit=COMMIT_WRITES_MAX, timeout_s=patience.left_s
                )
                if page.documents:
                    removals = [Remove(sort=document.sort, expect=Expect.ANY) for document in page.documents]
                    await self._driver.commit(name, removals, timeout_s=patience.left_s)
                more = page.more


def _is_over(body: Unit, unfinished: Unfinished) -> bool:
    """Whether the life of the unit that a change was about has ended."""
    return body.life > unfinished.life or (body.unit is None and body.life == unfinished.life)
