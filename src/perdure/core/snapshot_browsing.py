"""Looking into the snapshot of a turn."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.core.snapshot_limits import DEPTH_MAX, too_deep
from perdure.core.turns import Turns
from perdure.domain.tree import TREE_HASH_BYTES, EntryKind, TreeEntry, decode_tree
from perdure.errors import Corrupt, Invalid, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An entry of a snapshot; that of the root has no name and no mode of its own."""

    root: str
    entry: TreeEntry


async def locate(turns: Turns, turn_id: str, path: str = "", *, timeout_s: float | None = None) -> Located:
    """The entry at a path of the snapshot of a turn, or of its nearest ancestor that has one.

    A path is relative, with slashes; empty is the root. Links are not followed. Raises ``NotFound`` if there is no
    snapshot or no such path, and ``Invalid`` for a path through something that is no directory, or with ``..`` or empty
    parts.
    """
    parts = _parts(path)
    root = await turns.snapshot(turn_id, timeout_s=timeout_s)
    if root is None:
        raise NotFound(f"turn {turn_id} has no snapshot, and none before it has", resource="snapshot", id=turn_id)
    entry = TreeEntry(kind=EntryKind.DIRECTORY, hash=bytes.fromhex(root))
    for place, part in enumerate(parts):
        before = "/".join(parts[:place])
        if entry.kind is not EntryKind.DIRECTORY:
            raise Invalid(f"{before[:200]!a} is no directory of the snapshot, so there is nothing in it")
        found = await read_directory(turns, entry, before, timeout_s=timeout_s)
        following = next((one for one in found if one.name == part), None)
        if following is None:
            raise NotFound(f"there is no {path[:200]!a} in the snapshot of turn {turn_id}", resource="path", id=path)
        entry = following
    return Located(root=root, entry=entry)


async def browse(
    turns: Turns, turn_id: str, path: str = "", *, timeout_s: float | None = None
) -> tuple[TreeEntry, ...] | bytes:
    """The entries of a directory of the snapshot of a turn; of a file its bytes, of a link its target.

    As ``locate``; what is read is verified.
    """
    entry = (await locate(turns, turn_id, path, timeout_s=timeout_s)).entry
    if entry.kind is EntryKind.DIRECTORY:
        return await read_directory(turns, entry, path, timeout_s=timeout_s)
    return await read_content(turns, entry, path, timeout_s=timeout_s)


async def read_directory(
    turns: Turns, entry: TreeEntry, path: str, *, timeout_s: float | None = None
) -> tuple[TreeEntry, ...]:
    """What is in a directory, verified. ``path`` is what errors call it."""
    return decode_tree(await read_content(turns, entry, path, timeout_s=timeout_s))


async def read_content(turns: Turns, entry: TreeEntry, path: str, *, timeout_s: float | None = None) -> bytes:
    """The bytes of an entry, verified. ``path`` is what errors call it."""
    if len(entry.hash) != TREE_HASH_BYTES:
        raise Corrupt(f"{path[:200]!a} of a snapshot has no address of {TREE_HASH_BYTES} bytes, so nobody can find it")
    content = await turns.find_blob(entry.hash.hex(), timeout_s=timeout_s)
    if content is None:
        raise Corrupt(
            f"{path[:200]!a} of a snapshot is an object that is gone ({entry.hash.hex()}); restore it from a backup",
            path=path,
            digest=entry.hash.hex(),
        )
    return content


def _parts(path: str) -> tuple[str, ...]:
    if path == "":
        return ()
    parts = tuple(path.split("/"))
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise Invalid(
            f"{path[:200]!a} is no path in a snapshot; expected names with a slash between them, none of them empty, "
            "'.' or '..'"
        )
    if len(parts) > DEPTH_MAX + 1:
        raise too_deep(path, DEPTH_MAX)
    return parts
