"""Logs on a document database: the port, made of the parts beside this file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from perdure.adapters.documents import keys
from perdure.adapters.documents.audits import audit_put, read_audits
from perdure.adapters.documents.directory import Directory
from perdure.adapters.documents.log_cleaning import LogCleaning
from perdure.adapters.documents.log_documents import Header, LogState
from perdure.adapters.documents.log_lives import LogLives
from perdure.adapters.documents.log_looking import LogLooking, wait
from perdure.adapters.documents.log_reading import Asked, LogReading
from perdure.adapters.documents.log_restoring import LogRestoring
from perdure.adapters.documents.log_sweeping import LogSweeping
from perdure.adapters.documents.log_trimming import LogTrimming
from perdure.adapters.documents.log_writer import LogWriters
from perdure.adapters.documents.pointers import Pointers
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container, check_place
from perdure.domain.kinds import Kind
from perdure.domain.log import (
    Appended,
    Entry,
    LogHead,
    LogPage,
    LogSettings,
    NewEntry,
    Position,
    next_epoch,
)
from perdure.domain.store_audit import StoreAudit
from perdure.errors import StaleVersion
from perdure.ports import log_rules
from perdure.ports.patience import Patience

QUEUE = "logs"


class DocumentLogs:
    """The logs of one (mode, env), as ``perdure.ports.logs.LogStore``.

    Its own writers know where the logs are that they append to; nothing else is kept in memory.
    """

    def __init__(self, driver: ResilientDriver, *, mode: str, env: str) -> None:
        self._driver = driver
        self._mode = mode
        self._env = env
        self._directory = Directory(driver, holds="log", mode=mode, env=env)
        pointers = Pointers(driver, queue=QUEUE, mode=mode, env=env)
        self._looking = LogLooking(driver)
        cleaning = LogCleaning(driver, self._looking)
        self._lives = LogLives(
            driver, looking=self._looking, cleaning=cleaning, directory=self._directory, pointers=pointers
        )
        self._writers = LogWriters(driver, looking=self._looking, lives=self._lives)
        self._reading = LogReading(driver, self._looking)
        self._trimming = LogTrimming(driver, looking=self._looking, lives=self._lives)
        self._restoring = LogRestoring(driver, looking=self._looking, lives=self._lives)
        self._sweeping = LogSweeping(looking=self._looking, cleaning=cleaning, lives=self._lives, pointers=pointers)

    async def append(
        self,
        log: Container,
        entries: Sequence[NewEntry],
        *,
        expected: int | None = None,
        settings: LogSettings | None = None,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Sequence[Appended]:
        """Append entries, through this process's writer of that log."""
        self._check_place(log)
        log_rules.check_append(entries, expected=expected, settings=settings)
        return await self._writers.append(
            log, entries, expected=expected, settings=settings, audit=audit, timeout_s=timeout_s
        )

    async def head(self, log: Container, *, timeout_s: float) -> LogHead | None:
        """The log as a whole: its header and its last entry."""
        self._check_place(log)
        state = await self._looking.current(log, patience=self._driver.patience(timeout_s))
        return None if state is None else state.head

    async def read(
        self,
        log: Container,
        *,
        after: Position | None = None,
        limit: int,
        reverse: bool = False,
        bytes_max: int,
        timeout_s: float,
    ) -> LogPage | None:
        """A page of entries; a constant number of reads, wherever it is."""
        self._check_place(log)
        log_rules.check_read(after, limit=limit, bytes_max=bytes_max)
        asked = Asked(after=after, limit=limit, bytes_max=bytes_max)
        return await self._reading.read(log, asked, reverse=reverse, patience=self._driver.patience(timeout_s))

    async def locate(self, log: Container, entry_id: str, *, timeout_s: float) -> Position | None:
        """Where the entry with that id is: its marker says it."""
        self._check_place(log)
        log_rules.check_locate(entry_id)
        patience = self._driver.patience(timeout_s)
        state = await self._looking.current(log, patience=patience)
        if state is None:
            return None
        marker = (await self._looking.markers(log, state.epoch, [entry_id], patience=patience)).get(entry_id)
        if marker is None or marker.sequence <= state.floor:
            return None
        return Position(epoch=state.epoch, sequence=marker.sequence)

    async def configure(
        self,
        log: Container,
        settings: LogSettings,
        *,
        if_version: int | None = None,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> LogHead:
        """Give a log other settings, or make it with these."""
        self._check_place(log)
        log_rules.check_settings(settings)
        log_rules.check_if_version(if_version)
        patience = self._driver.patience(timeout_s)
        while True:
            state = await self._configured(log, settings, if_version, audit, patience=patience)
            if state is not None:
                self._writers.forget(log)
                return state.head
            await wait(patience)

    async def trim(
        self, log: Container, *, before: int | datetime, audit: StoreAudit | None = None, timeout_s: float
    ) -> int:
        """Raise the floor, and remove what is below it."""
        self._check_place(log)
        log_rules.check_trim(before)
        patience = self._driver.patience(timeout_s)
        if isinstance(before, datetime):
            return await self._trimming.trim_by_time(log, before, audit, patience=patience)
        return await self._trimming.trim_by_number(log, before, audit, patience=patience)

    async def clear(self, log: Container, *, audit: StoreAudit | None = None, timeout_s: float) -> bool:
        """Begin a new epoch, and remove the documents of the old one."""
        self._check_place(log)
        patience = self._driver.patience(timeout_s)
        while (state := await self._looking.current(log, patience=patience)) is not None:
            announced = await self._lives.leftovers(log, patience=patience)
            now = self._lives.now()
            header = replace(
                state.life.header, epoch=next_epoch(state.epoch, now=now), updated_at=now, touched_at=now, floor=0
            )
            beside = [] if audit is None else [audit_put(audit)]
            if await self._lives.change(log, state.life, header, beside=beside, patience=patience) is not None:
                self._writers.forget(log)
                await self._lives.clean(log, announced, patience=patience)
                return True
            await wait(patience)
        return False

    async def erase(self, log: Container, *, timeout_s: float) -> bool:
        """Remove a log, its audit records, its name and what was announced of it."""
        self._check_place(log)
        existed = await self._lives.erase(log, patience=self._driver.patience(timeout_s))
        self._writers.forget(log)
        return existed

    async def containers(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """The directory's names of which a log is there."""
        log_rules.check_logs_page(limit)
        patience = self._driver.patience(timeout_s)

        async def is_there(log: Container) -> bool:
            """Whether a name has a log."""
            return await self._looking.is_there(log, patience=patience)

        return await self._directory.list(
            kind, tenant, user=user, after=after, limit=limit, is_there=is_there, timeout_s=timeout_s
        )

    async def restore(self, log: Container, head: LogHead, entries: Sequence[Entry], *, timeout_s: float) -> None:
        """Write entries of another store as they are."""
        self._check_place(log)
        log_rules.check_restore(head, entries)
        await self._restoring.restore(log, head, entries, patience=self._driver.patience(timeout_s))
        self._writers.forget(log)

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """Look at everything that was announced and is due: logs past their lifetime, and what others left behind."""
        log_rules.check_sweep(limit)
        return await self._sweeping.sweep(limit=limit, patience=self._driver.patience(timeout_s))

    async def audits(
        self, log: Container, *, after: UUID | None = None, limit: int, timeout_s: float
    ) -> Sequence[StoreAudit]:
        """The records kept beside the log."""
        self._check_place(log)
        log_rules.check_audits_page(limit)
        return await read_audits(self._driver, keys.log_partition(log), after=after, limit=limit, timeout_s=timeout_s)

    async def close(self) -> None:
        """Wait for the appends under way."""
        await self._writers.close()

    def _check_place(self, log: Container) -> None:
        check_place(log, mode=self._mode, env=self._env)

    async def _configured(
        self,
        log: Container,
        settings: LogSettings,
        if_version: int | None,
        audit: StoreAudit | None,
        *,
        patience: Patience,
    ) -> LogState | None:
        """One attempt; None if somebody else was first."""
        look = await self._looking.look(log, patience=patience)
        state = look.state
        if state is not None and state.is_expired(self._lives.now()):
            state = None
        found = 0 if state is None else state.life.header.settings_version
        if if_version is not None and if_version != found:
            raise StaleVersion(
                f"the settings are at version {found}, and {if_version} was expected; read them and decide again",
                expected=if_version,
                found=found,
            )
        beside = [] if audit is None else [audit_put(audit)]
        if state is None:
            making = await self._lives.make(log, look, settings, patience=patience)
            if making is None:
                return None
            made = await self._lives.change(log, making.life, making.header, beside=beside, patience=patience)
            return None if made is None else LogState(life=made, sequence=0, touched_at=making.header.touched_at)
        before = state.life.header
        header: Header = replace(
            before, settings=settings, settings_version=before.settings_version + 1, updated_at=self._lives.now()
        )
        header = await self._lives.with_due(log, header, touched_at=state.touched_at, patience=patience)
        changed = await self._lives.change(log, state.life, header, beside=beside, patience=patience)
        if changed is None:
            return None
        await self._lives.replace_due(log, before.due, header.due, patience=patience)
        return replace(state, life=changed)
