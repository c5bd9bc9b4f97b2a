"""Every file operation fails once: what was acknowledged is there afterwards, whole, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from perdure.adapters.filesystem.driver import Fsync
from tests.adapters.filesystem.documents import State, Told, stored, tell_story
from tests.adapters.filesystem.faulty_files import FaultyFiles, FilesThatForget, FoundNames, When

TAILS = (0.0, 0.6, 1.0)
BY_THREES = [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)]


async def operations_of_the_story(folder: Path, *, fsync: Fsync = "always") -> list[str]:
    files = FaultyFiles()
    told = await tell_story(folder / "undisturbed", files, fsync=fsync)
    assert (told.refused, told.possible) == ([], [])
    assert stored(folder / "undisturbed") == told.sure
    # The story is worth telling: files were begun, replaced and removed on the way.
    assert files.operations.count("rename") > 6
    assert files.operations.count("remove") > 3
    return files.operations


async def disturbed(directory: Path, number: int, when: When) -> tuple[Told, State]:
    files = FaultyFiles()
    files.fail(number, when)
    told = await tell_story(directory, files)
    return told, stored(directory)


async def fail_each(folder: Path, when: When, numbers: slice) -> None:
    operations = await operations_of_the_story(folder)
    for number, name in [*enumerate(operations)][numbers]:
        if when == "half" and name != "write":
            continue  # only a write can be done by half
        told, found = await disturbed(folder / str(number), number, when)
        assert found in told.allowed, f"operation {number}, {name}"
        if when == "half" and number > operations.index("rename"):
            assert len(told.refused) <= 1, "a write that was undone forbids nothing"


@pytest.mark.parametrize("when", ["before", "half"])
async def test_whichever_operation_fails_what_was_acknowledged_is_there(tmp_path: Path, when: When) -> None:
    await fail_each(tmp_path, when, slice(None))


@pytest.mark.parametrize("first", BY_THREES)
@pytest.mark.parametrize("when", ["after", "from then on"])
async def test_whatever_fails_though_it_was_done_or_for_good_leaves_what_was_acknowledged(
    tmp_path: Path, when: When, first: int
) -> None:
    await fail_each(tmp_path, when, slice(first, None, 3))


async def test_an_operation_after_the_last_does_not_fail(tmp_path: Path) -> None:
    operations = await operations_of_the_story(tmp_path)
    told, found = await disturbed(tmp_path / "again", len(operations), "before")
    assert (told.refused, found) == ([], told.sure)


async def lose_power_at(folder: Path, number: int, *, fsync: Fsync) -> tuple[Told, list[State]]:
    """The power fails at one operation: what the story was told, and what may be found of it then."""
    files = FilesThatForget()
    files.fail(number, "from then on")
    (folder / "directory").mkdir(mode=0o700, parents=True)
    told = await tell_story(folder / "directory", files, fsync=fsync)
    found = []
    for tail in TAILS:
        for names in get_args(FoundNames):
            files.lose_power(folder / "directory", folder / "left", names=names, tail=tail)
            found.append(stored(folder / "left"))
    return told, found


@pytest.mark.parametrize("first", BY_THREES)
async def test_what_was_acknowledged_survives_a_power_failure(tmp_path: Path, first: int) -> None:
    operations = await operations_of_the_story(tmp_path)
    for number in range(first, len(operations), 3):
        told, found = await lose_power_at(tmp_path / str(number), number, fsync="always")
        assert all(state in told.allowed for state in found), f"operation {number}, {operations[number]}"


@pytest.mark.parametrize("first", BY_THREES)
async def test_without_syncs_a_power_failure_leaves_what_was_there_at_some_time(tmp_path: Path, first: int) -> None:
    operations = await operations_of_the_story(tmp_path, fsync="never")
    lost = 0
    for number in range(first, len(operations), 3):
        told, found = await lose_power_at(tmp_path / str(number), number, fsync="never")
        there_at_some_time = [*told.history, *told.possible]
        assert all(state in there_at_some_time for state in found), f"operation {number}, {operations[number]}"
        lost += any(state not in told.allowed for state in found)
    assert lost > 0, "acknowledged commits are lost without syncs, or this test proves nothing"
