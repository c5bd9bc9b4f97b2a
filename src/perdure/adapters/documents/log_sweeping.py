"""Sweeping: what was announced and is due is looked at, and what is over is removed."""

from __future__ import annotations

from dataclasses import replace

from perdure.adapters.documents.log_cleaning import LogCleaning
from perdure.adapters.documents.log_documents import LogState, expires_at
from perdure.adapters.documents.log_lives import LogLives
from perdure.adapters.documents.log_looking import LogLooking
from perdure.adapters.documents.pointers import Pointer, Pointers
from perdure.domain.container import Container
from perdure.ports.patience import Patience


class LogSweeping:
    """Ends what others left and what is past its lifetime."""

    def __init__(self, *, looking: LogLooking, cleaning: LogCleaning, lives: LogLives, pointers: Pointers) -> None:
        self._looking = looking
        self._cleaning = cleaning
        self._lives = lives
        self._pointers = pointers

    async def sweep(self, *, limit: int, patience: Patience) -> int:
        """Remove up to ``limit`` logs that are past their lifetime; returns how many."""
        removed = 0
        async for pointer in self._pointers.due(self._lives.now(), timeout_s=patience.left_s):
            removed += await self._look_at(pointer, patience=patience)
            if removed == limit:
                break
        return removed

    async def _look_at(self, pointer: Pointer, *, patience: Patience) -> bool:
        """Do what a pointer announces, if it is to be done; True if a log was removed."""
        log = pointer.container
        look = await self._looking.look(log, patience=patience)
        removed = False
        if look.life is not None and look.life.header.stage == "erasing":
            await self._lives.finish(log, look.life, patience=patience)
            removed = look.life.header.audits_stay
        elif look.life is not None and look.state is not None and look.state.is_expired(self._lives.now()):
            removed = await self._lives.remove(log, look.life, look.state, patience=patience)
            if not removed:
                return False  # appended to just now; the pointer stays for the next sweep
        elif look.life is not None:
            await self._cleaning.clean(log, patience=patience)
            if look.state is not None and not await self._announce_again(look.state, log, patience=patience):
                return False
        await self._pointers.settle(pointer, timeout_s=patience.left_s)
        return removed

    async def _announce_again(self, state: LogState, log: Container, *, patience: Patience) -> bool:
        """Announce the end of a log that was appended to since; False if somebody else is changing it."""
        before = state.life.header
        now = self._lives.now()
        if expires_at(before.settings, state.touched_at) is None or (before.due is not None and before.due.at > now):
            return True
        header = await self._lives.with_due(log, before, touched_at=state.touched_at, patience=patience)
        return await self._lives.change(log, state.life, replace(before, due=header.due), patience=patience) is not None
