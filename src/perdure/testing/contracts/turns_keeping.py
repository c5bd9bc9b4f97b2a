"""What bundles, objects and snapshots promise."""

from __future__ import annotations

import asyncio

import pytest

from perdure.domain.turn import (
    BUNDLES_PAGE_MAX,
    INLINE_BYTES_MAX,
    bundles_container,
    content_hash,
    snapshots_container,
    split_turn_id,
)
from perdure.errors import Conflict, Invalid, KeyReused, LimitExceeded
from perdure.testing.contracts.stores import TIMEOUT_S, audit
from perdure.testing.contracts.turns_opening import Talk, TurnsOpening, further, missing, turn
from perdure.testing.environment import START_DEFAULT

BUNDLE = (
    ' {"types" : {"b":1.0,"a": 1e2},\r\n\t"a":"\\u00e9é🔑", "a":-0.0, "big": 123456789012345678901234567890}\n'.encode()
)
UNKNOWN = "0" * 64


class TurnKeepingContract(TurnsOpening):
    """What is kept beside the turns."""

    async def test_t10_a_bundle_survives_byte_for_byte(self, talk: Talk) -> None:
        assert await talk.publish("forge.runtime_v2-1", BUNDLE)
        assert await talk.bundle("forge.runtime_v2-1") == BUNDLE
        assert await talk.bundle("forge.runtime_v2") is None
        assert await talk.bundle("FORGE.runtime_v2-1") is None

    async def test_t30_a_bundle_again_is_fine_and_other_bytes_are_a_conflict(self, talk: Talk) -> None:
        assert await talk.publish("b", BUNDLE) is True
        assert await talk.publish("b", BUNDLE) is False
        with pytest.raises(KeyReused) as caught:
            await talk.publish("b", BUNDLE.strip())
        assert isinstance(caught.value, Conflict)
        assert caught.value.detail["bundle_id"] == "b"
        assert await talk.bundle("b") == BUNDLE
        assert await talk.publish("c", BUNDLE.strip())

    async def test_bundles_are_listed_in_the_order_of_their_ids_page_after_page(self, talk: Talk) -> None:
        self.needs("lists_bundles")
        assert await talk.bundles(limit=1) == []
        published = ["b", "a.1", "B", "a-1", "c_2"]
        for bundle_id in published:
            await talk.publish(bundle_id, BUNDLE)
        expected = sorted(published)
        for limit in (1, 2, 5, BUNDLES_PAGE_MAX):
            assert await talk.bundles(limit=limit) == expected
        assert (await talk.store.bundles(talk.space, after="b", limit=9, timeout_s=TIMEOUT_S)).items == ("c_2",)
        assert (await talk.store.bundles(talk.space, after="bb", limit=9, timeout_s=TIMEOUT_S)).items == ("c_2",)
        assert (await talk.store.bundles(talk.space, limit=0, timeout_s=TIMEOUT_S)).items == ()
        with pytest.raises(LimitExceeded, match="bundles_page_max"):
            await talk.bundles(limit=BUNDLES_PAGE_MAX + 1)
        with pytest.raises(Invalid):
            await talk.bundles(limit=-1)

    async def test_of_two_that_publish_at_the_same_time_one_is_kept(self, talk: Talk) -> None:
        other = await self.another(talk)
        tries = (client.publish("b", value) for client, value in ((talk, b"1"), (other, b"2"), (talk, b"3")))
        told = await asyncio.gather(*tries, return_exceptions=True)
        assert told.count(True) == 1
        assert sum(isinstance(answer, KeyReused) for answer in told) == 2
        kept = str(told.index(True) + 1).encode()
        assert await other.publish("b", kept) is False
        assert await talk.publish("b", kept) is False

    @pytest.mark.parametrize("bundle_id", ["", " a", "a b", "a/b", "a\n", "é", "..%", None])
    async def test_an_id_that_is_no_bundle_id_is_invalid(self, talk: Talk, bundle_id: str) -> None:
        with pytest.raises(Invalid):
            await talk.publish(bundle_id, b"{}")
        with pytest.raises(Invalid):
            await talk.bundle(bundle_id)

    @pytest.mark.parametrize("bundle", [b"", b"{", b"\xff", b"{} {}", "{}", None])
    async def test_a_bundle_that_is_no_document_is_invalid(self, talk: Talk, bundle: bytes) -> None:
        with pytest.raises(Invalid):
            await talk.publish("b", bundle)
        assert await talk.bundle("b") is None

    @pytest.mark.parametrize("payload", [b"", b"\0", bytes(range(256)), b"x" * (INLINE_BYTES_MAX + 1)])
    async def test_t03_a_blob_is_found_by_its_address(self, talk: Talk, payload: bytes) -> None:
        self.needs("has_blobs")
        digest = await talk.put(payload)
        assert digest == content_hash(payload)
        assert await talk.put(payload) == digest
        assert await talk.blob(digest) == payload
        assert await (await self.another(talk)).blob(digest) == payload

    async def test_t27_an_unknown_blob_is_none_and_a_strange_address_invalid(self, talk: Talk) -> None:
        self.needs("has_blobs")
        assert await talk.blob(UNKNOWN) is None
        for digest in ("", "0" * 63, "0" * 65, "G" * 64, content_hash(b"x").upper(), f"sha256:{UNKNOWN}"):
            with pytest.raises(Invalid):
                await talk.blob(digest)

    async def test_t03_a_tree_of_files_is_attached_to_a_turn(self, talk: Talk) -> None:
        self.needs("has_blobs", "has_snapshots")
        turn_id = await talk.say(await talk.begin(), "1")
        assert await talk.snapshot(turn_id) is None
        root = await talk.put(b"tree")
        await talk.attach(turn_id, root)
        assert await talk.snapshot(turn_id) == root
        assert await (await self.another(talk)).snapshot(turn_id) == root

    async def test_t27_attaching_what_is_not_there_is_not_found(self, talk: Talk) -> None:
        self.needs("has_blobs", "has_snapshots")
        turn_id = await talk.say(await talk.begin(), "1")
        root = await talk.put(b"tree")
        assert await missing(talk.attach(further(turn_id), root)) == ("turn", further(turn_id))
        assert await missing(talk.attach("0", root)) == ("turn", "0")
        assert await missing(talk.attach(turn_id, UNKNOWN)) == ("object", UNKNOWN)
        assert await missing(talk.snapshot(further(turn_id))) == ("turn", further(turn_id))
        for bad in ("x", ""):
            with pytest.raises(Invalid):
                await talk.attach(bad, root)
            with pytest.raises(Invalid):
                await talk.attach(turn_id, bad)
            with pytest.raises(Invalid):
                await talk.snapshot(bad)
        assert await talk.snapshot(turn_id) is None

    async def test_the_last_tree_that_was_attached_is_true(self, talk: Talk) -> None:
        self.needs("has_blobs", "has_snapshots")
        turn_id = await talk.say(await talk.begin(), "1")
        roots = [await talk.put(text) for text in (b"one", b"two")]
        for root in (*roots, roots[0]):
            await talk.attach(turn_id, root)
            assert await talk.snapshot(turn_id) == root

    async def test_a_turn_has_the_tree_of_its_nearest_ancestor(self, talk: Talk) -> None:
        self.needs("has_blobs", "has_snapshots")
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 12)
        early, late, forked, branched = [await talk.put(text) for text in (b"e", b"l", b"f", b"b")]
        await talk.attach(ids[1], early)
        await talk.attach(ids[9], late)
        expected = [None] + [early] * 8 + [late] * 3
        assert [await talk.snapshot(turn_id) for turn_id in ids] == expected
        fork = await talk.begin(ids[7])
        inner = await talk.fill(fork, 3)
        again = await talk.say(await talk.begin(inner[0]), "again")
        assert [await talk.snapshot(turn_id) for turn_id in (*inner, again)] == [early] * 4
        await talk.attach(inner[1], forked)
        assert [await talk.snapshot(turn_id) for turn_id in (*inner, again)] == [early, forked, forked, early]
        # A branch in place does not see what is attached to the tail that it left.
        branch = await talk.say(context_id, "branch", parent=ids[4])
        assert await talk.snapshot(branch) == early
        root = await talk.say(context_id, "root", parent=ids[0])
        assert await talk.snapshot(root) is None
        await talk.attach(root, branched)
        assert (await talk.snapshot(root), await talk.snapshot(branch)) == (branched, early)

    async def test_a_snapshot_costs_the_same_however_far_it_is(self, talk: Talk) -> None:
        self.needs("has_blobs", "has_snapshots", "counts_calls")
        costs = []
        for length in (2, 40):
            ids = await talk.fill(await talk.begin(), length)
            await talk.attach(ids[0], await talk.put(b"tree"))
            costs.append(await self.count(talk.snapshot(ids[-1])))
        assert costs[0] == costs[1]
        assert len(costs[0]) <= 2

    async def test_records_are_kept_with_bundles_and_snapshots(self, talk: Talk) -> None:
        self.needs("keeps_audits", "has_blobs", "has_snapshots")
        bundles = bundles_container(talk.space)
        first, second = (audit(bundles, "publish", START_DEFAULT) for _ in range(2))
        await talk.publish("b", b"1", record=first)
        await talk.publish("b", b"1", record=second)
        with pytest.raises(KeyReused):
            await talk.publish("b", b"2", record=second)
        assert list(await self.audits(bundles)) == [first]
        turn_id = (await talk.add(await talk.begin(), turn())).turn_id
        snapshots = snapshots_container(talk.space, split_turn_id(int(turn_id))[0])
        record = audit(snapshots, "attach", START_DEFAULT)
        await missing(talk.attach(turn_id, UNKNOWN, record=record))
        assert list(await self.audits(snapshots)) == []
        await talk.attach(turn_id, await talk.put(b"tree"), record=record)
        assert list(await self.audits(snapshots)) == [record]
