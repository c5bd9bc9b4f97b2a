"""Writing entries of another store as they are: the same epoch, numbers and times, page after page, any page again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perdure.adapters.documents.log_documents import Header, LogState, entry_put, marker_put
from perdure.adapters.documents.log_lives import LogLives
from perdure.adapters.documents.log_looking import LogLooking, wait
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.domain.log import Entry, LogHead
from perdure.errors import Invalid
from perdure.ports.documents import Expect, Write
from perdure.ports.patience import Patience


class LogRestoring:
    """Restores logs."""

    def __init__(self, driver: ResilientDriver, *, looking: LogLooking, lives: LogLives) -> None:
        self._driver = driver
        self._looking = looking
        self._lives = lives

    async def restore(self, log: Container, head: LogHead, entries: Sequence[Entry], *, patience: Patience) -> None:
        """Write a page; a log of another epoch that is there makes room for it."""
        while not await self._attempt(log, head, entries, patience=patience):
            await wait(patience)

    async def _attempt(self, log: Container, head: LogHead, entries: Sequence[Entry], *, patience: Patience) -> bool:
        look = await self._looking.look(log, patience=patience)
        state = look.state
        if state is not None and state.epoch == head.epoch:
            return await self._go_on(log, state, head, entries, patience=patience)
        if look.life is not None and look.life.header.stage != "erasing":
            # What is there, or was left there, is not part of what is restored, whichever epoch is the higher one.
            await self._lives.make_room(log, look.life, state, patience=patience)
            return False
        touched_at = entries[-1].recorded_at if entries else head.updated_at
        making = await self._lives.make(
            log, look, head.settings, patience=patience, touched_at=touched_at, epoch=head.epoch
        )
        if making is None:
            return False
        header = _as(head, making.header)
        _check_begins(entries, header.floor)
        writes = _writes(header, entries)
        return await self._lives.change(log, making.life, header, beside=writes, patience=patience) is not None

    async def _go_on(
        self, log: Container, state: LogState, head: LogHead, entries: Sequence[Entry], *, patience: Patience
    ) -> bool:
        before = state.life.header
        header = _as(head, before)
        if header.settings != before.settings:
            header = await self._lives.with_due(log, header, touched_at=state.touched_at, patience=patience)
        # What was trimmed here stays trimmed.
        entries = [entry for entry in entries if entry.sequence > header.floor]
        _check_begins(entries, max(state.sequence, header.floor))
        writes = _writes(header, entries)
        if await self._lives.change(log, state.life, header, beside=writes, patience=patience) is None:
            return False
        await self._lives.replace_due(log, before.due, header.due, patience=patience)
        return True


def _as(head: LogHead, header: Header) -> Header:
    return replace(
        header,
        settings=head.settings,
        settings_version=head.version,
        created_at=head.created_at,
        updated_at=head.updated_at,
        touched_at=head.updated_at,
        floor=max(header.floor, head.earliest - 1),
    )


def _writes(header: Header, entries: Sequence[Entry]) -> Sequence[Write]:
    writes: list[Write] = []
    for entry in entries:
        writes += [
            entry_put(header, entry, expect=Expect.ANY),
            marker_put(header, entry, expect=Expect.ANY),
        ]
    return writes


def _check_begins(entries: Sequence[Entry], last: int) -> None:
    if entries and entries[0].sequence > last + 1:
        raise Invalid(
            f"entries to restore begin at {entries[0].sequence}, and the log is at {last}; pages come in order",
            first=entries[0].sequence,
            last=last,
        )
