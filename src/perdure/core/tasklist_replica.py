"""A task list on this node: operations, what people see of it, and what peers exchange."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from perdure.domain.tasklists.index import TaskIndex
from perdure.domain.tasklists.operations import Draft
from perdure.domain.tasklists.tasks import Task, TaskListView
from perdure.errors import Invalid, NotFound
from perdure.ports.environment import Environment
from perdure.ports.replicas import FactReplica, FactWatcher

MICROSECONDS_OF_MS = 1_000

_logger: Final = logging.getLogger("perdure.tasklists")


class MakeReplica(Protocol):
    """Makes an empty replica whose changes the watcher hears of."""

    def __call__(self, *, environment: Environment, watcher: FactWatcher) -> FactReplica:
        """A replica with a fresh writer id."""
        ...


class TaskListReplica:
    """One list, in memory. Every method is plain and immediate, and safe in one thread only.

    A local operation that breaks a rule raises and changes nothing. ``on_change`` is told after every effective change,
    with whether it was local.
    """

    def __init__(
        self,
        *,
        make_replica: MakeReplica,
        environment: Environment,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self._index = TaskIndex()
        self._replica = make_replica(environment=environment, watcher=self._index)
        self._environment = environment
        self._on_change = on_change

    def listen(self, on_change: Callable[[bool], None]) -> None:
        """Tell of every effective change from now on."""
        self._on_change = on_change

    @property
    def writer_id(self) -> int:
        """Under which this node writes until it stops: never the one of an earlier start."""
        return self._replica.writer_id

    @property
    def identity_conflicts(self) -> int:
        """How often another writer with this node's id was met; above 0, a store was copied to a second node."""
        return self._replica.identity_conflicts

    def view(self) -> TaskListView:
        """The list as it stands; what did not change since is not read again."""
        return self._index.view()

    def get(self, task_id: str) -> Task:
        """One task of the list. Raises ``NotFound``."""
        task = self._index.find(task_id)
        if task is None:
            raise NotFound(f"no task {ascii(task_id)[:80]} in this list", task_id=task_id)
        return task

    def add(
        self, title: str, *, agent: str, description: str = "", priority: int = 0, task_id: str | None = None
    ) -> Task:
        """Add a task at the end; ``task_id`` is made unless it is given. Raises ``Invalid``, ``LimitExceeded``."""
        made = self._environment.ids.new().hex if task_id is None else task_id
        draft = self._draft()
        draft.add(made, title=title, description=description, priority=priority, created_by=agent, at_ms=self._now_ms())
        self._apply(draft)
        return self.get(made)

    def restore(self, task_id: str) -> Task:
        """Put a removed task on the list again, as it was. Raises ``NotFound`` for one that never was on it."""
        draft = self._draft()
        draft.restore(task_id)
        self._apply(draft)
        return self.get(task_id)

    def edit(
        self, task_id: str, *, title: str | None = None, description: str | None = None, priority: int | None = None
    ) -> Task:
        """Change what is given. Raises ``NotFound``, ``Invalid``, ``LimitExceeded``."""
        draft = self._draft()
        draft.edit(task_id, title=title, description=description, priority=priority)
        self._apply(draft)
        return self.get(task_id)

    def assign(self, task_id: str, agent: str | None) -> Task:
        """Say whose task it is; None for nobody's. Raises ``NotFound``, ``Invalid``."""
        draft = self._draft()
        draft.assign(task_id, agent)
        self._apply(draft)
        return self.get(task_id)

    def claim(self, task_id: str, *, agent: str) -> Task:
        """Claim a task. The answer says who has it as far as this node knows; an earlier claim may still arrive.

        Raises ``NotFound``, and ``IllegalTransition`` for a task that is done.
        """
        draft = self._draft()
        draft.claim(task_id, agent=agent, at_ms=self._now_ms())
        self._apply(draft)
        return self.get(task_id)

    def complete(self, task_id: str, *, agent: str) -> Task:
        """Complete a claimed task, whoever claimed it. Raises ``NotFound``, ``IllegalTransition``."""
        draft = self._draft()
        draft.complete(task_id, agent=agent, at_ms=self._now_ms())
        self._apply(draft)
        return self.get(task_id)

    def tag(self, task_id: str, tag: str) -> Task:
        """Add a tag. Raises ``NotFound``, ``Invalid``, ``LimitExceeded``."""
        draft = self._draft()
        draft.tag(task_id, tag)
        self._apply(draft)
        return self.get(task_id)

    def untag(self, task_id: str, tag: str) -> Task:
        """Remove a tag. Raises ``NotFound`` for a task that is not there."""
        draft = self._draft()
        draft.untag(task_id, tag)
        self._apply(draft)
        return self.get(task_id)

    def move(self, task_id: str, *, after: str | None) -> Task:
        """Put a task right behind another one, or first (None). Raises ``NotFound``, ``Invalid``."""
        draft = self._draft()
        draft.move(task_id, after=after)
        self._apply(draft)
        return self.get(task_id)

    def remove(self, task_id: str) -> None:
        """Take a task off the list. What others add to it meanwhile does not bring it back; adding it again does."""
        draft = self._draft()
        draft.remove(task_id)
        self._apply(draft)

    def rename(self, name: str) -> None:
        """Give the list a name. Raises ``Invalid``, ``LimitExceeded``."""
        draft = self._draft()
        draft.rename(name)
        self._apply(draft)

    def merge(self, update: bytes) -> bool:
        """Take in a delta, or a whole list; whether anything came of it. Raises ``Corrupt``, ``LimitExceeded``."""
        conflicts = self._replica.identity_conflicts
        effective = self._replica.merge(update)
        if self._replica.identity_conflicts != conflicts:
            _logger.warning("another writer had this node's id; it goes on under a fresh one: was a store copied?")
        if effective:
            self._tell(local=False)
        return effective

    def vector(self) -> bytes:
        """What this node has, for a peer to know what it lacks."""
        return self._replica.vector()

    def has_vector(self, vector: bytes) -> bool:
        """Whether a peer with that vector was told as much as this node, removals aside. Raises ``Invalid``."""
        return self._replica.has_vector(vector)

    def delta_since(self, vector: bytes) -> bytes:
        """What a peer with that vector lacks. Raises ``Invalid``."""
        return self._replica.delta_since(vector)

    def encode(self) -> bytes:
        """All of it, as a snapshot's payload; what ``merge`` of an empty list takes."""
        return self._replica.encode()

    def _draft(self) -> Draft:
        return Draft(self._index, writer=self._replica.writer_id)

    def _apply(self, draft: Draft) -> None:
        change = draft.change()
        if change.puts or change.removals:
            self._replica.apply(change)
            self._tell(local=True)

    def _tell(self, *, local: bool) -> None:
        if self._on_change is not None:
            self._on_change(local)

    def _now_ms(self) -> int:
        moment = self._environment.clock.now()
        if moment.utcoffset() is None:
            raise Invalid("the clock of this node gives times without a zone")
        return int(moment.timestamp() * MICROSECONDS_OF_MS)
