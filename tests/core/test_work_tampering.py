"""Whatever is changed behind the library's back is found, and the report says where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from perdure.adapters.documents import work_keys
from perdure.domain.typed_values import encode_value
from perdure.domain.work_hash import history_entry_hash
from perdure.domain.work_results import DriftKind, Work, WorkCheck, WorkVerification
from perdure.errors import Corrupt, Forbidden, HashDrift, Invalid, NotFound
from perdure.ports.documents import Document
from perdure.testing.environment import FakeClock
from tests.core.work_worlds import ENGINES, OWNER, World, make_driver, open_world

KEY: Final = "secret://env/WORK_KEY"
ENVIRON: Final = {"WORK_KEY": "k" * 32, "OTHER_KEY": "o" * 32}

# What only the store reads: who announced an entry, and when the newest versions were written.
_BOOKKEEPING: Final = re.compile(rb'"token":"[^"]*",|"at":\d+,')


async def prepared(world: World) -> Work:
    """A unit with four entries, three attributes, and two versions of one of them."""
    unit = await world.work.create(instance="i", interaction="a", attributes={"amount": 100, "who": "ann"})
    unit = await world.work.checkout(unit, owner=OWNER)
    unit = await world.work.save(unit, attributes={"amount": 250, "due": None}, reasoning="more")
    return await world.work.save(unit, new_interaction_id="b", removed=["who"], metadata={"score": 0.5})


def damaged(document: Document) -> Iterator[Document]:
    """The document with each of its bytes changed in one bit, but for those that only the store reads."""
    kept = {place for match in _BOOKKEEPING.finditer(document.body) for place in range(*match.span())}
    for place in range(len(document.body)):
        if place not in kept:
            body = bytearray(document.body)
            body[place] ^= 1 << (place % 7)
            yield replace(document, body=bytes(body))


async def read(world: World, unit: Work) -> tuple[object, ...]:
    """All that the store gives of a unit: what is the same here was not changed, whatever its bytes."""
    async with world.work._saving.reading(None) as (_, store):
        return (
            await store.load(world.space, unit.unit_id, timeout_s=5),
            await store.history(world.space, unit.unit_id, limit=100, timeout_s=5),
            await store.attribute_versions(world.space, unit.unit_id, limit=100, timeout_s=5),
        )


async def found_in(world: World, unit: Work, before: tuple[object, ...]) -> WorkVerification | None:
    """What verifying says; None if what was changed says the same as before."""
    found = await world.work.verify(unit)
    if found.check is WorkCheck.OK:
        try:
            assert await read(world, unit) == before, "a change went unseen"
        except Corrupt:
            pytest.fail("what cannot be read was found OK")
        return None
    return found


async def test_r68_any_bit_of_any_entry_is_found_and_located(tmp_path: Path) -> None:
    async with open_world(make_driver("memory", tmp_path)()) as world:
        unit = await prepared(world)
        before = await read(world, unit)
        documents = await world.documents(unit)
        for number in (2, 4):
            entry = documents[work_keys.entry_sort(number)]
            changes = 0
            for changed in damaged(entry):
                await world.overwrite(unit, changed)
                found = await found_in(world, unit, before)
                if found is None:
                    continue
                changes += 1
                assert found.check in {WorkCheck.CHAIN_BROKEN, WorkCheck.UNVERIFIED}, changed.body
                assert found.first_bad == number, changed.body
            await world.overwrite(unit, entry)
            assert changes > 300
        assert (await world.work.verify(unit)).ok


async def test_r68_any_bit_of_any_attribute_is_found_and_located(tmp_path: Path) -> None:
    async with open_world(make_driver("memory", tmp_path)()) as world:
        unit = await prepared(world)
        before = await read(world, unit)
        documents = await world.documents(unit)
        attributes = [sort for sort in documents if sort == work_keys.ATTRIBUTES or sort.startswith("t.")]
        assert len(attributes) == 1 + 5
        for sort in attributes:
            for changed in damaged(documents[sort]):
                await world.overwrite(unit, changed)
                found = await found_in(world, unit, before)
                assert found is None or found.check is WorkCheck.DRIFT, changed.body
                if found is not None and sort != work_keys.ATTRIBUTES:
                    assert [drift.key for drift in found.attributes] == [work_keys.version_of(sort)[0]], changed.body
                elif found is not None:
                    assert found.attributes or found.fields == ("unit",), changed.body
            await world.overwrite(unit, documents[sort])
        assert (await world.work.verify(unit)).ok


@pytest.mark.parametrize("engine", ENGINES)
async def test_r68_each_stored_hash_is_found_when_it_is_changed(tmp_path: Path, engine: str) -> None:
    async with open_world(make_driver(engine, tmp_path)()) as world:
        unit = await prepared(world)
        kept = (await world.documents(unit))[work_keys.UNIT]
        for name, stored in (("content_hash", unit.unit.content_hash), ("history_hash", unit.unit.history_hash)):
            assert stored is not None
            for place in range(64):
                other = "0" if stored[place] != "0" else "1"
                hashed = stored[:place] + other + stored[place + 1 :]
                await world.overwrite(unit, replace(kept, body=kept.body.replace(stored.encode(), hashed.encode())))
                found = await world.work.verify(unit)
                if name == "content_hash":
                    assert (found.check, found.fields) == (WorkCheck.DRIFT, ("content_hash",))
                else:
                    assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 4)
        await world.overwrite(unit, kept)
        for before, after, field in (
            (b'"status":"ACTIVE"', b'"status":"PAUSED"', "status"),
            (b'"interaction_id":"b"', b'"interaction_id":"c"', "interaction_id"),
        ):
            await world.replace_text(unit, work_keys.UNIT, before, after)
            assert (await world.work.verify(unit)).fields == (field,)
            await world.overwrite(unit, kept)
        await world.replace_text(unit, work_keys.UNIT, b'"status":"ACTIVE"', b'"status":"BANANA"')
        assert (await world.work.verify(unit)).fields == ("unit",)


@pytest.mark.parametrize("engine", ENGINES)
async def test_r68_an_entry_that_was_rewritten_and_hashed_anew_does_not_fit_the_next_one(
    tmp_path: Path, engine: str
) -> None:
    async with open_world(make_driver(engine, tmp_path)()) as world:
        unit = await prepared(world)
        (_, _, third, _) = await world.work.get_history(unit)
        forged = replace(third, reasoning="less")
        forged = replace(forged, entry_hash=history_entry_hash(forged))
        place = work_keys.entry_sort(3)
        await world.replace_text(unit, place, b'"more"', b'"less"')
        await world.replace_text(unit, place, third.entry_hash.encode(), forged.entry_hash.encode())
        assert (await world.work.get_history(unit))[2] == forged
        found = await world.work.verify(unit)
        assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 4)


@pytest.mark.parametrize("engine", ENGINES)
async def test_r68_any_entry_that_is_removed_is_missed(tmp_path: Path, engine: str) -> None:
    async with open_world(make_driver(engine, tmp_path)()) as world:
        unit = await prepared(world)
        documents = await world.documents(unit)
        for number in range(1, 5):
            await world.remove(unit, work_keys.entry_sort(number))
            found = await world.work.verify(unit)
            assert (found.check, found.first_bad, found.entries) == (WorkCheck.CHAIN_BROKEN, number, number - 1)
            await world.overwrite(unit, documents[work_keys.entry_sort(number)])
        swapped = replace(documents[work_keys.entry_sort(2)], sort=work_keys.entry_sort(3))
        await world.overwrite(unit, swapped)
        assert (await world.work.verify(unit)).first_bad == 3


@pytest.mark.parametrize("engine", ENGINES)
async def test_r68_a_tail_that_was_cut_off_with_all_that_knew_of_it_is_found_with_an_anchor(
    tmp_path: Path, engine: str
) -> None:
    async with open_world(make_driver(engine, tmp_path)()) as world:
        unit = await world.work.create(instance="i", attributes={"amount": 1})
        unit = await world.work.checkout(unit, owner=OWNER)
        earlier, then = await world.documents(unit), await world.work.anchor(unit)
        unit = await world.work.save(unit, attributes={"amount": 2})
        unit = await world.work.save(unit, new_status="COMPLETED")
        anchor = (await world.work.verify(unit)).anchor
        later = await world.documents(unit)
        await world.remove(unit, *(later.keys() - earlier.keys()))
        await world.overwrite(unit, *earlier.values())
        assert (await world.work.verify(unit)).ok, "nothing in it says that there was more"
        assert (await world.work.verify(unit, anchor=then)).ok
        found = await world.work.verify(unit, anchor=anchor)
        assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 3)
        await world.remove(unit, *earlier)
        with pytest.raises(NotFound):
            await world.work.verify(unit)
        found = await world.work.verify(unit, anchor=str(then))
        assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 1)


@pytest.mark.parametrize("engine", ENGINES)
async def test_verifying_is_false_after_an_attribute_was_changed_in_place(tmp_path: Path, engine: str) -> None:
    async with open_world(make_driver(engine, tmp_path)()) as world:
        unit = await prepared(world)
        newest = next(sort for sort in await world.documents(unit) if sort.startswith("t.") and sort.endswith("2"))
        assert work_keys.version_of(newest) == ("amount", 2)
        await world.replace_text(unit, newest, b"250", b"999")
        await world.replace_text(unit, work_keys.ATTRIBUTES, b"250", b"999")
        found = await world.work.verify(unit)
        assert found.check is WorkCheck.DRIFT
        (drift,) = found.attributes
        assert (drift.key, drift.kind, drift.previous, drift.current) == ("amount", DriftKind.CHANGED, 100, 999)
        assert "999" not in repr(found)
        with pytest.raises(HashDrift) as caught:
            await world.work.save(unit, new_status="COMPLETED")
        assert caught.value.detail["changed"] == ["amount"]
        assert (await world.work.get(unit)).attributes["amount"] == 999


async def test_an_attribute_that_cannot_be_read_is_replaced_under_a_waiver_and_not_otherwise(tmp_path: Path) -> None:
    async with open_world(make_driver("memory", tmp_path)()) as world:
        unit = await prepared(world)
        text = encode_value(250).encode()
        await world.replace_text(unit, work_keys.ATTRIBUTES, text, b"0.0")
        with pytest.raises(HashDrift):
            await world.work.get(unit)
        with pytest.raises(HashDrift):
            await world.work.save(unit, new_status="COMPLETED", waive="never mind")
        saved = await world.work.save(unit, attributes={"amount": 1}, waive="entered again")
        assert dict(saved.attributes) == {"amount": 1, "due": None}


async def test_r66_a_hash_that_was_taken_away_is_drift_and_not_a_fresh_start(tmp_path: Path) -> None:
    async with open_world(make_driver("memory", tmp_path)()) as world:
        unit = await prepared(world)
        assert unit.unit.content_hash is not None
        await world.replace_text(unit, work_keys.UNIT, f'"{unit.unit.content_hash}"'.encode(), b"null")
        assert (await world.work.verify(unit)).fields == ("content_hash",)
        with pytest.raises(HashDrift):
            await world.work.save(unit, attributes={"amount": 5})


async def test_keyed_hashes_need_the_key_and_nobody_without_it_can_make_one(tmp_path: Path) -> None:
    opened, clock = make_driver("memory", tmp_path), FakeClock()
    async with (
        open_world(opened(), clock=clock, work_key=KEY, environ=ENVIRON) as keyed,
        open_world(opened(), clock=clock, ids=1, route=False) as plain,
        open_world(
            opened(), clock=clock, ids=2, route=False, work_key="secret://env/OTHER_KEY", environ=ENVIRON
        ) as other,
    ):
        unit = await prepared(keyed)
        assert unit.unit.hash_scheme == "v1-hmac"
        assert (await keyed.work.verify(unit)).ok
        found = await plain.work.verify(unit)
        assert (found.check, found.first_bad) == (WorkCheck.UNVERIFIED, 1)
        assert (await other.work.verify(unit)).check is WorkCheck.CHAIN_BROKEN
        with pytest.raises(Forbidden) as caught:
            await plain.work.save(unit, attributes={"amount": 1})
        assert caught.value.code == "work.key_missing"
        with pytest.raises(HashDrift):
            await other.work.save(unit, attributes={"amount": 1})
        clock.advance(301)
        with pytest.raises(Forbidden):
            await plain.work.sweep()
        assert (await keyed.work.get(unit)).unit == unit.unit
        assert ENVIRON["WORK_KEY"] not in f"{unit}{await keyed.documents(unit)}"


async def test_what_was_hashed_without_the_key_is_signed_only_under_a_waiver(tmp_path: Path) -> None:
    opened, clock = make_driver("memory", tmp_path), FakeClock()
    async with (
        open_world(opened(), clock=clock) as plain,
        open_world(opened(), clock=clock, ids=1, route=False, work_key=KEY, environ=ENVIRON) as keyed,
    ):
        unit = await prepared(plain)
        assert (await keyed.work.verify(unit)).check is WorkCheck.UNVERIFIED
        with pytest.raises(HashDrift):
            await keyed.work.save(unit, attributes={"amount": 1})
        unit = await keyed.work.save(unit, attributes={"other": 1}, waive="the plane has a key now")
        assert (await keyed.work.verify(unit)).ok
        with pytest.raises(Forbidden):
            await plain.work.save(unit, attributes={"amount": 1})
        entry = (await keyed.documents(unit))[work_keys.entry_sort(7)]
        await keyed.overwrite(unit, replace(entry, body=entry.body.replace(b"v1-hmac", b"v1")))
        found = await keyed.work.verify(unit)
        assert (found.check, found.first_bad) == (WorkCheck.CHAIN_BROKEN, 7)


async def test_a_key_that_is_too_short_is_refused_without_being_shown(tmp_path: Path) -> None:
    environ = {"WORK_KEY": "much too short"}
    async with open_world(make_driver("memory", tmp_path)(), work_key=KEY, environ=environ) as world:
        with pytest.raises(Invalid) as caught:
            await world.work.create(instance="i")
        assert "much too short" not in caught.value.message
