"""How a log comes to be and how it ends, in steps each of which may be the last that a process does.

Making: the header is put as ``making``, then the name is written into the directory, then the log is put into the
partition and the header becomes ``ready``, if nobody changed it since. Erasing: the header becomes ``erasing`` (and the
gate goes, so nobody appends any more), everything is removed, then the name, as found while the header was still
``erasing``, and last the header. So a name is in the directory for as long as a log is ``ready``, whoever races with
whom: between finding a name that somebody wrote down and removing it no other log can have been made.

Whoever meets a log that is being erased ends that first. Pointers announce what a process that dies would leave behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from perdure.adapters.documents import keys
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.log_cleaning import LogCleaning
from perdure.adapters.documents.log_documents import (
    Due,
    Header,
    Life,
    LogState,
    change_writes,
    expires_at,
    fence,
)
from perdure.adapters.documents.log_looking import LogLooking, Look, wait
from perdure.adapters.documents.pointers import Pointer, Pointers
from perdure.adapters.documents.removals import see_removed
from perdure.adapters.documents.resilience import BACKOFF_BASE_S, ResilientDriver
from perdure.domain.container import Container
from perdure.domain.log import LogSettings, next_epoch
from perdure.errors import OutcomeUnknown, Unavailable
from perdure.ports.documents import ExpectationFailed, Remove, Write
from perdure.ports.patience import Patience

QUEUE = "logs"
ENDS = "ends"
LEFTOVERS = "leftovers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A log that is about to be: the life to change, and the header to change it to."""

    life: Life
    header: Header


