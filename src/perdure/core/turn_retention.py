"""Holds on contexts, and which of them somebody is about to remove.

Who removes a context writes that down first, and only then looks for holds and forks; who holds or forks one writes
that down first, and only then looks whether it is being removed. So one of the two sees the other. Whoever finds a
removal that is not decided waits for it: it is decided by one entry in the context's own log, or taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from perdure.core.stores import WRITE_S_MAX
from perdure.core.turn_chain import TurnChain, unknown
from perdure.domain.container import Space
from perdure.domain.retention import HOLDS_PAGE_MAX, Hold, check_class, retention_container
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import CONTEXT_NUMBER_MAX
from perdure.domain.versioned import NO_ROW, DeleteRow, PutRow, RowVersion, VersionedRow
from perdure.errors import Invalid, LimitExceeded, NotFound, StaleVersion, TimedOut
from perdure.ports.environment import Environment
from perdure.ports.patience import Patience
from perdure.ports.rows import RowStore

UNDECIDED_S_MAX: Final = 2 * WRITE_S_MAX  # who wrote down a removal and did not decide it by then is gone: a write ends
TOLD_S: Final = 86_400.0  # a context that was removed is known by its number: who saw it before asks sooner

_DIGITS: Final = len(str(CONTEXT_NUMBER_MAX))
_HOLDS: Final = "hold/"
_REMOVALS: Final = "removal/"
_REMOVED: Final = "removed/"


class _Removal(msgspec.Struct, omit_defaults=True, frozen=True):
    """What is needed to end a removal when the context itself is gone."""

    at: datetime
    base: int = 0
    labels: tuple[str, ...] = ()


class _Held(msgspec.Struct, omit_defaults=True, frozen=True):
    """A hold as it is kept; what is held is in its key."""

    reason: str
    by: str
    at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lifted_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A removal of a context that was written down, and what the context was made with."""

    number: int
    at: datetime
    base: int
    labels: tuple[str, ...]
    row: VersionedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacles:
    """What stands against removing a context: a hold, or a removal that was written down before."""

    hold: Hold | None
    removal: Removal | None


