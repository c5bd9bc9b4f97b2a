"""Snapshots back into a directory: checked before anything is written, and there as a whole or not at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Final

from perdure.core.snapshot_browsing import locate, read_content, read_directory
from perdure.core.snapshot_limits import Progress, SnapshotLimits, SnapshotProgress, too_deep, too_many_files
from perdure.core.snapshot_work import each, in_thread
from perdure.core.snapshot_writing import Place
from perdure.core.turns import Turns
from perdure.domain.tree import EntryKind, TreeEntry
from perdure.errors import Corrupt, Forbidden

LINK_BYTES_MAX: Final = 4_095  # a path of the usual systems, which end it with a byte of their own
HOPS_MAX: Final = 40  # links on the way of one path: what Linux follows, and others no more

_Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was written. ``directories`` counts the root too, ``bytes`` those of files."""

    root: str
    files: int
    directories: int
    symlinks: int
    bytes: int


async def restore(
    turns: Turns,
    turn_id: str,
    directory: str | PathLike[str],
    *,
    limits: SnapshotLimits | None = None,
    outside_links: bool = False,
    progress: Progress | None = None,
    timeout_s: float | None = None,
) -> Restored:
    """Write the snapshot of a turn, or of its nearest ancestor that has one, to a directory that is new or empty.

    It is there as a whole, every byte verified, or not at all: it is written beside the directory and renamed. All
    names and links are checked before. A link that leads out of the directory, by itself or through others, is
    ``Forbidden``; with ``outside_links`` it is made as it is. Owners and times are not kept in snapshots, and no mode
    gives more than the nine bits of permissions.

    Raises ``NotFound``, ``Invalid`` for a directory that is not empty, ``Corrupt`` for what cannot have been written by
    ``capture`` or is not all there, ``LimitExceeded`` above ``files_max`` or ``depth_max``.
    """
    place = Place(fspath(directory))
    await in_thread(place.check)
    found = await locate(turns, turn_id, timeout_s=timeout_s)
    plan = _Plan(turns, limits=limits or SnapshotLimits(), timeout_s=timeout_s)
    await plan.read(found.entry)
    if not outside_links:
        plan.check_links()
    try:
        await in_thread(place.prepare)
        await in_thread(place.make_directories, [parts for parts, _ in plan.directories])
        written = await _write_files(turns, plan, place, progress=progress, timeout_s=timeout_s)
        await in_thread(place.finish, plan.links.items(), plan.directories)
    except BaseException:
        await in_thread(place.discard)
        raise
    return Restored(
        root=found.root,
        files=sum(map(len, plan.files.values())),
        directories=len(plan.directories) + 1,
        symlinks=len(plan.links),
        bytes=written,
    )


async def _write_files(
    turns: Turns, plan: _Plan, place: Place, *, progress: Progress | None, timeout_s: float | None
) -> int:
    """Every file; each content is fetched once, however many files have it."""
    total = sum(map(len, plan.files.values()))
    done = written = 0

    async def write(entries: list[tuple[_Parts, TreeEntry]]) -> None:
        """All files of one content."""
        nonlocal done, written
        content = await read_content(turns, entries[0][1], "/".join(entries[0][0]), timeout_s=timeout_s)
        for parts, entry in entries:
            await in_thread(place.write, parts, content, entry.mode)
            done += 1
            written += len(content)
            if progress is not None:
                progress(SnapshotProgress(done=done, total=total, bytes=written))

    await each(plan.files.values(), write)
    return written


