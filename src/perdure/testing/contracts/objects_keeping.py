"""Objects of a space as a whole: what isolates them, which there are, and how they go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from perdure.domain.container import make_space
from perdure.domain.object import OBJECTS_PAGE_MAX, object_digest
from perdure.errors import Invalid, LimitExceeded, NotFound
from perdure.testing.contracts.objects_opening import Cabinet, ObjectsOpening, OpenAnother, content
from perdure.testing.contracts.stores import TIMEOUT_S, new_space, new_tenant

MOMENT: Final = timedelta(microseconds=1)
NASTY: Final = ("None", "null", "-", "~", "a.b", "a", "a/b", "A", "..", "é" * 128, "x" * 128, " ", "😀", "%2e%2e")


class ObjectKeepingContract(ObjectsOpening):
    """Isolation, lists, deletion, collectors, spaces."""

    async def test_no_space_sees_another(self, cabinet: Cabinet) -> None:
        space = cabinet.space
        spaces = [
            space,
            replace(space, tenant=new_tenant()),
            *(replace(space, project=text) for text in NASTY),
            *(replace(space, surface=text) for text in NASTY),
            *(replace(space, app=text) for text in NASTY),
            replace(space, project="a", surface="b"),
            replace(space, project="a", app="b"),
            replace(space, project="a.b", surface="c"),
        ]
        assert len(set(spaces)) == len(spaces)
        digest = object_digest(b"the same in all")
        refs = []
        for one in spaces:
            there = cabinet.beside(one)
            assert await there.find(digest) is None
            with pytest.raises(NotFound):
                await there.read(digest)
            assert not await there.delete(digest)
            assert await there.all() == []
            refs.append(await there.put(b"the same in all"))
        for one, ref in zip(spaces, refs, strict=True):
            assert await cabinet.beside(one).all() == [ref]
        assert await cabinet.delete(digest)
        for one, ref in zip(spaces[1:], refs[1:], strict=True):
            assert await cabinet.beside(one).find(digest) == ref
            assert await cabinet.beside(one).read(digest) == b"the same in all"

    @pytest.mark.parametrize("elsewhere", [{"mode": "saas"}, {"env": "prod"}], ids=["mode", "env"])
    async def test_objects_of_another_mode_or_environment_are_refused(
        self, cabinet: Cabinet, elsewhere: dict[str, str]
    ) -> None:
        ref = await cabinet.put(b"here")
        other = cabinet.beside(new_space(tenant=cabinet.space.tenant, **elsewhere))
        for attempt in (
            other.put(b"there"),
            other.find(ref.digest),
            other.read(ref.digest),
            other.delete(ref.digest),
            other.all(),
        ):
            with pytest.raises(Invalid):
                await attempt
        assert await cabinet.all() == [ref]

    async def test_the_longest_names_are_names(self, cabinet: Cabinet) -> None:
        longest = make_space(
            tenant=new_tenant() + "x" * (64 - len(new_tenant())),
            mode="lab",
            env="dev",
            project="😀" * 128,
            surface="\U0010ffff" * 128,
            app="日" * 128,
        )
        one, two = cabinet.beside(longest), cabinet.beside(replace(longest, app="日" * 127 + "本"))
        ref = await one.put(b"a")
        assert await one.all() == [ref]
        assert await two.all() == []
        assert await one.spaces() == [longest]

    async def test_objects_are_listed_in_the_order_of_their_addresses(
        self, cabinet: Cabinet, open_another: OpenAnother
    ) -> None:
        refs = [await cabinet.put(content(40, seed=number)) for number in range(35)]
        refs[3] = await cabinet.put(content(40, seed=3), media_type="text/plain")
        refs.sort(key=lambda ref: ref.digest)
        other = cabinet.seen_by(await open_another())
        for limit in (1, 7, 34, 35, 36, OBJECTS_PAGE_MAX):
            assert await other.all(limit=limit) == refs
        assert await other.all(after=refs[11].digest) == refs[12:]
        assert await other.all(after=refs[-1].digest) == []
        assert await other.all(after="0" * 64) == refs

    async def test_a_list_goes_on_behind_an_object_that_is_gone(self, cabinet: Cabinet) -> None:
        refs = sorted([await cabinet.put(content(9, seed=number)) for number in range(6)], key=lambda ref: ref.digest)
        assert await cabinet.delete(refs[2].digest)
        assert await cabinet.all(after=refs[2].digest) == refs[3:]
        assert await cabinet.all(limit=2) == refs[:2] + refs[3:]

    async def test_the_end_of_a_full_page_is_known(self, cabinet: Cabinet) -> None:
        for number in range(3):
            await cabinet.put(content(9, seed=number))
        for limit, more in ((2, True), (3, False), (4, False)):
            page = await cabinet.store.list(cabinet.space, limit=limit, timeout_s=TIMEOUT_S)
            assert (len(page.objects), page.more) == (min(limit, 3), more)

    async def test_a_page_has_a_size(self, cabinet: Cabinet) -> None:
        for limit, error in ((0, Invalid), (-1, Invalid), (OBJECTS_PAGE_MAX + 1, LimitExceeded)):
            with pytest.raises(error):
                await cabinet.store.list(cabinet.space, limit=limit, timeout_s=TIMEOUT_S)
            with pytest.raises(error):
                await cabinet.store.spaces(cabinet.space.tenant, limit=limit, timeout_s=TIMEOUT_S)
        assert await cabinet.all(limit=OBJECTS_PAGE_MAX) == []

    async def test_what_is_deleted_is_gone_and_may_be_put_again(self, cabinet: Cabinet) -> None:
        kept = await cabinet.put(b"kept")
        for _ in range(2):
            ref = await cabinet.put(b"gone")
            assert await cabinet.delete(ref.digest)
            assert await cabinet.find(ref.digest) is None
            with pytest.raises(NotFound):
                await cabinet.read(ref.digest)
            assert not await cabinet.delete(ref.digest)
            assert await cabinet.all() == [kept]

    async def test_a_collector_deletes_only_what_nobody_put_lately(self, cabinet: Cabinet) -> None:
        first = await cabinet.put(b"needed now and then")
        assert not await cabinet.delete(first.digest, put_before=first.created_at)
        again = await cabinet.put(b"needed now and then")
        assert not await cabinet.delete(first.digest, put_before=first.created_at + MOMENT)
        assert not await cabinet.delete(first.digest, put_before=again.created_at)
        assert await cabinet.read(first.digest) == b"needed now and then"
        assert await cabinet.delete(first.digest, put_before=again.created_at + MOMENT)
        assert await cabinet.find(first.digest) is None
        assert not await cabinet.delete(first.digest, put_before=again.created_at + MOMENT)

    async def test_a_time_without_a_zone_is_refused(self, cabinet: Cabinet) -> None:
        ref = await cabinet.put(b"a")
        with pytest.raises(Invalid):
            await cabinet.delete(ref.digest, put_before=ref.created_at.replace(tzinfo=None))
        assert await cabinet.find(ref.digest) == ref

    async def test_every_space_in_which_something_was_put_is_listed_once(
        self, cabinet: Cabinet, open_another: OpenAnother
    ) -> None:
        space = cabinet.space
        spaces = [space, *(replace(space, project=text) for text in NASTY), replace(space, surface="s", app="a")]
        for one in spaces:
            await cabinet.beside(one).put(b"a")
            await cabinet.beside(one).put(b"b")
        await cabinet.beside(new_space()).put(b"a")
        ref = await cabinet.put(b"c")
        await cabinet.delete(ref.digest)
        other = cabinet.seen_by(await open_another())
        for limit in (1, 3, len(spaces), 100):
            found = await other.spaces(limit=limit)
            assert len(found) == len(spaces)
            assert set(found) == set(spaces)
        assert await other.beside(new_space()).spaces() == []

    async def test_a_mark_of_no_list_is_refused(self, cabinet: Cabinet) -> None:
        for mark in ("", "x", "../..", "g" * 32):
            with pytest.raises(Invalid):
                await cabinet.store.spaces(cabinet.space.tenant, after=mark, limit=1, timeout_s=TIMEOUT_S)

    async def test_a_sweep_removes_no_object(self, cabinet: Cabinet) -> None:
        ref = await cabinet.put(content(1000))
        assert await cabinet.store.sweep(limit=100, timeout_s=TIMEOUT_S) == 0
        assert await cabinet.read(ref.digest) == content(1000)

    async def test_a_store_answers_and_is_closed_twice(self, cabinet: Cabinet) -> None:
        await cabinet.store.probe(timeout_s=TIMEOUT_S)
        await cabinet.store.close()
        await cabinet.store.close()
