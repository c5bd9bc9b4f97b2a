"""Turns and objects in memory, and directories to take snapshots of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.objectstore import opening
from perdure.core.turns import Turns
from perdure.domain.tree import EntryKind, TreeEntry, encode_tree
from perdure.testing.environment import fake_environment
from perdure.testing.routed import RoutedTenant, given, routed_plane
from perdure.testing.watched import WatchedBackend

__all__ = ["Kept", "Node", "kept", "names_in", "read_tree", "write_tree"]

Node: TypeAlias = "bytes | str | Mapping[str, Node]"
"""A file by its bytes, a link by its target, a directory by what is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One tenant with a turn, and the backend that keeps both, in view."""

    acme: RoutedTenant
    turn_id: str
    context_id: str
    backend: WatchedBackend

    @property
    def turns(self) -> Turns:
        """The tenant's turns."""
        return self.acme.turns

    @property
    def puts(self) -> int:
        """How many objects were put so far."""
        return self.backend.calls.count("objects.put")

    async def attach(self, *entries: TreeEntry) -> str:
        """A tree that somebody else wrote, at the turn; its root."""
        root = await self.turns.put_blob(encode_tree(entries))
        await self.turns.attach(self.turn_id, root)
        return root

    async def file(self, name: str, content: bytes = b"", *, mode: int = 0o644) -> TreeEntry:
        """An entry of a file that is kept."""
        digest = bytes.fromhex(await self.turns.put_blob(content))
        return TreeEntry(name=name, mode=mode, size=len(content), hash=digest)

    async def link(self, name: str, target: bytes) -> TreeEntry:
        """An entry of a link that is kept."""
        digest = bytes.fromhex(await self.turns.put_blob(target))
        return TreeEntry(name=name, kind=EntryKind.SYMLINK, mode=0o777, size=len(target), hash=digest)

    async def folder(self, name: str, *entries: TreeEntry, mode: int = 0o755) -> TreeEntry:
        """An entry of a directory that is kept."""
        digest = bytes.fromhex(await self.turns.put_blob(encode_tree(entries)))
        return TreeEntry(name=name, kind=EntryKind.DIRECTORY, mode=mode, hash=digest)


@asynccontextmanager
async def kept() -> AsyncIterator[Kept]:
    """An empty place with one turn."""
    environment = fake_environment()
    objects = opening.memory(mode="lab", env="dev", environment=environment)
    backend = DocumentBackend(
        MemoryDriver(MemoryStore()), mode="lab", env="dev", environment=environment, objects=objects
    )
    await backend.open()
    await objects.open(timeout_s=1.0)
    watched = WatchedBackend(backend)
    async with routed_plane([given("main", watched)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        for kind in ("turns", "objects"):
            await acme.routes.set(kind, "main")
        context = await acme.turns.create()
        ref = await acme.turns.append(context.context_id, b"hi", type_id="note")
        yield Kept(acme=acme, turn_id=ref.turn_id, context_id=context.context_id, backend=watched)
    await backend.close()


def write_tree(directory: Path, tree: Mapping[str, Node]) -> Path:
    """Make a directory, and in it what ``tree`` says."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, node in tree.items():
        path = directory / name
        if isinstance(node, bytes):
            path.write_bytes(node)
        elif isinstance(node, str):
            path.symlink_to(node)
        else:
            write_tree(path, node)
    return directory


def read_tree(directory: Path) -> dict[str, Node]:
    """What is in a directory, as ``write_tree`` takes it."""
    found: dict[str, Node] = {}
    for path in directory.iterdir():
        if path.is_symlink():
            found[path.name] = str(path.readlink())
        elif path.is_dir():
            found[path.name] = read_tree(path)
        else:
            found[path.name] = path.read_bytes()
    return found


def names_in(directory: Path) -> list[str]:
    """The names in a directory."""
    return sorted(path.name for path in directory.iterdir())