class _Plan:
    """What there is in a snapshot: directories from the top down, files by content, links with their targets."""

    def __init__(self, turns: Turns, *, limits: SnapshotLimits, timeout_s: float | None) -> None:
        self._turns = turns
        self._limits = limits
        self._timeout_s = timeout_s
        self._count = self._kept = 0
        self._trees: dict[bytes, tuple[TreeEntry, ...]] = {}
        self._linking: list[tuple[_Parts, TreeEntry]] = []
        self.directories: list[tuple[_Parts, int]] = []
        self.files: dict[bytes, list[tuple[_Parts, TreeEntry]]] = {}
        self.links: dict[_Parts, bytes] = {}

    async def read(self, root: TreeEntry) -> None:
        """Read every tree, a level at a time, and where links lead."""
        level: list[tuple[_Parts, TreeEntry]] = [((), root)]
        while level:
            unread = {entry.hash: (parts, entry) for parts, entry in level if entry.hash not in self._trees}
            await each(unread.values(), self._read_tree)
            level = [one for parts, entry in level for one in self._sort(parts, self._trees[entry.hash])]
        self._trees.clear()
        await each(self._linking, self._read_link)

    def check_links(self) -> None:
        """Raise ``Forbidden`` for a link that leads out."""
        folded = {_folded(parts): target for parts, target in self.links.items()}
        for parts, target in self.links.items():
            if leads_out(parts, self.links) or leads_out(_folded(parts), folded, fold=_fold):
                raise Forbidden(
                    f"link {_path(parts)[:200]!a} of the snapshot leads out of the directory ({len(target)} bytes of "
                    "target); to make it all the same, restore with outside_links",
                    code="snapshot_link_leads_out",
                    path=_path(parts),
                )

    async def _read_tree(self, found: tuple[_Parts, TreeEntry]) -> None:
        parts, entry = found
        entries = await read_directory(self._turns, entry, _path(parts), timeout_s=self._timeout_s)
        self._kept += len(entries)  # none of them will be there less than once
        if self._kept > self._limits.files_max:
            raise too_many_files(self._limits.files_max, self._kept)
        self._trees[entry.hash] = entries

    async def _read_link(self, found: tuple[_Parts, TreeEntry]) -> None:
        parts, entry = found
        target = await read_content(self._turns, entry, _path(parts), timeout_s=self._timeout_s)
        if not target or b"\0" in target or len(target) > LINK_BYTES_MAX:
            raise Corrupt(
                f"link {_path(parts)[:200]!a} of a snapshot has no target that a link can have: expected 1 to "
                f"{LINK_BYTES_MAX} bytes (link_bytes_max), none of them zero"
            )
        self.links[parts] = target

    def _sort(self, parts: _Parts, entries: tuple[TreeEntry, ...]) -> list[tuple[_Parts, TreeEntry]]:
        """Remember what is in a directory; the directories in it."""
        self._count += len(entries)
        if self._count > self._limits.files_max:
            raise too_many_files(self._limits.files_max, self._count)
        inside: list[tuple[_Parts, TreeEntry]] = []
        names: set[str] = set()
        for entry in entries:
            _check_name(entry.name, parts, names)
            place = (*parts, entry.name)
            if entry.kind is EntryKind.DIRECTORY:
                if len(parts) == self._limits.depth_max:
                    raise too_deep(_path(place), self._limits.depth_max)
                self.directories.append((place, entry.mode))
                inside.append((place, entry))
            elif entry.kind is EntryKind.SYMLINK:
                self._linking.append((place, entry))
            else:
                self.files.setdefault(entry.hash, []).append((place, entry))
        return inside


def _check_name(name: str, parts: _Parts, names: set[str]) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Corrupt(
            f"a name in {_path(parts)[:200]!a} of a snapshot is empty, '.', '..' or holds '/' or NUL; whoever wrote it "
            "wanted to write elsewhere: nothing is written"
        )
    if name in names:
        raise Corrupt(f"two entries of {_path(parts)[:200]!a} of a snapshot have the same name: nothing is written")
    names.add(name)


def leads_out(link: _Parts, links: Mapping[_Parts, bytes], *, fold: Callable[[str], str] = str) -> bool:
    """Whether a link leads out of the directory that all these links are in, by itself or through others.

    As the system follows it: from the link's own directory, and ``..`` from where a link led to. One that leads back to
    itself leads nowhere, and so not out; one through more than ``HOPS_MAX`` others is not trusted. ``fold`` is what the
    filesystem does to names.
    """
    at: list[str] = list(link[:-1])
    waiting: list[str | _Parts] = [link[-1]]
    following: set[_Parts] = set()
    hops = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):  # the end of what that link says
            following.discard(part)
            continue
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return True
            at.pop()
            continue
        place = (*at, part)
        target = links.get(place)
        if target is None:
            at.append(part)
            continue
        if place in following:
            return False
        hops += 1
        if target.startswith(b"/") or hops > HOPS_MAX:
            return True
        following.add(place)
        waiting.append(place)
        waiting.extend(fold(name) for name in reversed(target.decode(errors="surrogateescape").split("/")))
    return False


def _folded(parts: _Parts) -> _Parts:
    return tuple(map(_fold, parts))


def _fold(name: str) -> str:
    """As a filesystem that does not tell letters apart may know a name."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _path(parts: _Parts) -> str:
    return "/".join(parts)
