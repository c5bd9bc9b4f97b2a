"""What a purge takes away on any store of logs and rows, and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from perdure.core.turn_purging import TurnPurger
from perdure.core.turn_retention import UNDECIDED_S_MAX
from perdure.core.turn_store import TurnParts
from perdure.domain.log import LogSettings
from perdure.domain.retention import Hold, KeptFor
from perdure.domain.turn import context_container
from perdure.domain.turn_records import codec
from perdure.domain.turn_records.agent_records import USER_TURN
from perdure.domain.turn_records.envelope import SCHEMA_VERSION
from perdure.errors import NotFound, OutcomeUnknown, StaleVersion
from perdure.testing.contracts.stores import TIMEOUT_S
from perdure.testing.contracts.turns_opening import Talk, TurnsOpening, turn

ENDED: Final = datetime(2020, 1, 1, tzinfo=UTC)
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TRIES: Final = 20  # of a purge whose answers are lost


def ending(at: datetime | None, *, retention_class: str | None = None, content: str = "hello") -> bytes:
    """The payload of a context's first turn that says when the context ends."""
    return codec.encode(
        USER_TURN,
        {
            "content": content,
            "event_kind": USER_TURN.event_kinds[0],
            "idempotency_key": "k",
            "timestamp": 0,
            "sequence_no": 1,
            "schema_version": SCHEMA_VERSION,
            "agent_session_id": "s",
            "retention_class": retention_class,
            "expires_at": None if at is None else int(at.timestamp() * 1_000),
        },
    )


class TurnRetentionContract(TurnsOpening):
    """Purges and holds, where ``removes_contexts`` is true."""

    async def test_what_has_ended_goes_with_its_names_and_nothing_else(self, talk: Talk) -> None:
        self.needs("removes_contexts")
        ended, last = await self._begin(talk, ENDED, labels=("x",))
        kept, _ = await self._begin(talk, NOW.replace(year=2999), labels=("x",))
        plain = await talk.begin()
        await talk.fill(plain, 3)
        assert await self._purge(talk) == {ended: None}
        assert await talk.labelled("x") == [kept]
        assert sorted(await talk.labelled(None)) == sorted([kept, plain])
        assert len(await talk.chain(kept)) == 2
        for asked in (talk.head(ended), talk.page(ended), talk.get(last), talk.create(last), talk.say(ended, "late")):
            with pytest.raises(NotFound):
                await asked

    async def test_another_client_that_knew_the_context_finds_none(self, talk: Talk) -> None:
        self.needs("removes_contexts")
        ended, last = await self._begin(talk, ENDED)
        other = await self.reopened(talk, (ended, 2))
        await other.say(ended, "3", key="k")
        await self.catch_up(talk, ended, 3)
        assert await self._purge(talk) == {ended: None}
        for asked in (
            other.say(ended, "4"),
            other.say(ended, "3", key="k"),
            other.get(last),
            other.create(last),
            other.say(await other.begin(), "5", parent=last, rebase=True),
        ):
            with pytest.raises(NotFound):
                await asked
        assert await self._purge(talk) == {}

    async def test_what_a_live_fork_needs_stays_and_goes_after_it(self, talk: Talk) -> None:
        self.needs("removes_contexts")
        root, turn_id = await self._begin(talk, ENDED)
        child, turn_id = await self._begin(talk, ENDED, base=turn_id)
        live = await talk.begin(turn_id)
        assert await self._purge(talk) == {root: KeptFor.FORK, child: KeptFor.FORK}
        assert len(await talk.chain(live)) == 4
        root, turn_id = await self._begin(talk, ENDED)
        child, _ = await self._begin(talk, ENDED, base=turn_id)
        found = await self._purge(talk)
        assert (found[root], found[child]) == (None, None)
        assert len(await talk.chain(live)) == 4

    async def test_a_hold_keeps_a_context_and_a_class_until_it_is_lifted(self, talk: Talk) -> None:
        self.needs("removes_contexts")
        held, _ = await self._begin(talk, ENDED)
        classed, _ = await self._begin(talk, ENDED, retention_class="legal")
        parts = self.turn_parts(talk)
        holds = [
            Hold(context_id=held, reason="case", placed_by="user:ann", placed_at=NOW),
            Hold(retention_class="legal", reason="audit", placed_by="user:ann", placed_at=NOW),
        ]
        for hold in holds:
            await parts.retention.place(talk.space, hold, audit=None, patience=parts.patience(TIMEOUT_S))
        assert await self._purge(talk) == {held: KeptFor.HOLD, classed: KeptFor.HOLD}
        assert len(await talk.chain(held)) == 2
        for hold in holds:
            await parts.retention.lift(talk.space, hold, audit=None, patience=parts.patience(TIMEOUT_S))
        assert await self._purge(talk) == {held: None, classed: None}

    async def test_a_fork_that_was_named_and_not_made_is_barred(self, talk: Talk) -> None:
        self.needs("removes_contexts")
        root, turn_id = await self._begin(talk, ENDED)
        parts = self.turn_parts(talk)
        number = int(await talk.begin()) + 1
        await parts.contexts.name_fork(talk.space, int(turn_id), number, patience=parts.patience(TIMEOUT_S))
        assert await self._purge(talk) == {root: None}
        with pytest.raises(NotFound):
            await talk.head(str(number))
        with pytest.raises(StaleVersion):
            await parts.logs.configure(
                context_container(talk.space, number), LogSettings(), if_version=0, timeout_s=TIMEOUT_S
            )
        assert str(number) not in await talk.labelled(None)

    async def _begin(
        self,
        talk: Talk,
        ends_at: datetime,
        *,
        labels: tuple[str, ...] = (),
        base: str | None = None,
        retention_class: str | None = None,
    ) -> tuple[str, str]:
        context_id = (await talk.create(base, labels=labels)).context_id
        first = turn(ending(ends_at, retention_class=retention_class), type_id=USER_TURN.type_id, key="first")
        await talk.add(context_id, first)
        return context_id, await talk.say(context_id, "more", key="more")

    async def _purge(self, talk: Talk) -> dict[str, KeptFor | None]:
        """Purge as this client; each context that was due, with why it was kept (None: removed)."""
        parts = self.turn_parts(talk)
        purger = TurnPurger(parts, self.turn_blobs(), talk.space, until=NOW)
        found: dict[str, KeptFor | None] = {}
        for _ in range(_TRIES):
            try:
                await self._purge_once(talk, purger, parts, found)
            except OutcomeUnknown:
                await self.advance(UNDECIDED_S_MAX + 1)
            else:
                return found
        pytest.fail("a purge does not come to its end")

    async def _purge_once(
        self, talk: Talk, purger: TurnPurger, parts: TurnParts, found: dict[str, KeptFor | None]
    ) -> None:
        for removal in await purger.leftovers(patience=parts.patience(TIMEOUT_S)):
            await purger.end(removal, audit=None, patience=parts.patience(TIMEOUT_S))
            found[str(removal.number)] = None
        cursor: str | None = None
        while True:
            numbers, cursor = await parts.contexts.page(
                talk.space, cursor=cursor, limit=2, patience=parts.patience(TIMEOUT_S)
            )
            for number in numbers:
                family = await purger.judge(number, patience=parts.patience(TIMEOUT_S))
                if family.judged[number].due:
                    found[str(number)] = family.judged[number].reason
                if family.judged[number].removable:
                    for member in family.order:
                        done = await purger.remove(member, audit=None, patience=parts.patience(TIMEOUT_S))
                        found[str(member)] = done.reason
            if cursor is None:
                return
