"""Where logs are: spaces that see nothing of each other, names that are never taken for others, lists and copies."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from perdure.domain.container import Container, session_container, stream_container
from perdure.domain.kinds import Kind
from perdure.domain.log import APPEND_ENTRIES_MAX, Entry, LogHead, LogSettings
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.logs_opening import LogsOpening, Shelf, entry, is_dense
from perdure.testing.contracts.stores import audit, new_space, new_tenant

NAMES = (
    "a/b",
    "a_b",
    "a#b",
    "a.b",
    "a",
    "A",
    "b",
    "-",
    "~",
    "%2F",
    "..",
    "\u00fc",
    "u\u0308",
    "\u6f22" * 300,
    "x" * 512,
)


class LogsPlacesContract(LogsOpening):
    """What isolation, lists and copies promise."""

    async def test_no_space_sees_another_s_logs(self, shelf: Shelf) -> None:
        tenant = shelf.log.space.tenant
        spaces = [
            new_space(tenant=tenant),
            new_space(tenant=new_tenant()),
            new_space(tenant=tenant, project="other"),
            new_space(tenant=tenant, surface="default"),
            new_space(tenant=tenant, app="default"),
            new_space(tenant=tenant, surface="default", app="default"),
        ]
        shelves = [shelf.beside(stream_container(space, "events")) for space in spaces]
        for number, one in enumerate(shelves):
            assert await one.head() is None
            await one.append(entry(f"e{number}"))
        for number, one in enumerate(shelves):
            assert await one.ids() == [f"e{number}"]
        await shelves[0].erase()
        assert await shelves[0].head() is None
        for number, one in enumerate(shelves[1:], start=1):
            assert await one.ids() == [f"e{number}"]

    @pytest.mark.parametrize("elsewhere", [{"mode": "saas"}, {"env": "prod"}], ids=["mode", "env"])
    async def test_logs_of_another_mode_or_environment_are_refused(
        self, shelf: Shelf, elsewhere: dict[str, str]
    ) -> None:
        await shelf.append(entry("e1"))
        other = shelf.beside(stream_container(new_space(tenant=shelf.log.space.tenant, **elsewhere), "events"))
        for attempt in (other.append(entry("e2")), other.head(), other.ids(), other.erase()):
            with pytest.raises(Invalid):
                await attempt
        assert await shelf.ids() == ["e1"]

    async def test_names_that_are_alike_are_different(self, shelf: Shelf) -> None:
        for name in NAMES:
            await shelf.named(name).append(entry(f"in-{name[:20]}-{len(name)}"))
        for name in NAMES:
            assert await shelf.named(name).ids() == [f"in-{name[:20]}-{len(name)}"]
        assert {one.name for one in await shelf.containers(limit=4)} == {(name,) for name in NAMES}

    async def test_separators_in_users_and_sessions_never_collide(self, shelf: Shelf) -> None:
        parts = ("a", "a/b", "b", "/", ".", "a.", ".a", "#", "-", "\u6f22" * 128)
        logs = [
            session_container(shelf.log.space, user=user, session=session) for user, session in product(parts, parts)
        ]
        for number, log in enumerate(logs):
            await shelf.beside(log).append(entry(f"e{number}"))
        for number, log in enumerate(logs):
            assert await shelf.beside(log).ids() == [f"e{number}"]

    async def test_every_log_of_a_tenant_and_kind_is_listed_once(self, shelf: Shelf) -> None:
        assert await shelf.containers() == []
        tenant = shelf.log.space.tenant
        spaces = [new_space(tenant=tenant), new_space(tenant=tenant, project="other", surface="web", app="shop")]
        logs = {stream_container(space, f"s{number}") for space in spaces for number in range(12)}
        for log in logs:
            await shelf.beside(log).append(entry("e1"))
        session = session_container(spaces[0], user="ann", session="s1")
        await shelf.beside(session).append(entry("e1"))
        await shelf.beside(stream_container(new_space(), "s0")).append(entry("e1"))
        for limit in (1, 5, 24, 100):
            listed = await shelf.containers(limit=limit)
            assert len(listed) == len(logs)
            assert set(listed) == logs
        assert await shelf.beside(session).containers() == [session]

    async def test_a_user_s_logs_are_listed_alone(self, shelf: Shelf) -> None:
        spaces = [shelf.log.space, replace(shelf.log.space, project="other")]
        logs = [
            session_container(space, user=user, session=session)
            for space in spaces
            for user in ("ann", "an", "ann.x")
            for session in ("s1", "s2")
        ]
        for log in logs:
            await shelf.beside(log).append(entry("e1"))
        anns = {log for log in logs if log.name[1] == "ann"}
        assert set(await shelf.beside(logs[0]).containers(user="ann", limit=3)) == anns
        assert set(await shelf.beside(logs[0]).containers()) == set(logs)
        assert await shelf.beside(logs[0]).containers(user="bob") == []

    async def test_what_is_no_mark_of_a_list_is_refused(self, shelf: Shelf) -> None:
        for limit in (0, -1):
            with pytest.raises(Invalid):
                await shelf.store.containers(Kind.STREAMS, shelf.log.space.tenant, limit=limit, timeout_s=60)

    # --- copies ---

    async def test_a_copied_log_is_the_same(self, shelf: Shelf) -> None:
        await shelf.append(entry("e0"), settings=LogSettings(ttl_s=100_000, attributes=b'{"a":1}'))
        await shelf.fill(100)
        await shelf.configure(LogSettings(ttl_s=90_000, attributes=b'{"a":2}'))
        copy = shelf.beside(self._copy_of(shelf.log))
        await self._copy(shelf, copy)
        assert await copy.all() == await shelf.all()
        assert await copy.head() == await shelf.head()
        assert await copy.containers() == [copy.log]
        position = await shelf.locate("e77")
        assert await copy.locate("e77") == position
        (again,) = await copy.append(entry("e77"))
        assert again.duplicate
        assert [one.sequence for one in await copy.append(entry("new"))] == [102]

    async def test_pages_may_be_copied_again(self, shelf: Shelf) -> None:
        await shelf.fill(100)
        copy = shelf.beside(self._copy_of(shelf.log))
        await self._copy(shelf, copy, times=2)
        await shelf.fill(3, first=101)
        await self._copy(shelf, copy)
        assert await copy.all() == await shelf.all()
        head, found = await shelf.one_head(), await shelf.all()
        with pytest.raises(Invalid):
            await shelf.beside(self._copy_of(shelf.log)).restore(head, *found[5:7])
        with pytest.raises(Invalid):
            await copy.restore(head, found[0], found[2])

    async def test_a_copy_of_a_trimmed_log_is_trimmed(self, shelf: Shelf) -> None:
        await shelf.fill(60)
        await shelf.trim(31)
        copy = shelf.beside(self._copy_of(shelf.log))
        await self._copy(shelf, copy)
        assert await copy.all() == await shelf.all()
        assert (await copy.lost(3)).reason == "expired"
        await shelf.trim(1_000)
        empty = shelf.beside(self._copy_of(shelf.log))
        await empty.restore(await shelf.one_head())
        head = await empty.one_head()
        assert (head.sequence, head.earliest) == (60, 61)
        assert [one.sequence for one in await empty.append(entry("new"))] == [61]

    @pytest.mark.parametrize("ahead", [-1_000, 1_000])
    async def test_a_copy_takes_the_place_of_another_epoch(self, shelf: Shelf, ahead: int) -> None:
        """Whichever of the two is the higher one; audit records of what was there stay."""
        await shelf.fill(100)
        record = audit(shelf.log, "append", (await shelf.page(limit=1)).entries[0].recorded_at)
        await shelf.append(entry("e101"), record=record)
        head = await shelf.one_head()
        kept = [
            Entry(sequence=n, entry_id=f"k{n}", fingerprint="f", recorded_at=head.updated_at, body=b"1") for n in (1, 2)
        ]
        copied = replace(head, epoch=head.epoch + ahead, sequence=2)
        await shelf.restore(copied, *kept)
        assert await shelf.all() == kept
        assert (await shelf.one_head()).epoch == copied.epoch
        assert await shelf.locate("e1") is None
        assert [(one.sequence, one.epoch) for one in await shelf.append(entry("e1"))] == [(3, copied.epoch)]
        assert await shelf.audits() == [record]

    async def test_a_copied_page_takes_so_many_entries_and_not_one_more(self, shelf: Shelf) -> None:
        await shelf.fill(APPEND_ENTRIES_MAX + 1)
        head, found = await shelf.one_head(), await shelf.all()
        copy = shelf.beside(self._copy_of(shelf.log))
        with pytest.raises(LimitExceeded) as caught:
            await copy.restore(head, *found)
        assert caught.value.detail["limit"] == "append_entries_max"
        await copy.restore(head, *found[:-1])
        assert is_dense(await copy.all())

    @staticmethod
    def _copy_of(log: Container) -> Container:
        return replace(log, space=replace(log.space, tenant=new_tenant()))

    @staticmethod
    async def _copy(source: Shelf, target: Shelf, *, times: int = 1) -> None:
        head: LogHead = await source.one_head()
        found = await source.all()
        for start in range(0, len(found), APPEND_ENTRIES_MAX):
            for _ in range(times):
                await target.restore(head, *found[start : start + APPEND_ENTRIES_MAX])