class LogLives:
    """Makes logs and ends them."""

    def __init__(
        self,
        driver: ResilientDriver,
        *,
        looking: LogLooking,
        cleaning: LogCleaning,
        directory: Directory,
        pointers: Pointers,
    ) -> None:
        self._driver = driver
        self._looking = looking
        self._cleaning = cleaning
        self._directory = directory
        self._pointers = pointers

    def now(self) -> datetime:
        """The time that logs go by."""
        return self._driver.environment.clock.now()

    async def make(
        self,
        log: Container,
        look: Look,
        settings: LogSettings,
        *,
        patience: Patience,
        touched_at: datetime | None = None,
        epoch: int | None = None,
    ) -> Making | None:
        """Get ready to make a log where none is (or an expired one); None if that has to be looked at again.

        ``touched_at`` and ``epoch`` are given for what was made elsewhere.

        The caller commits ``change`` of what is returned, with everything that the log begins with.
        """
        life = look.life
        if life is not None and life.header.stage == "erasing":
            await self.finish(log, life, patience=patience)
            return None
        if life is None or life.header.stage == "ready":
            life = await self._begin(log, look, patience=patience)
            if life is None:
                return None
        await self._directory.announce(log, timeout_s=patience.left_s)
        now = self.now()
        header = Header(
            stage="ready",
            epoch=life.header.epoch if epoch is None else epoch,
            stamp=life.header.stamp,
            settings_version=1,
            settings=settings,
            created_at=now,
            updated_at=now,
            touched_at=now,
        )
        header = await self.with_due(log, header, touched_at=touched_at or now, patience=patience)
        return Making(life=life, header=header)

    async def with_due(self, log: Container, header: Header, *, touched_at: datetime, patience: Patience) -> Header:
        """The header with a pointer announced for its end, if it has one."""
        at = expires_at(header.settings, touched_at)
        if at is None:
            return replace(header, due=None)
        pointer = await self._pointers.announce(log, due_at=at, detail=ENDS, timeout_s=patience.left_s)
        return replace(header, due=Due(at=at, version=pointer.version))

    async def change(
        self,
        log: Container,
        life: Life | None,
        header: Header,
        *,
        beside: Sequence[Write] = (),
        patience: Patience,
        commit_id: str | None = None,
    ) -> Life | None:
        """Replace a header and its gate, with other writes in the same commit; None if somebody else was first."""
        version = self._driver.new_version() if life is None else life.version + 1
        writes = change_writes(life, header, version=version)
        try:
            tokens = await self._driver.commit(
                keys.log_partition(log), [*writes, *beside], timeout_s=patience.left_s, commit_id=commit_id
            )
        except ExpectationFailed:
            return None
        return Life(header=header, version=version, token=tokens[0])

    async def leftovers(self, log: Container, *, patience: Patience) -> Pointer:
        """Announce that something of this log will have to be removed."""
        return await self._pointers.announce(log, due_at=self.now(), detail=LEFTOVERS, timeout_s=patience.left_s)

    async def clean(self, log: Container, announced: Pointer, *, patience: Patience) -> None:
        """Remove what a change left behind. The change is done: what cannot be removed now, a sweep removes."""
        try:
            await self._cleaning.clean(log, patience=patience)
            await self._pointers.withdraw(announced, timeout_s=patience.left_s)
        except Unavailable:
            return  # announced above, so not forgotten

    async def erase(self, log: Container, *, patience: Patience) -> bool:
        """Remove a log and every trace of its name; False if there was none."""
        existed = False
        announced: Pointer | None = None
        while True:
            look = await self._looking.look(log, patience=patience)
            life = look.life
            if life is None and not await self._has_documents(log, patience=patience):
                break
            if life is None or life.header.stage != "erasing":
                announced = announced or await self.leftovers(log, patience=patience)
                there = look.state is not None and not look.state.is_expired(self.now())
                life = await self._try_change(log, life, self._erasing(life), (), patience=patience)
                if life is None:
                    await wait(patience)
                    continue
                existed = existed or there
            await self.finish(log, life, patience=patience)
            if not life.header.audits_stay:
                break
        if announced is not None:
            await self._pointers.withdraw(announced, timeout_s=patience.left_s)
        return existed

    async def remove(self, log: Container, life: Life, state: LogState | None, *, patience: Patience) -> bool:
        """Remove a log that is past its lifetime, or is to be another; False if somebody used it meanwhile.

        Its audit records stay.
        """
        header = replace(self._erasing(life), audits_stay=True)
        beside = [] if state is None else [fence(state)]
        erasing = await self._try_change(log, life, header, beside, patience=patience)
        if erasing is None:
            return False
        await self.finish(log, erasing, patience=patience)
        return True

    async def make_room(self, log: Container, life: Life, state: LogState | None, *, patience: Patience) -> None:
        """Remove what is there, so that another epoch can be put in its place; audit records stay."""
        announced = await self.leftovers(log, patience=patience)
        if await self.remove(log, life, state, patience=patience):
            await self._pointers.withdraw(announced, timeout_s=patience.left_s)

    async def finish(self, log: Container, life: Life, *, patience: Patience) -> None:
        """Go on with an erasing, whoever began it, to its end."""
        if not await self._cleaning.remove_all(log, life, patience=patience):
            return
        name = await self._directory.find(log, timeout_s=patience.left_s)
        again = await self._looking.life(log, patience=patience)
        if again is None or again.version != life.version:
            return  # the name may be that of a log made since
        if name is not None:
            await self._directory.remove(log, version=name, timeout_s=patience.left_s)
        removal = Remove(sort=keys.HEADER, expect=life.version, token=again.token)
        try:
            await see_removed(self._driver, keys.log_partition(log), [removal], timeout_s=patience.left_s)
        except ExpectationFailed:
            return  # another came here first
        if (due := life.header.due) is not None:
            await self._withdraw(log, due, patience=patience)

    async def replace_due(self, log: Container, before: Due | None, after: Due | None, *, patience: Patience) -> None:
        """Withdraw the pointer of an end that no longer holds."""
        if before is not None and before != after:
            await self._withdraw(log, before, patience=patience)

    async def _try_change(
        self, log: Container, life: Life | None, header: Header, beside: Sequence[Write], *, patience: Patience
    ) -> Life | None:
        """As ``change``, for steps that do no harm if they are done twice: a lost answer is a reason to look again."""
        try:
            return await self.change(log, life, header, beside=beside, patience=patience)
        except OutcomeUnknown:
            if patience.left_s <= BACKOFF_BASE_S:
                raise
            return None

    async def _withdraw(self, log: Container, due: Due, *, patience: Patience) -> None:
        pointer = Pointer(container=log, detail=ENDS, due_at=due.at, settled_at=due.at, version=due.version)
        await self._pointers.withdraw(pointer, timeout_s=patience.left_s)

    async def _begin(self, log: Container, look: Look, *, patience: Patience) -> Life | None:
        """Put a header that says ``making``, over nothing or over a log past its lifetime."""
        now = self.now()
        before = look.life.header if look.life is not None else None
        header = Header(
            stage="making",
            epoch=next_epoch(None if before is None else before.epoch, now=now),
            stamp=self._driver.new_version(),
            settings_version=1,
            settings=LogSettings(),
            created_at=now,
            updated_at=now,
            touched_at=now,
            due=None if before is None else before.due,
        )
        beside = [] if look.state is None else [fence(look.state)]
        return await self._try_change(log, look.life, header, beside, patience=patience)

    def _erasing(self, life: Life | None) -> Header:
        now = self.now()
        if life is not None:
            return replace(life.header, stage="erasing", audits_stay=False)
        return Header(
            stage="erasing",
            epoch=next_epoch(None, now=now),
            stamp=self._driver.new_version(),
            settings_version=1,
            settings=LogSettings(),
            created_at=now,
            updated_at=now,
            touched_at=now,
        )

    async def _has_documents(self, log: Container, *, patience: Patience) -> bool:
        start, end = "A", keys.LAST
        page = await self._driver.scan(
            keys.log_partition(log), start=start, end=end, limit=1, timeout_s=patience.left_s
        )
        return bool(page.documents)
