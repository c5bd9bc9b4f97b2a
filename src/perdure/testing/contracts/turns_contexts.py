"""What finding contexts promises, by label or all of them, and that no space sees another's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.turn import content_hash
from perdure.errors import Invalid
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from perdure.testing.contracts.turns_opening import Talk, TurnsOpening, missing, turn

LABELS = ("a", "ab", "a:b", "1:a", "a:", "A", "é", " a", "%", "a/b", "0" * 12)


class TurnContextsContract(TurnsOpening):
    """Labels, lists and spaces."""

    async def test_contexts_of_a_label_come_in_the_order_of_their_numbers(self, talk: Talk) -> None:
        self.needs("has_labels")
        ids = [(await talk.create(labels=("x",))).context_id for _ in range(12)]
        await talk.create(labels=("y",))
        await talk.create()
        for limit in (1, 5, 12, 100):
            assert await talk.labelled("x", limit=limit) == ids
        assert sorted(ids, key=int) == ids

    async def test_contexts_of_two_clients_are_in_one_list(self, talk: Talk) -> None:
        self.needs("has_labels")
        other = await self.another(talk)
        ids = [(await client.create(labels=("x",))).context_id for client in (talk, other) * 3]
        assert len(set(ids)) == len(ids)
        for context_id in ids:
            await self.catch_up(talk, context_id, 0)
        assert await talk.labelled("x", limit=2) == sorted(ids, key=int)

    async def test_a_listed_context_is_as_its_head_says(self, talk: Talk) -> None:
        self.needs("has_labels")
        made = await talk.create(labels=("x", "y", "x"))
        assert made.labels == ("x", "y")
        await talk.fill(made.context_id, 2)
        page = await talk.store.contexts(talk.space, label="x", limit=10, timeout_s=TIMEOUT_S)
        assert page.items == (await talk.head(made.context_id),)
        assert page.items[0].labels == ("x", "y")
        assert await talk.labelled("y") == [made.context_id]

    async def test_a_label_that_begins_another_is_another_label(self, talk: Talk) -> None:
        self.needs("has_labels")
        made = {label: (await talk.create(labels=(label,))).context_id for label in LABELS}
        for label, context_id in made.items():
            assert await talk.labelled(label, limit=1) == [context_id]
        assert await talk.labelled("nobody's") == []
        assert await talk.labelled("1") == []

    async def test_a_fork_has_labels_of_its_own(self, talk: Talk) -> None:
        self.needs("has_labels")
        base = await talk.create(labels=("base", "both"))
        turn_id = await talk.say(base.context_id, "1")
        fork = await talk.create(turn_id, labels=("fork", "both"))
        plain = await talk.create(turn_id)
        assert await talk.labelled("base") == [base.context_id]
        assert await talk.labelled("fork") == [fork.context_id]
        assert await talk.labelled("both") == [base.context_id, fork.context_id]
        assert (await talk.head(plain.context_id)).labels == ()

    async def test_a_context_that_could_not_be_made_is_in_no_list(self, talk: Talk) -> None:
        self.needs("has_labels")
        turn_id = await talk.say(await talk.begin(), "1")
        await missing(talk.create(str(int(turn_id) + 1), labels=("x",)))
        with pytest.raises(Invalid):
            await talk.create(labels=("x", "two\nlines"))
        assert await talk.labelled("x") == []
        assert len(await talk.labelled(None)) == 1

    async def test_all_contexts_of_a_space_are_listed_once(self, talk: Talk) -> None:
        self.needs("has_labels")
        neighbour = talk.beside(replace(talk.space, project="other"))
        ids = [await talk.begin() for _ in range(3)]
        ids += [await talk.begin(await talk.say(ids[0], "1"))]
        others = [await neighbour.begin() for _ in range(5)]
        for limit in (1, 2, 100):
            assert sorted(await talk.labelled(None, limit=limit)) == sorted(ids)
        if self.keeps_spaces_apart:
            assert sorted(await neighbour.labelled(None, limit=2)) == sorted(others)

    async def test_a_page_of_no_contexts_is_empty_and_a_strange_cursor_invalid(self, talk: Talk) -> None:
        self.needs("has_labels")
        await talk.create(labels=("x",))
        page = await talk.store.contexts(talk.space, label="x", limit=0, timeout_s=TIMEOUT_S)
        assert page.items == ()
        for cursor in ("", "x", "-1", "1" * 40):
            with pytest.raises(Invalid):
                await talk.store.contexts(talk.space, label="x", cursor=cursor, limit=10, timeout_s=TIMEOUT_S)
        for limit in (-1, True):
            with pytest.raises(Invalid):
                await talk.store.contexts(talk.space, label="x", limit=limit, timeout_s=TIMEOUT_S)

    @pytest.mark.parametrize("different", ["tenant", "project", "surface", "app"])
    async def test_nothing_of_a_space_is_found_from_another(self, talk: Talk, different: str) -> None:
        self.needs("keeps_spaces_apart")
        context_id = await talk.begin()
        turn_id = await talk.say(context_id, "secret")
        await talk.publish("bundle", b"{}")
        spaces = {
            "tenant": new_space(),
            "project": replace(talk.space, project="other"),
            "surface": replace(talk.space, surface="other"),
            "app": replace(talk.space, app="other"),
        }
        stranger = talk.beside(spaces[different])
        assert await missing(stranger.head(context_id)) == ("context", context_id)
        assert await missing(stranger.page(context_id)) == ("context", context_id)
        assert await missing(stranger.add(context_id, turn())) == ("context", context_id)
        assert await missing(stranger.get(turn_id)) == ("turn", turn_id)
        assert await missing(stranger.create(turn_id)) == ("turn", turn_id)
        assert await stranger.bundle("bundle") is None
        assert await stranger.publish("bundle", b"[]")
        assert await talk.bundle("bundle") == b"{}"
        own = await stranger.begin()
        assert await missing(stranger.say(own, "no", parent=turn_id, rebase=True)) == ("turn", turn_id)
        await self._objects_are_apart(talk, stranger, turn_id)

    async def _objects_are_apart(self, talk: Talk, stranger: Talk, turn_id: str) -> None:
        if not self.has_blobs:
            return
        digest = await talk.put(b"secret")
        assert await stranger.blob(digest) is None
        if not self.has_snapshots:
            return
        await talk.attach(turn_id, digest)
        assert await missing(stranger.snapshot(turn_id)) == ("turn", turn_id)
        assert await missing(stranger.attach(turn_id, digest)) == ("turn", turn_id)
        own = await stranger.say(await stranger.begin(), "own")
        assert await missing(stranger.attach(own, content_hash(b"secret"))) == ("object", digest)

    async def test_ids_that_two_spaces_have_are_two_things(self, talk: Talk) -> None:
        self.needs("keeps_spaces_apart")
        stranger = talk.beside(new_space())
        mine, theirs = await talk.begin(), await stranger.begin()
        for client, context_id, text in ((talk, mine, "mine"), (stranger, theirs, "theirs")):
            await client.say(context_id, text, key="k")
        assert (await talk.said(mine), await stranger.said(theirs)) == (["mine"], ["theirs"])
        # Whatever ids the two were given, each finds its own.
        assert [found.payload for found in await talk.chain(mine)] == [b"mine"]
        assert [found.payload for found in await stranger.chain(theirs)] == [b"theirs"]

    async def test_labels_of_a_space_find_nothing_in_another(self, talk: Talk) -> None:
        self.needs("keeps_spaces_apart", "has_labels")
        await talk.create(labels=("x",))
        stranger = talk.beside(replace(talk.space, project="other"))
        assert await stranger.labelled("x") == []
        assert await stranger.labelled(None) == []