class TurnRetention:
    """The holds and the removals of one backend."""

    def __init__(self, rows: RowStore, chain: TurnChain, *, environment: Environment) -> None:
        self._rows = rows
        self._chain = chain
        self._environment = environment

    async def place(self, space: Space, hold: Hold, *, audit: StoreAudit | None, patience: Patience) -> None:
        """Keep a hold, and wait until nothing that it holds is about to be removed. Raises ``NotFound``.

        Raises ``TimedOut`` when that took too long: then it is kept, and placing it again finds out.
        """
        key = _hold_key(context_id=hold.context_id, retention_class=hold.retention_class)
        write = PutRow(key=key, value=_encoded(hold))
        await self._rows.write(retention_container(space), [write], audit=audit, timeout_s=patience.left_s)
        if hold.context_id is None:
            for removal in await self.removals(space, patience=patience):
                with suppress(NotFound):
                    await self.settled(space, removal.number, patience=patience)
            return
        try:
            await self.settled(space, int(hold.context_id), patience=patience)
            await self._chain.head(space, int(hold.context_id), patience=patience)
        except NotFound:
            await self._rows.write(retention_container(space), [DeleteRow(key=key)], timeout_s=patience.left_s)
            raise

    async def lift(self, space: Space, lifted: Hold, *, audit: StoreAudit | None, patience: Patience) -> bool:
        """Lift the hold on the same, and keep who did, when and why (``lifted`` says it); False if none stands."""
        key = _hold_key(context_id=lifted.context_id, retention_class=lifted.retention_class)
        while True:
            row = (await self._rows.get(retention_container(space), [key], timeout_s=patience.left_s)).get(key)
            hold = None if row is None else _hold_of(row)
            if row is None or hold is None or not hold.stands:
                return False
            value = msgspec.structs.replace(
                msgspec.json.decode(row.value, type=_Held),
                lifted_by=lifted.placed_by,
                lifted_at=lifted.placed_at,
                lifted_because=lifted.reason,
            )
            write = PutRow(key=key, value=msgspec.json.encode(value), expected=_version(row))
            try:
                await self._rows.write(retention_container(space), [write], audit=audit, timeout_s=patience.left_s)
            except StaleVersion:
                if not await patience.pause():
                    raise
            else:
                return True

    async def holds(
        self, space: Space, *, after: str | None, limit: int, patience: Patience
    ) -> tuple[Sequence[Hold], str | None]:
        """Holds that stand or stood, contexts behind classes; the mark to go on after, or None."""
        if after is not None and not after.startswith(_HOLDS):
            raise Invalid("the cursor is not one that this list gave; begin again without a cursor")
        if not 1 <= limit <= HOLDS_PAGE_MAX:
            raise LimitExceeded(
                f"{limit} holds in one page, 1 to {HOLDS_PAGE_MAX} (holds_page_max)",
                limit="holds_page_max",
                allowed=HOLDS_PAGE_MAX,
                actual=limit,
            )
        page = await self._rows.query(
            retention_container(space), prefix=_HOLDS, after=after, limit=limit, timeout_s=patience.left_s
        )
        return [_hold_of(row) for row in page.rows], page.rows[-1].key if page.more else None

    async def obstacles(
        self, space: Space, number: int, retention_class: str | None, *, patience: Patience
    ) -> Obstacles:
        """What stands against removing a context at this moment; one read."""
        keys = [_removal_key(number), _hold_key(context_id=str(number), retention_class=None)]
        if retention_class is not None and _can_be_held(retention_class):
            keys.append(_hold_key(context_id=None, retention_class=retention_class))
        found = await self._rows.get(retention_container(space), keys, timeout_s=patience.left_s)
        holds = [_hold_of(found[key]) for key in keys[1:] if key in found]
        removal = found.get(keys[0])
        return Obstacles(
            hold=next((hold for hold in holds if hold.stands), None),
            removal=None if removal is None else _removal_of(removal),
        )

    async def removals(self, space: Space, *, patience: Patience) -> Sequence[Removal]:
        """Removals that were written down and are not ended: one for each purge that goes on, or was killed."""
        found: list[Removal] = []
        more = True
        while more:
            page = await self._rows.query(
                retention_container(space),
                prefix=_REMOVALS,
                after=_removal_key(found[-1].number) if found else None,
                limit=HOLDS_PAGE_MAX,
                timeout_s=patience.left_s,
            )
            found += [_removal_of(row) for row in page.rows]
            more = page.more
        return found

    async def write_down(
        self, space: Space, number: int, *, base: int, labels: tuple[str, ...], over: Removal | None, patience: Patience
    ) -> Removal:
        """Say that a context is about to be removed, instead of one who did and is gone. Raises ``StaleVersion``."""
        at = self._environment.clock.now()
        value = msgspec.json.encode(_Removal(at=at, base=base, labels=labels))
        expected = NO_ROW if over is None else _version(over.row)
        write = PutRow(key=_removal_key(number), value=value, expected=expected)
        (row,) = await self._rows.write(retention_container(space), [write], timeout_s=patience.left_s)
        assert row is not None, "a row that was put is there"
        return _removal_of(row)

    async def take_back(self, space: Space, removal: Removal, *, patience: Patience) -> None:
        """The context stays: it is not about to be removed any more."""
        taken = DeleteRow(key=_removal_key(removal.number), expected=_version(removal.row))
        with suppress(StaleVersion):  # somebody else has taken it over, or has ended it
            await self._rows.write(retention_container(space), [taken], timeout_s=patience.left_s)

    async def end(self, space: Space, removal: Removal, *, audit: StoreAudit | None, patience: Patience) -> None:
        """Nothing is left of the context; whoever saw it before finds out."""
        ended = DeleteRow(key=_removal_key(removal.number), expected=_version(removal.row))
        told_until = self._environment.clock.now() + timedelta(seconds=TOLD_S)
        told = PutRow(key=_removed_key(removal.number), value=b"{}", expires_at=told_until)
        with suppress(StaleVersion):  # somebody else has ended it
            await self._rows.write(retention_container(space), [ended, told], audit=audit, timeout_s=patience.left_s)

    def is_abandoned(self, removal: Removal) -> bool:
        """Whether whoever wrote it down is gone."""
        return (self._environment.clock.now() - removal.at).total_seconds() > UNDECIDED_S_MAX

    async def settled(self, space: Space, number: int, *, patience: Patience) -> None:
        """Wait until a context that was there is not about to be removed; one read. Raises ``NotFound`` if it was."""
        keys = [_removal_key(number), _removed_key(number)]
        while True:
            found = await self._rows.get(retention_container(space), keys, timeout_s=patience.left_s)
            if keys[1] in found:
                raise unknown("context", number)
            if keys[0] not in found:
                return
            await self._chain.head(space, number, patience=patience)
            removal = _removal_of(found[keys[0]])
            if self.is_abandoned(removal):
                await self.take_back(space, removal, patience=patience)
            elif not await patience.pause():
                raise TimedOut(
                    f"a purge has not decided about context {number} within the time; try again",
                    context_id=str(number),
                )


def _hold_key(*, context_id: str | None, retention_class: str | None) -> str:
    if context_id is not None:
        return f"{_HOLDS}context/{int(context_id):0{_DIGITS}}"
    return f"{_HOLDS}class/{retention_class}"


def _removal_key(number: int) -> str:
    return f"{_REMOVALS}{number:0{_DIGITS}}"


def _removed_key(number: int) -> str:
    return f"{_REMOVED}{number:0{_DIGITS}}"


def _can_be_held(retention_class: str) -> bool:
    try:
        check_class(retention_class)
    except (Invalid, LimitExceeded):
        return False
    return True


def _version(row: VersionedRow) -> RowVersion:
    return RowVersion(version=row.version, incarnation=row.incarnation)


def _encoded(hold: Hold) -> bytes:
    return msgspec.json.encode(_Held(reason=hold.reason, by=hold.placed_by, at=hold.placed_at))


def _hold_of(row: VersionedRow) -> Hold:
    kept = msgspec.json.decode(row.value, type=_Held)
    of, _, name = row.key.removeprefix(_HOLDS).partition("/")
    return Hold(
        context_id=str(int(name)) if of == "context" else None,
        retention_class=name if of == "class" else None,
        reason=kept.reason,
        placed_by=kept.by,
        placed_at=kept.at,
        lifted_by=kept.lifted_by,
        lifted_at=kept.lifted_at,
        lifted_because=kept.lifted_because,
    )


def _removal_of(row: VersionedRow) -> Removal:
    kept = msgspec.json.decode(row.value, type=_Removal)
    number = int(row.key.removeprefix(_REMOVALS))
    return Removal(number=number, at=kept.at, base=kept.base, labels=kept.labels, row=row)
