"""Task lists as users hold them: a list that is open, and the lists of a tenant on this node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

from perdure.core.tasklist_checkpointing import CheckpointOutcome
from perdure.core.tasklist_keeping import ListKeeper
from perdure.core.tasklist_replica import TaskListReplica
from perdure.core.tasklist_sync import ResyncHealth, TaskListSync, keep_in_sync
from perdure.domain.tasklists.entity_ids import check_entity_id
from perdure.domain.tasklists.frequency import CheckpointFrequency
from perdure.domain.tasklists.health import Observation
from perdure.domain.tasklists.tasks import Task, TaskListView
from perdure.errors import Refused
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep
from perdure.ports.transports import Transport

Answer = TypeVar("Answer")


class TaskList:
    """A task list of this node: ``async with perdure.tasklists.open("sprint", root="state") as sprint``.

    Every operation is immediate in memory and refuses nothing that peers may do at the same time. With a root it is
    written in snapshots; an operation that makes one due waits for it, and in strict raises ``CheckpointFailed`` if it
    fails: the operation took place then, and is not on the disk. Opening raises what the mode makes of the snapshots.
    """

    def __init__(self, name: str, *, keeper: ListKeeper, environment: Environment, sleep: Sleep) -> None:
        self._name = check_entity_id(name)
        self._keeper = keeper
        self._environment = environment
        self._sleep = sleep
        self._replica: TaskListReplica | None = None
        self._is_closed = False
        self._local = 0
        self._tide = asyncio.Event()
        self._syncing: set[asyncio.Task[None]] = set()
        self._sync: TaskListSync | None = None

    async def __aenter__(self) -> TaskList:  # noqa: PYI034 - the synchronous facade is generated, and knows no Self
        """Load the newest snapshot that the mode accepts, and keep the list from now on."""
        if self._replica is not None or self._is_closed:
            raise Refused("this list was opened before; open it again by its name", code="tasklist_reopened")
        replica = await self._keeper.open(self._name)
        replica.listen(self._changed)
        self._replica = replica
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is not on the disk yet, in bounded time, and let go of the root. Strict raises if that fails."""
        self._is_closed = True
        self._tide.set()
        try:
            for syncing in self._syncing:
                syncing.cancel()
            await asyncio.gather(*self._syncing, return_exceptions=True)
        finally:
            await self._keeper.close()

    # --- what is on it ----------------------------------------------------------------------------------------------

    async def view(self) -> TaskListView:
        """The list as it stands."""
        return self._open().view()

    async def get(self, task_id: str) -> Task:
        """One task of the list. Raises ``NotFound``."""
        return self._open().get(task_id)

    async def watch(self) -> AsyncIterator[TaskListView]:
        """The list now, and again after each effective change, local or merged, until it is closed.

        Who is slower than the changes sees the newest state and not each one between.
        """
        seen: int | None = None
        while not self._is_closed:
            tide = self._tide
            view = self._open().view()
            if view.version == seen:
                await tide.wait()
            else:
                seen = view.version
                yield view

    # --- what changes it ----------------------------------------------------------------------------------------------

    async def add(
        self, title: str, *, agent: str, description: str = "", priority: int = 0, task_id: str | None = None
    ) -> Task:
        """Add a task at the end; ``task_id`` is made unless it is given. Raises ``Invalid``, ``LimitExceeded``."""
        replica = self._open()
        return await self._done(
            replica.add(title, agent=agent, description=description, priority=priority, task_id=task_id)
        )

    async def claim(self, task_id: str, *, agent: str) -> Task:
        """Claim a task. The answer says who has it as far as this node knows; an earlier claim may still arrive.

        Raises ``NotFound``, and ``IllegalTransition`` for a task that is done.
        """
        return await self._done(self._open().claim(task_id, agent=agent))

    async def complete(self, task_id: str, *, agent: str) -> Task:
        """Complete a claimed task, whoever claimed it. Raises ``NotFound``, ``IllegalTransition``."""
        return await self._done(self._open().complete(task_id, agent=agent))

    async def edit(
        self, task_id: str, *, title: str | None = None, description: str | None = None, priority: int | None = None
    ) -> Task:
        """Change what is given. Raises ``NotFound``, ``Invalid``, ``LimitExceeded``."""
        return await self._done(self._open().edit(task_id, title=title, description=description, priority=priority))

    async def assign(self, task_id: str, agent: str | None) -> Task:
        """Say whose task it is; None for nobody's. Raises ``NotFound``, ``Invalid``."""
        return await self._done(self._open().assign(task_id, agent))

    async def tag(self, task_id: str, tag: str) -> Task:
        """Add a tag. Raises ``NotFound``, ``Invalid``, ``LimitExceeded``."""
        return await self._done(self._open().tag(task_id, tag))

    async def untag(self, task_id: str, tag: str) -> Task:
        """Remove a tag, as far as this node has seen it. Raises ``NotFound`` for a task that is not there."""
        return await self._done(self._open().untag(task_id, tag))

    async def move(self, task_id: str, *, after: str | None) -> Task:
        """Put a task right behind another one, or first (None). Raises ``NotFound``, ``Invalid``, ``LimitExceeded``."""
        return await self._done(self._open().move(task_id, after=after))

    async def remove(self, task_id: str) -> None:
        """Take a task off the list. What others do to it meanwhile does not bring it back; adding it again does.

        Raises ``NotFound``.
        """
        self._open().remove(task_id)
        await self._done(None)

    async def restore(self, task_id: str) -> Task:
        """Put a removed task on the list again, as it was. Raises ``NotFound`` for one that never was on it."""
        return await self._done(self._open().restore(task_id))

    async def rename(self, name: str) -> None:
        """Give the list a name for people. Raises ``Invalid``, ``LimitExceeded``."""
        self._open().rename(name)
        await self._done(None)

    # --- peers ------------------------------------------------------------------------------------------------------

    async def merge(self, update: bytes) -> bool:
        """Take in a peer's delta, or its whole list; whether anything came of it. Doubled and late ones do no harm.

        Raises ``Corrupt`` for what is no update, ``LimitExceeded``. What is damaged on its way has to be found out
        before: the format has no checksum, and damaged bytes may be read as others.
        """
        return self._open().merge(update)

    async def vector(self) -> bytes:
        """What this node has; a peer's ``delta_since`` takes it."""
        return self._open().vector()

    async def delta_since(self, vector: bytes) -> bytes:
        """What a peer with that vector lacks; of an empty one's vector all. Raises ``Invalid`` for no vector."""
        return self._open().delta_since(vector)

    async def sync(self, transport: Transport) -> None:
        """Stay in agreement with peers over a transport, until this is cancelled or the list is closed."""
        replica = self._open()
        if self._sync is None:
            sender = self._environment.ids.new().hex
            self._sync = TaskListSync(replica, list_id=self._name, sender=sender, environment=self._environment)
        syncing = asyncio.ensure_future(
            keep_in_sync(self._sync, transport, environment=self._environment, sleep=self._sleep)
        )
        self._syncing.add(syncing)
        try:
            await asyncio.wait([syncing])
        finally:
            self._syncing.discard(syncing)
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)
        if not syncing.cancelled():
            syncing.result()

    async def resync(self) -> ResyncHealth | None:
        """How agreement with peers stands; None before the first ``sync``."""
        return None if self._sync is None else self._sync.health()

    # --- snapshots --------------------------------------------------------------------------------------------------

    async def checkpoint(self) -> CheckpointOutcome:
        """Write what is dirty, unless the last time was less than the debounce ago; ``noop_clean`` where nothing is.

        Raises ``CheckpointFailed`` in strict; degraded answers ``degraded_continued``, and the health says why.
        """
        self._open()
        return await self._keeper.checkpoint()

    async def observe(self) -> Observation | None:
        """Health, frequency of checkpoints and its bounds, of the root; None where snapshots are off."""
        return self._keeper.observe()

    async def update_checkpoint_frequency(self, request: Mapping[str, object]) -> CheckpointFrequency:
        """Change how often the lists of this root are written, until the next start, within what the host allows.

        ``request`` has some of ``mutation_threshold``, ``dirty_time_floor_secs`` and ``debounce_floor_secs``. Raises
        ``FrequencyRefused``, whose ``code`` says why, and changes nothing then; ``Unsupported`` where snapshots are
        off.
        """
        return self._keeper.update_frequency(request)

    def _open(self) -> TaskListReplica:
        if self._replica is None or self._is_closed:
            raise Refused(
                'this list is not open; use it inside its block: `async with perdure.tasklists.open("name") as tasks`',
                code="tasklist_closed",
            )
        return self._replica

    def _changed(self, local: bool) -> None:  # noqa: FBT001 - the signature of who is told
        if local:
            self._local += 1
        else:
            self._keeper.record_merge()
        self._tide.set()
        self._tide = asyncio.Event()

    async def _done(self, answer: Answer) -> Answer:
        count, self._local = self._local, 0
        if count:
            await self._keeper.mutated(count)
        return answer


class OpenList(Protocol):
    """How the lists of a tenant are opened."""

    def __call__(self, name: str, *, initialize_if_missing: bool, load_older: bool) -> TaskList:
        """A list, to be entered."""
        ...


class TaskLists:
    """The task lists of one tenant on this node, below a root of its own; other nodes have theirs."""

    def __init__(self, open_list: OpenList, names: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._open_list = open_list
        self._names = names

    def open(self, name: str, *, initialize_if_missing: bool = False, load_older: bool = False) -> TaskList:
        """A list of that name: ``async with acme.tasklists.open("sprint") as sprint``.

        It is kept as the plane's settings say: in memory only unless they name a root. ``initialize_if_missing`` lets
        strict begin a root that has none yet, ``load_older`` lets it put damaged snapshots aside and load an older one.
        Raises ``InvalidEntityId`` for a name that is none.
        """
        return self._open_list(name, initialize_if_missing=initialize_if_missing, load_older=load_older)

    async def list(self) -> Sequence[str]:
        """The names of the lists that have snapshots here, in order."""
        return await self._names()
