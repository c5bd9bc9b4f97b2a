"""Snapshots of a directory: its files, directories and links as objects, and their root attached to a turn.

Equal directories have equal roots, whoever takes the snapshot and in whatever order names are listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Final

from perdure.core.snapshot_ignoring import IGNORE_DEFAULT, Ignored
from perdure.core.snapshot_limits import Progress, SnapshotLimits, SnapshotProgress, too_deep, too_many_files
from perdure.core.snapshot_reading import FileRead, Listing, Root, Seen, Unread
from perdure.core.snapshot_work import each, in_thread
from perdure.core.turns import Turns
from perdure.domain.object import check_same_digest, object_digest
from perdure.domain.tree import EntryKind, TreeEntry, encode_tree
from perdure.errors import Invalid

LINK_MODE: Final = 0o777  # what Linux says of every link; others say something else, and the root is to be the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A snapshot that was taken. ``root`` is its address, and that of equal directories.

    ``directories`` counts the root too, ``bytes`` those of files. ``skipped`` are paths that are not in it, each with
    the reason; ``ignored`` counts what the patterns left out (a directory once, however much is in it).
    """

    root: str
    files: int
    directories: int
    symlinks: int
    bytes: int
    ignored: int
    skipped: tuple[tuple[str, str], ...]


async def capture(
    turns: Turns,
    directory: str | PathLike[str],
    *,
    turn_id: str | None = None,
    ignore: Iterable[str] = IGNORE_DEFAULT,
    limits: SnapshotLimits | None = None,
    follow_symlinks: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    timeout_s: float | None = None,
) -> Captured:
    """Keep what is in a directory, and say that it was there at a turn; without ``turn_id`` it is only kept.

    A file is kept as it was at one moment: one that changes while it is read is read again. What cannot be read, is
    larger than ``file_bytes_max``, or is neither file, directory nor link, is not in the snapshot but in ``skipped``;
    with ``strict`` it is ``Invalid``. Links are kept as links; with ``follow_symlinks`` one that leads to something
    inside the directory, and not into itself, is kept as what it leads to. Nothing outside is ever read. Of modes, the
    nine bits of permissions are kept. ``ignore`` is described at ``Ignored``.

    Whatever fails, nothing is attached; objects that were put stay, and doing it again is safe. ``timeout_s`` is for
    each request. Raises ``NotFound`` for a turn or directory that is not there, ``LimitExceeded`` above ``files_max``
    or ``depth_max`` before anything is put.
    """
    if turn_id is not None:
        await turns.get(turn_id, timeout_s=timeout_s)
    taking = _Taking(turns, limits=limits or SnapshotLimits(), strict=strict, progress=progress, timeout_s=timeout_s)
    ignored = Ignored(ignore)
    opened: list[Root] = []  # by the thread, so that whoever is cancelled meanwhile can close it
    try:
        await in_thread(lambda: opened.append(Root(fspath(directory))))
        await taking.scan(opened[0], ignored, follow_symlinks=follow_symlinks)
        root = await taking.keep(opened[0])
    finally:
        for one in opened:
            one.close()
    if turn_id is not None:
        await turns.attach(turn_id, root, timeout_s=timeout_s)
    return taking.report(root)


@dataclass(slots=True, kw_only=True, eq=False)
class _Folder:
    """A directory of the snapshot: where it is, and its entries so far."""

    path: str
    parts: tuple[str, ...]
    name: str
    depth: int
    parent: _Folder | None
    mode: int = 0
    entries: list[TreeEntry] = field(default_factory=list)

    def inside(self, name: str) -> str:
        """The path of a name in it."""
        return f"{self.path}/{name}" if self.path else name

    def is_in(self, parts: tuple[str, ...]) -> bool:
        """Whether it is that directory, or was reached through it."""
        at: _Folder | None = self
        while at is not None and at.parts != parts:
            at = at.parent
        return at is not None


