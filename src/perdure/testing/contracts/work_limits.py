"""Limits of one save: what is just within is kept, and what is just beyond writes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.canonical import JsonObject
from perdure.domain.work import (
    ATTRIBUTE_CHANGES_MAX,
    ATTRIBUTE_KEY_BYTES_MAX,
    ATTRIBUTE_KEY_CHARS_MAX,
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_MAX,
    ENTRIES_MAX,
    HOST_ID_CHARS_MAX,
    METADATA_BYTES_MAX,
    REASONING_CHARS_MAX,
    WorkUnit,
    WorkWrite,
)
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.work_opening import HASH, Desk, WorkOpening, attribute, entry, first, following, values


class WorkLimitsContract(WorkOpening):
    """How large a save may be."""

    async def test_as_many_entries_and_attributes_as_a_save_may_have(self, desk: Desk) -> None:
        unit = await desk.save(first())
        write = self.large(unit)
        assert await desk.save(write) == write.unit
        assert await desk.entries(unit.unit_id) == [*(await desk.entries(unit.unit_id))[:1], *write.entries]
        assert (await desk.load(unit)).attributes == {one.key: one for one in write.attributes}

    async def test_one_more_of_anything_is_refused_and_nothing_is_written(self, desk: Desk) -> None:
        unit = await desk.save(first())
        write = self.large(unit)
        (kept, *_) = write.attributes
        beyond: dict[str, WorkWrite] = {
            "entries_max": replace(
                write,
                unit=replace(write.unit, history_sequence=ENTRIES_MAX + 2),
                entries=(*write.entries, entry(write.unit, sequence=ENTRIES_MAX + 2)),
            ),
            "attribute_changes_max": replace(write, attributes=(*write.attributes, attribute("one more"))),
            "attribute_key_chars_max": replace(
                write, attributes=(replace(kept, key="k" * (ATTRIBUTE_KEY_CHARS_MAX + 1)),)
            ),
            "attribute_key_bytes_max": replace(
                write, attributes=(replace(kept, key="\u20ac" * (ATTRIBUTE_KEY_BYTES_MAX // 3 + 1)),)
            ),
            "reasoning_chars_max": _with_entry(unit, reasoning="x" * (REASONING_CHARS_MAX + 1)),
            "metadata_bytes_max": _with_entry(unit, metadata={"k": "x" * (METADATA_BYTES_MAX - 7)}),
        }
        for limit, write in beyond.items():
            with pytest.raises(LimitExceeded) as caught:
                await desk.commit(write)
            assert caught.value.detail["limit"] == limit
        assert (await desk.load(unit)).unit == unit
        assert await desk.history(unit.unit_id) == [1]

    async def test_what_cannot_be_one_save_is_refused(self, desk: Desk) -> None:
        unit = await desk.save(first())
        write = following(unit, attributes=[attribute("a")])
        (one,) = write.entries
        for wrong in (
            replace(write, attributes=(attribute("a"), attribute("a", version=2))),
            replace(write, entries=(replace(one, sequence=3),)),
            replace(write, entries=(one, one)),
            replace(write, entries=(replace(one, unit_id=first().unit.unit_id),)),
            replace(write, entries=(replace(one, instance_id="another"),)),
            replace(write, entries=(replace(one, transition_timestamp=one.transition_timestamp.replace(tzinfo=None)),)),
            replace(write, attributes=(attribute("\ud800"),)),
            replace(write, request_id="r"),
            replace(write, fingerprint="f"),
            replace(write, unit=replace(write.unit, version=0)),
        ):
            with pytest.raises(Invalid):
                await desk.commit(wrong)
        assert (await desk.load(unit)).unit == unit

    async def test_a_unit_as_large_as_it_may_be_is_loaded_and_moved(self, desk: Desk) -> None:
        size = ATTRIBUTES_BYTES_MAX // ATTRIBUTES_MAX - 8
        kept = {f"key-{number:04d}": f'"{number:0{size - 2}d}"' for number in range(ATTRIBUTES_MAX)}
        assert sum(len(key) + len(text) for key, text in kept.items()) <= ATTRIBUTES_BYTES_MAX
        actor = "a" * HOST_ID_CHARS_MAX
        names = list(kept)
        unit = await desk.save(first(actor_id=actor))
        for start in range(0, len(names), ATTRIBUTE_CHANGES_MAX):
            some = names[start : start + ATTRIBUTE_CHANGES_MAX]
            sequence = unit.history_sequence + 1
            changes = [attribute(name, kept[name], sequence=sequence, actor_id=actor) for name in some]
            unit = await desk.save(following(unit, attributes=changes))
        stored = await desk.load(unit)
        assert (stored.unit, values(stored)) == (unit, kept)

    async def test_ids_of_the_host_are_as_long_as_they_may_be(self, desk: Desk) -> None:
        longest = "\u20ac" * HOST_ID_CHARS_MAX
        write = first(instance_id=longest, actor_id=longest)
        unit = replace(write.unit, interaction_id=longest, role_id=longest, lease_owner=longest)
        write = replace(write, unit=unit, entries=(entry(unit),), request_id=longest, fingerprint=HASH)
        assert await desk.save(write) == unit
        assert (await desk.commit(write)).replayed
        assert await desk.units(instance_id=longest) == [unit]
        assert await desk.find_history(instance_id=longest, actor_id=longest) == list(write.entries)

    def large(self, unit: WorkUnit) -> WorkWrite:
        """The largest save of a unit that has one entry."""
        last = 1 + ENTRIES_MAX
        moved = replace(unit, version=2, history_sequence=last)
        metadata: JsonObject = {"k": "x" * (METADATA_BYTES_MAX - 8)}
        reasoning = "\u20ac" * REASONING_CHARS_MAX
        return replace(
            following(unit),
            unit=moved,
            entries=tuple(
                entry(moved, sequence=sequence, reasoning=reasoning, metadata=metadata)
                for sequence in range(2, last + 1)
            ),
            attributes=(
                attribute("k" * ATTRIBUTE_KEY_CHARS_MAX, sequence=last),
                attribute("\u00e9" * ATTRIBUTE_KEY_CHARS_MAX, sequence=last),
                *(attribute(f"key-{number}", sequence=last) for number in range(ATTRIBUTE_CHANGES_MAX - 2)),
            ),
        )


def _with_entry(unit: WorkUnit, **parts: object) -> WorkWrite:
    write = following(unit)
    return replace(write, entries=(entry(write.unit, before=unit.status, **parts),))  # type: ignore[arg-type]
