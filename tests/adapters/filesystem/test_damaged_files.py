"""What is found on the disk is what was written, or it is said that it is not: nothing damaged is ever passed over."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path

import pytest

from perdure.adapters.filesystem.directory import MANIFEST_NAME, segment_path
from perdure.adapters.filesystem.log_format import FRAME_BYTES_MAX, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from perdure.adapters.filesystem.store import FilesystemLimits
from perdure.errors import Corrupt, DigestMismatch, LegacyArtifact
from tests.adapters.filesystem.documents import State, commit, documents, opened, put, stored

LAST = ("k3", 1, b'"three"')


async def small_log(directory: Path) -> tuple[list[State], list[int]]:
    """A log of one segment: the state after each commit, and where each commit's frame ends."""
    states, ends = [], [SEGMENT_HEADER_BYTES]
    async with opened(directory) as driver:
        for sort, body in (("k1", b'"one"'), ("k2", b'"two"'), ("k3", b'"three"')):
            await commit(driver, put(sort, 1, body))
            states.append(
                {("p1", document.sort): (1, document.body, "c") for document in (await documents(driver)).values()}
            )
            ends.append(segment_path(directory, 1).stat().st_size)
    assert stored(directory) == states[-1]
    return states, ends


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


async def test_a_write_cut_short_anywhere_is_cut_off_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "documents"
    states, ends = await small_log(directory)
    segment = segment_path(directory, 1)
    whole = segment.read_bytes()
    for length in range(ends[-2], ends[-1]):
        segment.write_bytes(whole[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert stored(directory) == states[-2]
        assert len(segment.read_bytes()) == ends[-2]
        messages = [record.getMessage() for record in caplog.records]
        cut = length - ends[-2]
        assert messages == ([f"cut off a write that was interrupted: {cut} bytes"] if cut else [])
    async with opened(directory) as driver:
        await commit(driver, put(*LAST))
    assert segment.read_bytes() == whole


async def test_zeros_where_a_write_was_to_be_are_cut_off(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    states, ends = await small_log(directory)
    segment = segment_path(directory, 1)
    segment.write_bytes(segment.read_bytes()[: ends[-2]] + bytes(4_096))
    assert stored(directory) == states[-2]


async def test_more_than_one_write_can_be_is_not_a_write_cut_short(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    states, ends = await small_log(directory)
    segment = segment_path(directory, 1)
    whole = segment.read_bytes()[: ends[-2]]
    segment.write_bytes(whole + bytes(FRAME_HEADER_BYTES + FRAME_BYTES_MAX + 1))
    with pytest.raises(DigestMismatch):
        stored(directory)
    segment.write_bytes(whole + bytes(FRAME_HEADER_BYTES + FRAME_BYTES_MAX))
    assert stored(directory) == states[-2]


def stored_or_refused(directory: Path) -> State | Corrupt:
    try:
        return stored(directory)
    except Corrupt as exc:
        return exc


async def flip_and_look(directory: Path, *, step: int) -> tuple[int, int]:
    """Flip bits, one after the other; how many were refused, and how many cut the last commit off."""
    states, ends = await small_log(directory)
    kept = directory.with_name("kept")
    shutil.copytree(directory, kept)
    refused = cut = 0
    for name, data in contents(kept).items():
        for bit in range(0, len(data) * 8, step):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            (directory / name).write_bytes(flipped)
            before = contents(directory)
            found = stored_or_refused(directory)
            if isinstance(found, Corrupt):
                refused += 1
                assert contents(directory) == before, "whoever looks finds it as it is"
                assert str(directory / name) in str(found)
            else:
                cut += 1
                assert name != MANIFEST_NAME
                assert found == states[-2]
                assert bit // 8 >= ends[-2], f"bit {bit} of {name} is of an earlier commit"
            (directory / name).write_bytes(data)
    return refused, cut


# 9 and 8 have no common divisor: every byte, and each bit of a byte as often as the others.
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
async def test_every_flipped_bit_is_refused_or_was_in_the_last_write(tmp_path: Path, step: int) -> None:
    refused, cut = await flip_and_look(tmp_path / "documents", step=step)
    assert refused > cut > 0


async def test_damage_before_the_end_names_the_segment_and_the_byte(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    _, ends = await small_log(directory)
    segment = segment_path(directory, 1)
    data = bytearray(segment.read_bytes())
    data[ends[1] + FRAME_HEADER_BYTES] ^= 1
    segment.write_bytes(data)
    with pytest.raises(DigestMismatch, match=f"{segment.name} is damaged at byte {ends[1]}") as caught:
        stored(directory)
    assert caught.value.detail == {"segment": 1, "offset": ends[1]}
    assert "restore a backup" in str(caught.value)
    assert segment.read_bytes() == data


async def test_a_record_after_a_damaged_one_forbids_to_cut(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    states, ends = await small_log(directory)
    segment = segment_path(directory, 1)
    data = segment.read_bytes()
    # The second commit's bytes are gone, the third's are there: though it was cut short itself, something followed.
    for length in range(ends[2] + 4, ends[3] + 1):
        damaged = data[: ends[1]] + bytes(ends[2] - ends[1]) + data[ends[2] : length]
        segment.write_bytes(damaged)
        with pytest.raises(DigestMismatch):
            stored(directory)
        assert segment.read_bytes() == damaged
    segment.write_bytes(data)
    assert stored(directory) == states[-1]


async def test_a_record_moved_to_another_place_is_no_record(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    _, ends = await small_log(directory)
    segment = segment_path(directory, 1)
    data = segment.read_bytes()
    first, second = data[ends[0] : ends[1]], data[ends[1] : ends[2]]
    assert len(first) == len(second)
    segment.write_bytes(data[: ends[0]] + second + first + data[ends[2] :])
    with pytest.raises(DigestMismatch):
        stored(directory)


async def several_segments(directory: Path) -> State:
    async with opened(directory, limits=FilesystemLimits(segment_bytes_max=100)) as driver:
        for number in range(3):
            await commit(driver, put(f"k{number}", 1, b'"%s"' % (b"x" * 100)))
    assert [segment_path(directory, number).exists() for number in (1, 2, 3, 4)] == [True, True, True, False]
    return stored(directory)


@pytest.mark.parametrize("name", ["segment-0000000000000001", "segment-0000000000000002", "segment-0000000000000003"])
async def test_a_missing_segment_is_refused(tmp_path: Path, name: str) -> None:
    await several_segments(tmp_path / "documents")
    (tmp_path / "documents" / name).unlink()
    with pytest.raises(Corrupt, match=f"{name} is missing"):
        stored(tmp_path / "documents")


async def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    await several_segments(tmp_path / "documents")
    (tmp_path / "documents" / MANIFEST_NAME).unlink()
    with pytest.raises(Corrupt, match="manifest is missing, and segments are there"):
        stored(tmp_path / "documents")


async def test_a_completed_segment_that_got_shorter_or_longer_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    await several_segments(directory)
    segment = segment_path(directory, 1)
    data = segment.read_bytes()
    for damaged in (data[:SEGMENT_HEADER_BYTES], data[:-1], data + b"\0"):
        segment.write_bytes(damaged)
        with pytest.raises(Corrupt, match=f"had {len(data)} when it was completed"):
            stored(directory)
        assert segment.read_bytes() == damaged


async def test_a_segment_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    await several_segments(directory)
    segment_path(directory, 1).write_bytes(segment_path(directory, 2).read_bytes())
    with pytest.raises(Corrupt):
        stored(directory)


@pytest.mark.parametrize("name", ["segment-0000000000000001", MANIFEST_NAME])
async def test_a_newer_format_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "documents"
    await small_log(directory)
    data = bytearray((directory / name).read_bytes())
    struct.pack_into("<H", data, 8, 2)
    (directory / name).write_bytes(data)
    with pytest.raises(LegacyArtifact, match="has format 2, and this release reads up to 1; use a newer release"):
        stored(directory)


async def test_what_a_start_finds_left_over_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    state = await several_segments(directory)
    segment_path(directory, 77).write_bytes(b"half a segment")
    (directory / "manifest.draft").write_bytes(b"half a manifest")
    assert stored(directory) == state
    assert not segment_path(directory, 77).exists()
    assert not (directory / "manifest.draft").exists()


async def test_a_first_start_that_was_interrupted_is_no_obstacle(tmp_path: Path) -> None:
    directory = tmp_path / "documents"
    directory.mkdir()
    (directory / "lock").write_bytes(b"")
    (directory / "manifest.draft").write_bytes(b"half a manifest")
    assert stored(directory) == {}
    assert not (directory / "manifest.draft").exists()