class _Taking:
    """One snapshot while it is taken."""

    def __init__(
        self, turns: Turns, *, limits: SnapshotLimits, strict: bool, progress: Progress | None, timeout_s: float | None
    ) -> None:
        self._turns = turns
        self._limits = limits
        self._strict = strict
        self._progress = progress
        self._timeout_s = timeout_s
        self._folders: list[_Folder] = []
        self._found: list[tuple[_Folder, Seen]] = []
        self._skipped: list[tuple[str, str]] = []
        self._put: set[str] = set()
        self._kinds = dict.fromkeys(EntryKind, 0)
        self._bytes = 0
        self._ignored = 0
        self._seen = 0

    async def scan(self, root: Root, ignored: Ignored, *, follow_symlinks: bool) -> None:
        """Find everything there is; nothing is put yet."""
        waiting = [_Folder(path="", parts=(), name="", depth=0, parent=None)]
        while waiting:
            folder = waiting.pop()
            listing = await self._list(root, folder, ignored, follow_symlinks=follow_symlinks)
            if isinstance(listing, Unread):
                if folder.parent is None:
                    raise Invalid(f"the directory to take a snapshot of cannot be listed: {listing.reason}")
                self._skip(folder.path, listing.reason)
                continue
            folder.mode = listing.mode
            self._folders.append(folder)
            self._count(len(listing.seen) + len(listing.skipped))
            self._ignored += listing.ignored
            for name, reason in listing.skipped:
                self._skip(folder.inside(name), reason)
            waiting.extend(self._sort(folder, listing.seen))

    async def _list(self, root: Root, folder: _Folder, ignored: Ignored, *, follow_symlinks: bool) -> Listing | Unread:
        return await in_thread(
            root.list,
            folder.parts,
            is_ignored=lambda name: ignored.covers(folder.inside(name)),
            follow_symlinks=follow_symlinks,
            names_max=self._limits.files_max - self._seen + 1,
        )

    async def keep(self, root: Root) -> str:
        """Put everything that was found; the address of the root."""

        async def keep_one(found: tuple[_Folder, Seen]) -> None:
            """A file or a link."""
            folder, seen = found
            if seen.kind is EntryKind.SYMLINK:
                await self._keep_link(folder, seen)
            else:
                await self._keep_file(root, folder, seen)

        await each(self._found, keep_one)
        addresses: dict[_Folder, str] = {}

        async def keep_tree(folder: _Folder) -> None:
            """A directory whose own directories are kept already."""
            tree = await in_thread(encode_tree, folder.entries)
            folder.entries.clear()
            addresses[folder] = await self._keep(tree, await in_thread(object_digest, tree))
            if folder.parent is not None:
                folder.parent.entries.append(
                    TreeEntry(
                        name=folder.name,
                        kind=EntryKind.DIRECTORY,
                        mode=folder.mode,
                        hash=bytes.fromhex(addresses[folder]),
                    )
                )
            self._done(EntryKind.DIRECTORY)

        levels: dict[int, list[_Folder]] = {}
        for folder in self._folders:
            levels.setdefault(folder.depth, []).append(folder)
        for depth in sorted(levels, reverse=True):
            await each(levels[depth], keep_tree)
        return addresses[levels[0][0]]

    def report(self, root: str) -> Captured:
        """What was kept."""
        return Captured(
            root=root,
            files=self._kinds[EntryKind.FILE],
            directories=self._kinds[EntryKind.DIRECTORY],
            symlinks=self._kinds[EntryKind.SYMLINK],
            bytes=self._bytes,
            ignored=self._ignored,
            skipped=tuple(sorted(self._skipped)),
        )

    def _sort(self, folder: _Folder, seen: Iterable[Seen]) -> Iterable[_Folder]:
        """Remember files and links; the directories to look into."""
        for one in seen:
            if one.kind is not EntryKind.DIRECTORY:
                self._found.append((folder, one))
                continue
            if one.target and folder.is_in(one.parts):  # a link that leads to where it is: it stays one
                self._found.append((folder, replace(one, kind=EntryKind.SYMLINK)))
                continue
            path = folder.inside(one.name)
            if folder.depth == self._limits.depth_max:
                raise too_deep(path, self._limits.depth_max)
            yield _Folder(path=path, parts=one.parts, name=one.name, depth=folder.depth + 1, parent=folder)

    async def _keep_file(self, root: Root, folder: _Folder, seen: Seen) -> None:
        read = await in_thread(root.read, seen.parts, bytes_max=self._limits.file_bytes_max)
        if not isinstance(read, FileRead):
            self._skip(folder.inside(seen.name), read.reason)
            return
        await self._keep(read.content, read.digest)
        folder.entries.append(
            TreeEntry(
                name=seen.name,
                kind=EntryKind.FILE,
                mode=read.mode,
                size=len(read.content),
                hash=bytes.fromhex(read.digest),
            )
        )
        self._bytes += len(read.content)
        self._done(EntryKind.FILE)

    async def _keep_link(self, folder: _Folder, seen: Seen) -> None:
        digest = object_digest(seen.target)
        await self._keep(seen.target, digest)
        folder.entries.append(
            TreeEntry(
                name=seen.name,
                kind=EntryKind.SYMLINK,
                mode=LINK_MODE,
                size=len(seen.target),
                hash=bytes.fromhex(digest),
            )
        )
        self._done(EntryKind.SYMLINK)

    async def _keep(self, content: bytes, digest: str) -> str:
        """Put bytes once; the root is put after all of them, so nobody has to wait for another's put of the same."""
        if digest not in self._put:
            self._put.add(digest)
            check_same_digest(
                digest, await self._turns.put_blob(content, timeout_s=self._timeout_s), what="bytes that were put"
            )
        return digest

    def _count(self, names: int) -> None:
        self._seen += names
        if self._seen > self._limits.files_max:
            raise too_many_files(self._limits.files_max, self._seen)

    def _skip(self, path: str, reason: str) -> None:
        if self._strict:
            raise Invalid(
                f"{path[:200]!a} cannot be in the snapshot: {reason}. Put it right, leave it out with a pattern, or do "
                "without strict",
                path=path,
                reason=reason,
            )
        self._skipped.append((path, reason))

    def _done(self, kind: EntryKind) -> None:
        self._kinds[kind] += 1
        if self._progress is not None:
            total = len(self._folders) + len(self._found)
            self._progress(SnapshotProgress(done=sum(self._kinds.values()), total=total, bytes=self._bytes))
