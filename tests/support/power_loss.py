"""What a loss of power may leave: every operation written down, and every directory that it could have become.

The rules are those of the weakest file system that is in use: bytes that were not synced are there, half there, zeros
or gone; each name that was given or taken and whose directory was not synced may have been, or not, in any order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from perdure.adapters.nodefiles.file_operations import FileOps

SyncKind = Literal["parent", "manifest file", "manifest name", "list name", "snapshot file", "snapshot name", "aside"]
DATA_CHOICES = ("gone", "zeros", "half", "there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: ``inode`` for files, ``path`` and ``other`` for names, ``note`` for what a test remarks."""

    what: str
    path: Path = Path()
    other: Path = Path()
    inode: int = 0
    data: bytes = b""
    kind: str = ""
    note: tuple[str, int] = ("", 0)


class RecordingFiles(FileOps):
    """Does every operation, without waiting for the disk, and writes it down."""

    def __init__(self, root: Path) -> None:
        self.log: list[Operation] = []
        self._root = root
        self._open: dict[int, tuple[Path, int | None]] = {}
        self._inodes: dict[Path, int] = {}
        self._count = 0

    def note(self, what: tuple[str, int]) -> None:
        """Remark something."""
        self.log.append(Operation(what="note", note=what))

    def open(self, path: Path, flags: int) -> int:
        """Open, and write down a file that is new."""
        is_new = bool(flags & os.O_CREAT) and not path.exists()
        fd = super().open(path, flags)
        if is_new:
            self._count += 1
            self._inodes[path] = self._count
            self.log.append(Operation(what="create", path=path, inode=self._count))
        self._open[fd] = (path, self._inodes.get(path))
        return fd

    def open_directory(self, path: Path) -> int:
        """Open."""
        fd = super().open_directory(path)
        self._open[fd] = (path, None)
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        """Write."""
        taken = super().write(fd, data)
        path, inode = self._open[fd]
        assert inode is not None, f"{path} was there before"
        self.log.append(Operation(what="write", inode=inode, data=bytes(data[:taken])))
        return taken

    def sync(self, fd: int) -> None:
        """Write down, and nothing else."""
        path, inode = self._open[fd]
        self.log.append(
            Operation(what="sync", path=path, inode=inode or 0, kind=self._kind(path, is_file=inode is not None))
        )

    def make_directory(self, path: Path) -> None:
        """Make."""
        super().make_directory(path)
        self.log.append(Operation(what="make", path=path))

    def remove_directory(self, path: Path) -> None:
        """Remove."""
        super().remove_directory(path)
        self.log.append(Operation(what="take", path=path))

    def link(self, old: Path, new: Path) -> None:
        """Link."""
        super().link(old, new)
        self._inodes[new] = self._inodes.get(old, 0)
        self.log.append(Operation(what="link", path=new, other=old))

    def rename(self, old: Path, new: Path) -> None:
        """Rename."""
        super().rename(old, new)
        self._inodes[new] = self._inodes.pop(old)
        self.log.append(Operation(what="rename", path=new, other=old))

    def unlink(self, path: Path) -> None:
        """Remove."""
        super().unlink(path)
        self._inodes.pop(path, None)
        self.log.append(Operation(what="take", path=path))

    def _kind(self, path: Path, *, is_file: bool) -> SyncKind:
        if is_file:
            return "manifest file" if "manifest" in path.name else "snapshot file"
        if path == self._root:
            last = next(done for done in reversed(self.log) if done.what != "sync")
            return "manifest name" if last.what == "rename" else "list name"
        if not path.is_relative_to(self._root):
            return "parent"
        is_aside = path.name == "quarantine" or any(
            done.what == "link" and "quarantine" in done.path.parts for done in self.log[-2:]
        )
        return "aside" if is_aside else "snapshot name"


File = tuple[Literal["file"], int]
Entry = File | tuple[Literal["directory"], Path]


