"""One open list and its snapshots, if it has any: the replica of a start, checkpoints while it runs, the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from perdure.core.tasklist_checkpointing import CheckpointOutcome, ListCheckpoints
from perdure.core.tasklist_replica import TaskListReplica
from perdure.core.tasklist_root import SnapshotRoot
from perdure.domain.tasklists.frequency import CheckpointFrequency
from perdure.domain.tasklists.health import Observation
from perdure.domain.tasklists.snapshot_format import Codec
from perdure.errors import Unsupported
from perdure.ports.patience import Sleep

CODEC: Final = Codec(marker="yrs-v1")  # an update of the Yjs protocol, version 1, that holds the whole document


class ListKeeper:
    """Opens one list once.

    ``take`` gives its root, None where snapshots are off, and ``give_back`` lets go of it. ``make`` makes an empty
    list, and ``decode`` in the worker thread that of a payload, or raises ``SnapshotDecode``.
    """

    def __init__(
        self,
        *,
        decode: Callable[[bytes], TaskListReplica],
        make: Callable[[], TaskListReplica],
        take: Callable[[], Awaitable[SnapshotRoot | None]],
        give_back: Callable[[], Awaitable[None]],
        sleep: Sleep,
        load_older: bool = False,
    ) -> None:
        self._decode = decode
        self._make = make
        self._take = take
        self._give_back = give_back
        self._sleep = sleep
        self._load_older = load_older
        self._replica: TaskListReplica
        self._root: SnapshotRoot | None = None
        self._checkpoints: ListCheckpoints | None = None
        self._timer: asyncio.Task[None] | None = None
        self._seen: Observation | None = None

    async def open(self, name: str) -> TaskListReplica:
        """The list as its snapshots have it, under a fresh writer id. Raises as the mode says."""
        root = await self._take()
        if root is None:
            self._replica = self._make()
            return self._replica
        try:
            opened = await root.open_list(
                name, codec=CODEC, decode=self._decode, capture=self._capture, load_older=self._load_older
            )
        except BaseException:
            await self._give_back()
            raise
        self._root, self._checkpoints = root, opened.checkpoints
        self._replica = self._make() if opened.recovery.value is None else opened.recovery.value
        self._timer = asyncio.ensure_future(opened.checkpoints.run(self._sleep))
        return self._replica

    async def close(self) -> None:
        """Write what is dirty, and let go of the root. Raises ``CheckpointFailed`` in strict."""
        if self._root is None or self._checkpoints is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        root, self._root = self._root, None
        try:
            await root.close_list(self._checkpoints.entity_id)
        finally:
            # The root does not know the list any more, and how its last checkpoint went is what matters now.
            self._seen = replace(root.observe(), health=self._checkpoints.health.value)
            await self._give_back()

    async def mutated(self, count: int) -> None:
        """Local operations took place; what is due is written."""
        if self._checkpoints is not None:
            await self._checkpoints.mutated(count)

    def record_merge(self) -> None:
        """A merge changed something; it is written in time."""
        if self._checkpoints is not None:
            self._checkpoints.record_merge()

    async def checkpoint(self) -> CheckpointOutcome:
        """Write what is dirty, on request."""
        if self._checkpoints is None:
            return CheckpointOutcome.NOOP_CLEAN
        return await self._checkpoints.checkpoint()

    def observe(self) -> Observation | None:
        """How the root is; after the end, how it was then."""
        return self._seen if self._root is None else self._root.observe()

    def update_frequency(self, request: Mapping[str, object]) -> CheckpointFrequency:
        """Change how often the root's lists are written."""
        if self._root is None:
            raise Unsupported(
                "this list has no snapshots, so nothing sets how often they are taken; open it with a root",
                code="persistence_off",
            )
        return self._root.update_frequency(request)

    def _capture(self) -> Callable[[], bytes]:
        # One call of the library, on the event loop: nothing changes the list meanwhile, and the bytes are its own.
        payload = self._replica.encode()
        return lambda: payload
