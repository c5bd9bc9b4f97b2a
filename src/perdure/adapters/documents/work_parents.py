"""What a parent counts of its children, in its own document and a mark for each child beside it.

A child says in its document what it has to tell (``Told``), and since which of its versions; the mark says what was
counted of it. Whoever makes the two agree may do so twice, late or at the same time as others: each change is counted
once, and an older word never follows a newer one.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import msgspec

from perdure.adapters.documents import work_keys
from perdure.adapters.documents.decoding import decoded
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work_documents import TOLD, Told, Unit, unit_put
from perdure.adapters.documents.work_reading import Look, WorkReading
from perdure.domain.container import Space
from perdure.errors import NotFound, OutcomeUnknown, TimedOut
from perdure.ports.documents import Expect, ExpectationFailed, Put
from perdure.ports.patience import Patience


class WorkParents:
    """Counts children."""

    def __init__(self, driver: ResilientDriver, reading: WorkReading) -> None:
        self._driver = driver
        self._reading = reading

    async def require(self, space: Space, parent_id: UUID, *, patience: Patience) -> None:
        """Raise ``NotFound`` unless the parent is there."""
        if (await self._reading.peek(space, parent_id, patience=patience)).unit is None:
            raise NotFound(
                f"there is no unit of work {parent_id} to be the parent; make it first",
                resource="unit",
                id=str(parent_id),
            )

    async def tell(self, space: Space, parent_id: UUID, child_id: UUID, body: Unit, *, patience: Patience) -> None:
        """Let a parent count what a child has to say; nothing if it did already, or is not there any more."""
        while True:
            parent = await self._look(space, parent_id, child_id, body, patience=patience)
            try:
                await self._count(space, parent, child_id, body, patience=patience)
            except (ExpectationFailed, OutcomeUnknown) as exc:
                if not await patience.pause():
                    raise TimedOut("others changed a parent all the time, and a child was not counted yet") from exc
            else:
                return

    async def _look(self, space: Space, parent_id: UUID, child_id: UUID, body: Unit, *, patience: Patience) -> Look:
        def mark(life: int) -> list[str]:
            return [work_keys.child_sort(life, child_id, body.life)]

        return await self._reading.look(space, parent_id, attributes=False, others=mark, patience=patience)

    async def _count(self, space: Space, parent: Look, child_id: UUID, body: Unit, *, patience: Patience) -> None:
        """Commit what differs, if anything does."""
        sort = work_keys.child_sort(parent.life, child_id, body.life)
        mark, told = parent.others.get(sort), body.told
        known = Told() if mark is None else decoded(TOLD, mark, what="the mark of a child")
        if parent.unit is None or known.at >= told.at:
            return
        unit = replace(
            parent.unit,
            child_count=parent.unit.child_count + told.adopted - known.adopted,
            finished_child_count=parent.unit.finished_child_count + told.finished - known.finished,
        )
        put = Put(
            sort=sort,
            version=1 if mark is None else mark.version + 1,
            body=msgspec.json.encode(told),
            expect=Expect.ABSENT if mark is None else mark.version,
            token=None if mark is None else mark.token,
        )
        await self._driver.commit(
            work_keys.unit_partition(space, unit.unit_id),
            [unit_put(replace(parent.body, unit=unit), over=parent.document), put],
            timeout_s=patience.left_s,
        )
