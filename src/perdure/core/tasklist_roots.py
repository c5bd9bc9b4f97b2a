"""Roots of snapshots that are open in this process: lists of one root share its lock and its thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from perdure.core.tasklist_root import SnapshotRoot
from perdure.domain.tasklists.settings import PersistencePolicy
from perdure.errors import Invalid


@dataclass(slots=True)
class _Held:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    root: SnapshotRoot | None = None
    users: int = 0


class SharedRoots:
    """Opens a root for the first who takes it and closes it after the last; apart for each event loop.

    Another loop, or another process, meets the root's lock.
    """

    def __init__(self) -> None:
        self._held: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Held]] = WeakKeyDictionary()

    async def take(
        self, path: str, policy: PersistencePolicy, *, make: Callable[[PersistencePolicy], SnapshotRoot]
    ) -> SnapshotRoot:
        """The root at ``path``, open; give it back. ``make`` makes it if nobody has it.

        Raises ``Invalid`` if somebody has it under another policy, and as ``SnapshotRoot.open``.
        """
        of_loop = self._of_loop()
        held = of_loop.setdefault(path, _Held())
        held.users += 1
        try:
            async with held.turn:
                if held.root is None:
                    root = make(policy)
                    await root.open()
                    held.root = root
                _refuse_other(held.root.policy, policy, path)
                return held.root
        except BaseException:
            self._leave(path, held)
            raise

    async def give_back(self, path: str) -> None:
        """Let go of a root that was taken; the last one closes it. Raises as ``SnapshotRoot.close``."""
        held = self._of_loop()[path]
        try:
            async with held.turn:
                if held.users == 1 and held.root is not None:
                    root, held.root = held.root, None
                    await root.close()
        finally:
            self._leave(path, held)

    def _leave(self, path: str, held: _Held) -> None:
        held.users -= 1
        if held.users == 0:
            self._of_loop().pop(path, None)

    def _of_loop(self) -> dict[str, _Held]:
        return self._held.setdefault(asyncio.get_running_loop(), {})


def _refuse_other(there: PersistencePolicy, wanted: PersistencePolicy, path: str) -> None:
    # Who may begin a root does not matter to who finds it begun.
    if replace(there, initialize_if_missing=wanted.initialize_if_missing) != wanted:
        raise Invalid(f"{path} is open in this process with other settings; open every list of one root with the same")
