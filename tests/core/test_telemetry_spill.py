"""What is spilled is written at the next start, whatever was on its way to disk when the process ended."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.telemetry_spill import SUFFIX, left_behind
from perdure.errors import BackendDown
from perdure.testing.environment import CountingIds
from tests.support.telemetry import Sink, Works

pytestmark = pytest.mark.fast


def spilling(folder: Path, sink: Sink, *, space: int = 0, spill_bytes_max: int = 1_000_000) -> Works:
    """A buffer with a spill, whose thread is not begun: the test says when."""
    settings = TelemetrySettings(spill_dir=folder, spill_bytes_max=spill_bytes_max)
    works = Works(sink, settings=settings)
    assert works.flusher._spill is not None
    works.flusher._spill._new_id = CountingIds(space).new
    folder.mkdir(exist_ok=True)
    works.buffer.spill_fresh()
    return works


def segments_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def spill(works: Works) -> None:
    assert works.flusher._spill is not None
    works.flusher._spill.once()


def killed(works: Works) -> None:
    """As SIGKILL: no more than that the files are let go of."""
    assert works.flusher._spill is not None
    for segment in works.flusher._spill._segments:
        segment.close(remove=False)


async def test_what_was_spilled_is_written_at_the_next_start_and_the_file_is_gone(tmp_path: Path) -> None:
    works = spilling(tmp_path / "spill", Sink())
    works.record(0, {"password": "p4ss"}, 2)
    spill(works)
    works.record("not yet on disk")
    killed(works)
    (segment,) = segments_in(tmp_path / "spill")
    assert (stat.S_IMODE(segment.stat().st_mode), b"p4ss" in segment.read_bytes()) == (0o600, False)

    sink = Sink()
    after = spilling(tmp_path / "spill", sink, space=1)
    await after.flusher._replay_left_behind()
    assert sink.details == ["0", '{"password":"__redacted__"}', "2"]
    assert (after.flusher.stats().replayed, segments_in(tmp_path / "spill")) == (3, [])


async def test_entries_that_were_written_before_the_kill_are_written_once(tmp_path: Path) -> None:
    sink = Sink()
    works = spilling(tmp_path, sink)
    works.record(*range(4))
    spill(works)
    await works.flusher.flush(2)
    killed(works)
    await spilling(tmp_path, sink, space=1).flusher._replay_left_behind()
    assert sink.details == ["0", "1", "2", "3"]


@pytest.mark.parametrize("cut", [1, 40, 10_000])
async def test_a_torn_tail_is_cut(tmp_path: Path, cut: int) -> None:
    works = spilling(tmp_path, Sink())
    works.record(*range(3))
    spill(works)
    killed(works)
    (segment,) = segments_in(tmp_path)
    data = segment.read_bytes()
    segment.write_bytes(data[:-cut] if cut < len(data) else data + b'{"torn":')
    sink = Sink()
    await spilling(tmp_path, sink, space=1).flusher._replay_left_behind()
    assert sink.details == (["0", "1"] if cut < len(data) else ["0", "1", "2"])


async def test_a_segment_of_a_process_that_runs_is_left_alone(tmp_path: Path) -> None:
    works = spilling(tmp_path, Sink())
    works.record(0)
    spill(works)
    assert list(left_behind(tmp_path)) == []
    killed(works)
    assert len(list(left_behind(tmp_path))) == 1


async def test_what_cannot_be_written_stays_for_the_next_start(tmp_path: Path) -> None:
    works = spilling(tmp_path, Sink())
    works.record(0, 1)
    spill(works)
    killed(works)

    def down(records: object) -> None:
        del records
        raise BackendDown("nothing answers")

    await spilling(tmp_path, Sink(down), space=1).flusher._replay_left_behind()
    sink = Sink()
    await spilling(tmp_path, sink, space=2).flusher._replay_left_behind()
    assert sink.details == ["0", "1"]


async def test_segments_are_removed_when_all_of_them_is_written_and_bounded_until_then(tmp_path: Path) -> None:
    works = spilling(tmp_path, Sink(), spill_bytes_max=4_000)
    for number in range(30):
        works.record(number)
        spill(works)
    stats = works.flusher.stats()
    assert (stats.spilled + stats.unspilled, stats.unspilled > 0) == (30, True)
    segments = segments_in(tmp_path)
    assert (len(segments) > 3, sum(segment.stat().st_size for segment in segments) <= 4_000) == (True, True)
    await works.flusher.flush_all()
    spill(works)
    assert segments_in(tmp_path) == []


async def test_stopping_leaves_on_disk_what_could_not_be_written_and_calls_none_of_it_lost(tmp_path: Path) -> None:
    def down(records: object) -> None:
        del records
        raise BackendDown("nothing answers")

    works = spilling(tmp_path, Sink(down))
    works.record(*range(3))
    stopped = await works.flusher.stop(0.01)
    assert (stopped.lost, works.flusher.stats().dropped, works.flusher.stats().is_balanced) == (0, {"spilled": 3}, True)
    sink = Sink()
    await spilling(tmp_path, sink, space=1).flusher._replay_left_behind()
    assert sink.details == ["0", "1", "2"]
