"""What was in a directory at a turn is found by its path, and by no other way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.core.snapshots import DEPTH_MAX, browse, capture, locate
from perdure.domain.tree import EntryKind, TreeEntry
from perdure.errors import Corrupt, Invalid, LimitExceeded, NotFound
from tests.support.snapshots import Kept, kept, write_tree


@pytest.fixture
async def there() -> AsyncIterator[Kept]:
    async with kept() as found:
        yield found


async def test_a_turn_without_a_snapshot_has_that_of_the_nearest_before_it(there: Kept, tmp_path: Path):
    write_tree(tmp_path, {"d": {"f": b"1"}})
    await capture(there.turns, tmp_path, turn_id=there.turn_id)
    later = await there.turns.append(there.context_id, b"ho", type_id="note")
    assert await browse(there.turns, later.turn_id, "d/f") == b"1"
    (tmp_path / "d" / "f").write_bytes(b"2")
    await capture(there.turns, tmp_path, turn_id=later.turn_id)
    assert await browse(there.turns, later.turn_id, "d/f") == b"2"
    assert await browse(there.turns, there.turn_id, "d/f") == b"1"


async def test_a_path_is_looked_at_part_by_part(there: Kept, tmp_path: Path):
    with pytest.raises(NotFound, match="no snapshot"):
        await browse(there.turns, there.turn_id)
    write_tree(tmp_path, {"d": {"f": b"f"}, "l": "d"})
    root = (await capture(there.turns, tmp_path, turn_id=there.turn_id)).root
    found = await locate(there.turns, there.turn_id, "d/f")
    assert (found.root, found.entry.name, found.entry.size) == (root, "f", 1)
    assert (await locate(there.turns, there.turn_id)).entry.hash.hex() == root
    for path in ("x", "d/x"):
        with pytest.raises(NotFound, match="there is no"):
            await browse(there.turns, there.turn_id, path)
    for path in ("d/f/x", "l/f"):
        with pytest.raises(Invalid, match="no directory of the snapshot"):
            await browse(there.turns, there.turn_id, path)
    for path in ("/d", "d/", "d//f", "../d", "d/../d", ".", "d\0"):
        with pytest.raises(Invalid, match="no path in a snapshot"):
            await browse(there.turns, there.turn_id, path)
    deepest = "/".join(["d"] * (DEPTH_MAX + 1))
    with pytest.raises(NotFound):
        await browse(there.turns, there.turn_id, deepest)
    with pytest.raises(LimitExceeded, match="depth_max"):
        await browse(there.turns, there.turn_id, f"{deepest}/d")


async def test_what_others_wrote_is_read_as_far_as_it_goes(there: Kept):
    gone = TreeEntry(name="gone", hash=b"\x01" * 32)
    await there.attach(await there.file("f", b"f"), gone, await there.folder("d"))
    assert await browse(there.turns, there.turn_id, "f") == b"f"
    with pytest.raises(Corrupt, match="an object that is gone"):
        await browse(there.turns, there.turn_id, "gone")
    no_tree = TreeEntry(name="d", kind=EntryKind.DIRECTORY, hash=gone.hash)
    await there.attach(no_tree)
    with pytest.raises(Corrupt, match="an object that is gone"):
        await browse(there.turns, there.turn_id, "d/f")