@dataclass(slots=True)
class Disk:
    """What is on the disk for certain, and what may be."""

    data: dict[int, bytearray] = field(default_factory=dict)
    durable: dict[int, bytes] = field(default_factory=dict)
    names: dict[Path, dict[str, Entry]] = field(default_factory=dict)
    now: dict[Path, dict[str, Entry]] = field(default_factory=dict)
    pending: list[tuple[Path, dict[str, Entry | None]]] = field(default_factory=list)

    def load(self, directory: Path) -> None:
        """Take what is there as being on the disk."""
        self.names[directory] = {}
        for path in directory.iterdir():
            if path.is_dir():
                self.load(path)
                self.names[directory][path.name] = ("directory", path)
            else:
                inode = -1 - len(self.data)
                self.data[inode] = bytearray(path.read_bytes())
                self.durable[inode] = bytes(self.data[inode])
                self.names[directory][path.name] = ("file", inode)
        self.now[directory] = dict(self.names[directory])

    def do(self, done: Operation) -> None:
        """One operation more."""
        parent = done.path.parent
        match done.what:
            case "create":
                self.data[done.inode], self.durable[done.inode] = bytearray(), b""
                self._change(parent, {done.path.name: ("file", done.inode)})
            case "write":
                self.data[done.inode] += done.data
            case "make":
                self.names[done.path], self.now[done.path] = {}, {}
                self._change(parent, {done.path.name: ("directory", done.path)})
            case "link":
                self._change(parent, {done.path.name: self.now[done.other.parent][done.other.name]})
            case "rename":
                entry = self.now[done.other.parent][done.other.name]
                self._change(parent, {done.other.name: None, done.path.name: entry})
            case "take":
                self._change(parent, {done.path.name: None})
            case "sync":
                self._sync(done)
            case other:
                raise AssertionError(f"{other} is no operation")

    def crashes(self, root: Path) -> Iterator[dict[str, bytes | None]]:
        """Each tree that may be found below ``root`` if the power goes now: bytes, or None for a directory."""
        count = len(self.pending)
        choices = {frozenset[int](), frozenset(range(count))}
        choices |= {frozenset({one}) for one in range(count)}
        choices |= {frozenset(range(count)) - {one} for one in range(count)}
        for choice in sorted(choices, key=sorted):
            names = {directory: dict(entries) for directory, entries in self.names.items()}
            for at, (directory, change) in enumerate(self.pending):
                if at in choice:
                    _apply(names[directory], change)
            for data in DATA_CHOICES:
                tree: dict[str, bytes | None] = {}
                self._gather(names, root.parent, "", data, tree)
                yield tree

    def _sync(self, done: Operation) -> None:
        if done.inode:
            self.durable[done.inode] = bytes(self.data[done.inode])
            return
        for directory, change in self.pending:
            if directory == done.path:
                _apply(self.names[directory], change)
        self.pending = [one for one in self.pending if one[0] != done.path]

    def _change(self, directory: Path, change: dict[str, Entry | None]) -> None:
        _apply(self.now[directory], change)
        self.pending.append((directory, change))

    def _gather(
        self,
        names: dict[Path, dict[str, Entry]],
        directory: Path,
        prefix: str,
        data: str,
        tree: dict[str, bytes | None],
    ) -> None:
        for name, entry in names[directory].items():
            if entry[0] == "directory":
                tree[f"{prefix}{name}"] = None
                self._gather(names, entry[1], f"{prefix}{name}/", data, tree)
            else:
                tree[f"{prefix}{name}"] = self._bytes(entry[1], data)

    def _bytes(self, inode: int, choice: str) -> bytes:
        whole, durable = bytes(self.data[inode]), self.durable[inode]
        if whole == durable or choice == "there":
            return whole
        if choice == "gone":
            return durable
        return durable + (
            bytes(len(whole) - len(durable)) if choice == "zeros" else whole[len(durable) :][: len(whole) // 2]
        )


def _apply(entries: dict[str, Entry], change: dict[str, Entry | None]) -> None:
    for name, entry in change.items():
        if entry is None:
            entries.pop(name, None)
        else:
            entries[name] = entry


def build(target: Path, tree: dict[str, bytes | None]) -> None:
    """Make such a tree."""
    target.mkdir(parents=True)
    for name, data in tree.items():
        path = target / name
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(data)


def kinds(log: Sequence[Operation]) -> set[str]:
    """The kinds of syncs in a log."""
    return {done.kind for done in log if done.what == "sync"}
