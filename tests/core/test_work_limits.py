"""The limits of units of work, each at its edge and one beyond; and what is asked of a store for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.config import make_config, read_settings
from perdure.core.work_finding import KEYS_NAMED_MAX
from perdure.core.work_sweeping import SWEEP_PAGE
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import (
    ATTRIBUTE_CHANGES_MAX,
    ATTRIBUTE_KEY_CHARS_MAX,
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_MAX,
    HISTORY_PAGE_MAX,
    HOST_ID_CHARS_MAX,
    METADATA_BYTES_MAX,
    REASONING_CHARS_MAX,
    UNITS_PAGE_MAX,
)
from perdure.domain.work_anchor import parse_anchor
from perdure.errors import HashDrift, Invalid, LimitExceeded, NoRoute, Unsupported
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane
from perdure.testing.watched import WatchedBackend
from tests.core.work_worlds import ACME, OWNER, World, make_driver, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(make_driver("memory", tmp_path)()) as opened:
        yield opened


async def refused(limit: str, call: object) -> None:
    """The call passes the limit of that name."""
    with pytest.raises(LimitExceeded) as caught:
        await call  # type: ignore[misc]  # a coroutine
    assert caught.value.detail["limit"] == limit


async def test_attributes_of_one_unit(world: World) -> None:
    unit = await world.work.create(instance="i")
    for start in range(0, ATTRIBUTES_MAX, 50):
        values: dict[str, TypedValue] = {f"key-{number}": number for number in range(start, start + 50)}
        unit = await world.work.save(unit, attributes=values)
    assert len((await world.work.get(unit)).attributes) == ATTRIBUTES_MAX
    await refused("attributes_max", world.work.save(unit, attributes={"one-more": 1}))
    unit = await world.work.save(unit, removed=["key-0"])
    await refused("attributes_max", world.work.save(unit, attributes={"one-more": 1}))
    assert (await world.work.verify(unit)).ok


async def test_bytes_of_the_attributes_of_one_unit(world: World) -> None:
    text = "x" * 65_529  # with its key and its quotes an exact quarter
    values: dict[str, TypedValue] = {f"key-{number}": text for number in range(4)}
    assert 4 * (len("key-0") + len(text) + 2) == ATTRIBUTES_BYTES_MAX
    unit = await world.work.create(instance="i", attributes=values)
    await refused("attributes_bytes_max", world.work.save(unit, attributes={"k": 1}))
    await refused("attributes_bytes_max", world.work.create(instance="i", attributes={**values, "key-0": text + "x"}))


async def test_attributes_that_change_in_one_save(world: World) -> None:
    values: dict[str, TypedValue] = {f"key-{number}": number for number in range(ATTRIBUTE_CHANGES_MAX)}
    unit = await world.work.create(instance="i", attributes=values)
    await refused("attribute_changes_max", world.work.save(unit, attributes=values, removed=["other"]))


async def test_keys_of_attributes(world: World) -> None:
    key = "k" * ATTRIBUTE_KEY_CHARS_MAX
    unit = await world.work.create(instance="i", attributes={key: 1, " spaces and $ö ": 2})
    assert dict((await world.work.get(unit)).attributes) == {key: 1, " spaces and $ö ": 2}
    await refused("attribute_key_chars_max", world.work.save(unit, attributes={key + "k": 1}))
    for wrong in ("", "two\nlines", "\x00"):
        with pytest.raises(Invalid):
            await world.work.save(unit, attributes={wrong: 1})
    with pytest.raises(Invalid):
        await world.work.save(unit, attributes={"a": 1}, removed=["a"])
    with pytest.raises(Invalid):
        await world.work.save(unit, attributes={"a": object()})  # type: ignore[dict-item]  # on purpose


async def test_reasoning_metadata_and_ids_of_the_host(world: World) -> None:
    name, text = "n" * HOST_ID_CHARS_MAX, "r" * REASONING_CHARS_MAX
    metadata = {"text": "m" * (METADATA_BYTES_MAX - len('{"text":""}'))}
    unit = await world.work.create(instance=name, actor=name, reasoning=text, metadata=metadata)
    unit = await world.work.checkout(unit, owner=name)
    await refused("reasoning_chars_max", world.work.save(unit, new_status="PAUSED", reasoning=text + "r"))
    await refused("metadata_bytes_max", world.work.save(unit, new_status="PAUSED", metadata={**metadata, "a": 1}))
    await refused("host_id_chars_max", world.work.create(instance=name + "n"))
    await refused("host_id_chars_max", world.work.save(unit, actor_id=name + "n"))
    with pytest.raises(Invalid):
        await world.work.create(instance="")
    with pytest.raises(Invalid):
        await world.work.save(unit, waive="  ")
    with pytest.raises(Invalid):
        await world.work.create(instance="i", interactions_max=0)
    with pytest.raises(Invalid):
        await world.work.save(unit.unit_id, new_status="PAUSED")
    with pytest.raises(Invalid):
        await world.work.save("no id", expected_version=1)
    with pytest.raises(Invalid):
        await world.work.save(unit, expected_version=0)
    with pytest.raises(Invalid):
        await world.work.save(unit, on_drift="ignore")  # type: ignore[arg-type]  # on purpose


async def test_pages(world: World) -> None:
    await world.work.list(limit=UNITS_PAGE_MAX)
    await world.work.history(limit=HISTORY_PAGE_MAX)
    await refused("units_page_max", world.work.list(limit=UNITS_PAGE_MAX + 1))
    await refused("history_page_max", world.work.history(limit=HISTORY_PAGE_MAX + 1))
    for call in (world.work.list(limit=0), world.work.history(limit=0), world.work.sweep(older_than_s=0)):
        with pytest.raises(Invalid):
            await call
    with pytest.raises(Invalid):
        await world.work.sweep(retries_max=-1)


async def test_a_sweep_goes_on_behind_its_first_page(world: World) -> None:
    units = [
        await world.work.checkout(await world.work.create(instance="i"), owner=OWNER) for _ in range(SWEEP_PAGE + 1)
    ]
    world.clock.advance(301)
    swept = await world.work.sweep(retries_max=0)
    assert len(swept.zombied) == len(swept.dead) == len(units)
    assert (await world.work.sweep(retries_max=0)).dead == ()


async def test_a_history_is_read_and_verified_behind_its_first_page(world: World) -> None:
    unit = await world.work.create(instance="i")
    for number in range(HISTORY_PAGE_MAX):
        unit = await world.work.save(unit, new_interaction_id=f"interaction-{number}")
    entries = await world.work.get_history(unit)
    assert [entry.sequence for entry in entries] == list(range(1, HISTORY_PAGE_MAX + 2))
    assert len(await world.work.get_history(unit, HISTORY_PAGE_MAX + 1, newest=True)) == HISTORY_PAGE_MAX + 1
    found = await world.work.verify(unit)
    assert (found.ok, found.entries) == (True, HISTORY_PAGE_MAX + 1)


async def test_an_error_names_the_first_keys_that_drifted(world: World) -> None:
    values: dict[str, TypedValue] = {f"key-{number:02}": "same" for number in range(KEYS_NAMED_MAX + 1)}
    unit = await world.work.create(instance="i", attributes=values)
    await world.replace_text(unit, "v", b'"same"', b'"sane"')
    with pytest.raises(HashDrift) as caught:
        await world.work.save(unit, new_status="ACTIVE")
    assert caught.value.detail["changed"] == sorted(values)[:KEYS_NAMED_MAX]


async def test_a_save_is_one_load_and_one_commit(tmp_path: Path) -> None:
    environment = fake_environment()
    driver = make_driver("memory", tmp_path)()
    assert isinstance(driver, MemoryDriver)
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment)
    await backend.open()
    watched = WatchedBackend(backend)
    async with routed_plane([given("main", watched)], backend.routes, environment=environment) as plane:
        acme = plane.tenant(ACME)
        with pytest.raises(NoRoute) as caught:
            await acme.work.create(instance="i")
        assert caught.value.code == "work.missing_route"
        await acme.routes.set("work", "main")
        unit = await acme.work.create(instance="i", attributes={"n": 1})
        mark = len(watched.calls)
        unit = await acme.work.save(unit, new_status="ACTIVE", attributes={"n": 2}, waive="not needed")
        assert watched.calls[mark:] == ["work.load", "work.commit"]
        mark = len(watched.calls)
        await acme.work.verify(unit)
        assert watched.calls[mark:] == ["work.load", "work.history", "work.attribute_versions"]
    await backend.close()


async def test_a_backend_that_keeps_no_units_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DocumentBackend, "work", None)
    with pytest.raises(Unsupported) as caught:
        await world.work.create(instance="i")
    assert caught.value.code == "work.unsupported_backend"


async def test_an_anchor_is_one_line_that_reads_back(world: World) -> None:
    unit = await world.work.create(instance="i")
    anchor = await world.work.anchor(unit)
    assert str(anchor).isascii()
    assert "\n" not in str(anchor)
    assert parse_anchor(f"  {anchor}\n") == anchor
    for wrong in ("", str(anchor)[:-1], str(anchor).replace("v1", "v2"), str(anchor).replace(":1:", ":0:")):
        with pytest.raises(Invalid):
            parse_anchor(wrong)
    with pytest.raises(Invalid):
        parse_anchor(str(anchor).replace(str(anchor.unit_id), "-" * 36))


def test_the_key_of_a_plane_is_a_reference_and_is_never_quoted(tmp_path: Path) -> None:
    settings = tmp_path / "perdure.toml"
    settings.write_text('work_key = "secret://env/PERDURE_WORK_KEY"\n', encoding="utf-8")
    assert read_settings(settings) == {"work_key": "secret://env/PERDURE_WORK_KEY"}
    assert make_config(work_key="secret://env/PERDURE_WORK_KEY").work_key == "secret://env/PERDURE_WORK_KEY"
    settings.write_text(f'work_key = "{"k" * 32}"\n', encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        read_settings(settings)
    assert "kkk" not in caught.value.message
    with pytest.raises(Invalid) as caught:
        make_config(work_key="k" * 32)
    assert "kkk" not in caught.value.message
