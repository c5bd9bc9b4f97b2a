"""A process with 16 producers and a store that keeps failing is forked, ended and killed: nothing accepted is lost."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.children import Child, child

MODULE = "tests.faults.telemetry_recorder"


def kept(folder: Path) -> Counter[str]:
    """What stands in the store, each id with how often it was written."""
    path = folder / "kept.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(json.loads(line)[0] for line in lines)


def details(folder: Path) -> list[list[int]]:
    """The details of what is kept, once each, in the order in which it was written."""
    lines = (folder / "kept.jsonl").read_text().splitlines()
    return list(dict(json.loads(line) for line in lines).values())


async def looked(running: Child, wanted: str, *, at_least: int) -> list[Any]:
    """What it says until the last number of a look reaches that."""
    said: list[Any] = []
    place = {"accepted": 2, "spilled": 3, "replayed": 4}[wanted]
    while not (said and said[-1][0] == "look" and said[-1][place] >= at_least):
        more = await running.said(1)
        assert more, "it ended by itself"
        said += more
    return said


async def test_r81_sigterm_drains_sixteen_producers_whose_store_fails_at_random(tmp_path: Path) -> None:
    task = {"folder": str(tmp_path), "failures": 0.4, "spill": False, "fork": True, "produce": True}
    async with child(MODULE, task) as running:
        said = await looked(running, "accepted", at_least=1_000)
        while not any(one[0] == "fork" for one in said):
            said += await looked(running, "accepted", at_least=1_000)
        os.kill(running.pid, signal.SIGTERM)
        said += await running.said()
        assert await running.ended() == 0
    looks = [one for one in said if one[0] == "look"]
    assert [one for one in looks if not one[1]] == [], "the numbers add up at every look"
    assert [one[1] for one in said if one[0] == "fork"] == [0]
    balanced, told, accepted, flushed, lost, pending = said[-1][1:]
    assert (balanced, told, flushed, lost, pending) == (True, accepted, accepted, 0, 0)
    assert len(kept(tmp_path)) == accepted


async def test_r80_sigkill_with_a_spill_takes_no_more_than_what_was_recorded_last(tmp_path: Path) -> None:
    task = {"folder": str(tmp_path), "failures": 1, "spill": True, "fork": False, "produce": True}
    async with child(MODULE, task) as running:
        said = await looked(running, "spilled", at_least=500)
        running.kill()
        said += await running.said()
        assert await running.ended() == -signal.SIGKILL
    spilled = max(one[3] for one in said)
    assert kept(tmp_path) == Counter()
    async with child(MODULE, {**task, "failures": 0, "produce": False}) as after:
        await looked(after, "replayed", at_least=spilled)
        os.kill(after.pid, signal.SIGTERM)
        assert await after.ended() == 0
    written = details(tmp_path)
    assert len(written) >= spilled
    for producer in range(16):
        numbers = sorted(number for one, number in written if one == producer)
        assert numbers == list(range(len(numbers))), "what is lost is what came last, and nothing before it"
    assert list((tmp_path / "spill").glob("*.spill")) == []
