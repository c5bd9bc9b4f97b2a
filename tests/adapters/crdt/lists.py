"""Lists for tests of replicas: nodes with clocks of their own, and a writer id that is chosen."""

from __future__ import annotations

from typing import Any

import pycrdt

from perdure.adapters.crdt.replica import YrsReplica
from perdure.core.tasklist_replica import TaskListReplica
from perdure.domain.tasklists.facts import SEPARATOR
from perdure.ports.environment import Environment
from perdure.ports.replicas import FactReplica, FactWatcher
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness


class Node:
    """A node of a list, and its clock."""

    def __init__(self, number: int = 1, *, payload: bytes | None = None, writer_id: int | None = None) -> None:
        self.clock = FakeClock()
        self.environment = Environment(
            clock=self.clock, randomness=SeededRandomness(number), ids=CountingIds(space=number)
        )
        self._writer_id = writer_id
        self.facts: YrsReplica
        self.list = TaskListReplica(make_replica=self._make, environment=self.environment)
        if payload is not None:
            self.list.merge(payload)

    @property
    def ids(self) -> list[str]:
        """The tasks that it shows, in order."""
        return [task.task_id for task in self.list.view().tasks]

    @property
    def digest(self) -> str:
        """What it shows."""
        return self.list.view().view_digest

    def _make(self, *, environment: Environment, watcher: FactWatcher) -> FactReplica:
        self.facts = YrsReplica(environment=environment, watcher=watcher)
        if self._writer_id is not None:
            # As who restores the id with the snapshot would: the mutant that fault 12 is about.
            self.facts._begin(self._writer_id)
        return self.facts


def settle(*nodes: Node, rounds: int = 3) -> None:
    """Everybody hears of everything, by vectors as peers do."""
    for _ in range(rounds):
        for node in nodes:
            for other in nodes:
                node.list.merge(other.list.delta_since(node.list.vector()))


def foreign_update(puts: dict[str, object], *, writer: int = 77) -> bytes:
    """What a peer of another release, or another language, might send."""
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=writer)
    facts: pycrdt.Map[Any] = document.get("facts", type=pycrdt.Map)
    for key, value in puts.items():
        facts[key.replace("|", SEPARATOR)] = value
    return document.get_update()
