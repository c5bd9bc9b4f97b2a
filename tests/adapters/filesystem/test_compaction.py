"""Dead bytes are given back, while commits go on; whoever stops it half way loses nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from perdure.adapters.filesystem.compaction import DEAD_BYTES_MIN, is_due
from perdure.adapters.filesystem.driver import FilesystemDriver
from perdure.adapters.filesystem.store import FilesystemLimits
from perdure.ports.documents import Expect, Put, Remove
from tests.adapters.filesystem.documents import commit, documents, opened, put, rewritten, stored
from tests.adapters.filesystem.faulty_files import FaultyFiles, FilesThatForget

LIMITS = FilesystemLimits(dead_bytes_min=5_000)
BODY = b'"%s"' % (b"x" * 500)
REWRITING = "perdure-rewriting"


def bytes_of_segments(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("segment-*"))


async def fill(driver: FilesystemDriver, *, times: int = 1) -> None:
    """Write ten documents, and as often again over them."""
    for version in range(times):
        await commit(driver, *(put(f"k{number}", version, BODY) for number in range(10)))


async def test_what_is_dead_is_given_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "documents", limits=LIMITS) as driver:
        for _ in range(10):
            await fill(driver, times=3)
            await rewritten(driver)
        before = await documents(driver)
    assert bytes_of_segments(tmp_path / "documents") < 20_000  # of 165 000 written, about 5 500 alive
    async with opened(tmp_path / "documents") as driver:
        assert await documents(driver) == before


async def test_what_is_alive_is_not_rewritten(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", limits=LIMITS, files=files) as driver:
        before = files.operations.count("rename")
        for number in range(100):
            await commit(driver, put(f"k{number}", 1, BODY))
            await rewritten(driver)
        assert files.operations.count("rename") == before


@pytest.mark.parametrize(
    ("log_bytes", "live_bytes", "appended_bytes", "due"),
    [
        (200, 100, 100, True),
        (200, 101, 100, False),  # fewer dead bytes than are worth it
        (200, 100, 99, False),  # too little happened since the last time
        (300, 150, 200, True),
        (301, 151, 200, False),  # less than half is dead
        (100, 0, 100, True),
    ],
)
def test_rewriting_is_due_at_its_thresholds(log_bytes: int, live_bytes: int, appended_bytes: int, *, due: bool) -> None:
    million = DEAD_BYTES_MIN // 100
    assert due == is_due(
        log_bytes=log_bytes * million,
        live_bytes=live_bytes * million,
        appended_bytes=appended_bytes * million,
        dead_bytes_min=100 * million,
    )


async def test_commits_go_on_while_it_is_rewritten_and_count(tmp_path: Path) -> None:
    files = FaultyFiles()
    limits = FilesystemLimits(dead_bytes_min=5_000, segment_bytes_max=4_000)
    async with opened(tmp_path / "documents", limits=limits, files=files) as driver:
        hold = files.hold("write", thread=REWRITING)
        await fill(driver, times=3)
        await hold.begin()
        for _ in range(2):  # more than one segment takes
            await commit(driver, *(put(f"k{number}", 50, BODY) for number in range(10)))
        await commit(driver, put("k0", 77), Remove(sort="k1", expect=Expect.ANY), put("new"))
        await commit(driver, put("only"), partition="p2")
        await commit(driver, Put(sort="k1", version=99, body=b"{}", expect=Expect.ABSENT))
        await commit(driver, Remove(sort="k2", expect=Expect.ANY))
        before = {partition: await documents(driver, partition) for partition in ("p1", "p2")}
        hold.let_go()
        await rewritten(driver)
        assert {partition: await documents(driver, partition) for partition in ("p1", "p2")} == before
    async with opened(tmp_path / "documents") as driver:
        assert {partition: await documents(driver, partition) for partition in ("p1", "p2")} == before
    assert {sort: document.version for sort, document in before["p1"].items()} == {
        **{f"k{number}": 50 for number in range(3, 10)},
        "k0": 77,
        "k1": 99,
        "new": 1,
    }


async def test_what_was_rewritten_does_not_outlive_the_rest_of_its_commit(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir(mode=0o700)
    files = FilesThatForget()
    large = b'"%s"' % (b"x" * 100_000)  # so that the last ones are gathered after the first ones are written
    limits = FilesystemLimits(dead_bytes_min=1_500_000)
    async with opened(tmp_path / "documents", fsync="never", limits=limits, files=files) as driver:
        hold = files.hold("write", thread=REWRITING)
        for version in (1, 2):
            for number in range(16):
                await commit(driver, put(f"k{number:02}", version, large))
        await hold.begin()
        await commit(driver, put("k00", 77), put("k15", 77))
        hold.let_go()
        await rewritten(driver)
        files.lose_power(tmp_path / "documents", tmp_path / "left", names="now", tail=0.0)
    found = stored(tmp_path / "left")
    assert len(found) == 16
    assert found["p1", "k00"][0] == found["p1", "k15"][0] == 77


async def test_closing_does_not_wait_for_it_to_finish(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = FaultyFiles()
    driver = FilesystemDriver(tmp_path / "documents", limits=LIMITS, files=files)
    await driver.open()
    hold = files.hold("write", thread=REWRITING)
    await fill(driver, times=3)
    await hold.begin()
    before = await documents(driver)
    closing = asyncio.create_task(driver.close())
    await asyncio.sleep(0)
    renames = files.operations.count("rename")
    hold.let_go()
    await closing
    assert files.operations.count("rename") == renames
    names = sorted(path.name for path in (tmp_path / "documents").iterdir())
    async with opened(tmp_path / "documents") as again:
        assert await documents(again) == before
        assert sorted(path.name for path in (tmp_path / "documents").iterdir()) == names
    assert caplog.records == []


@pytest.mark.parametrize("operation", ["open", "write", "sync", "close"])
async def test_a_failed_rewriting_is_told_costs_nothing_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    files = FaultyFiles()
    async with opened(tmp_path / "documents", limits=LIMITS, files=files) as driver:
        files.fail_next(operation, when="half", thread=REWRITING)
        with caplog.at_level(logging.ERROR):
            await fill(driver, times=3)
            await rewritten(driver)
        assert [record.getMessage() for record in caplog.records] == [
            "the documents could not be rewritten; it is tried again later"
        ]
        size = bytes_of_segments(tmp_path / "documents")
        assert size > 15_000
        await commit(driver, put("k0", 55, BODY))
        await fill(driver, times=2)
        await rewritten(driver)
        assert bytes_of_segments(tmp_path / "documents") < size
        before = await documents(driver)
    assert stored(tmp_path / "documents").keys() == {("p1", sort) for sort in before}


async def test_many_documents_are_rewritten_in_several_segments(tmp_path: Path) -> None:
    limits = FilesystemLimits(dead_bytes_min=4_000_000, segment_bytes_max=1_000_000)
    large = b'"%s"' % (b"x" * 100_000)
    async with opened(tmp_path / "documents", limits=limits) as driver:
        for version in range(3):
            for number in range(40):
                await commit(driver, put(f"k{number:02}", version, large), partition=f"p{number % 3}")
        await rewritten(driver)
    segments = sorted((tmp_path / "documents").glob("segment-*"))
    assert len(segments) > 3
    assert {key: version for key, (version, _, _) in stored(tmp_path / "documents").items()} == {
        (f"p{number % 3}", f"k{number:02}"): 2 for number in range(40)
    }
