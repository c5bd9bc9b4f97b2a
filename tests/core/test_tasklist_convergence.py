"""Replicas come to the same list whatever happens between them: held against a model that is told everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.adapters.crdt.replica import YrsReplica
from perdure.core.tasklist_replica import TaskListReplica
from perdure.domain.tasklists.tasks import FactChange, TaskStatus
from perdure.errors import IllegalTransition, Invalid, NotFound
from perdure.ports.environment import Environment
from perdure.ports.replicas import FactReplica, FactWatcher
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness
from perdure.testing.tasklist_model import ModelReplica

EXAMPLES = 1_000
STEPS_MAX = 30
AGENTS = ("agent:a", "agent:b", "agent:c")
TAGS = ("red", "green")
REFUSALS = (NotFound, IllegalTransition, Invalid)  # nodes make the same ids here, so that one may be taken


@dataclass(frozen=True, slots=True)
class Message:
    """A delta on its way, beside what the model sends."""

    update: bytes
    model: ModelReplica
    needs_life: tuple[int, int] | None  # a delta is for one life of one node; a whole list is for anybody


@dataclass(slots=True)
class Node:
    """A node: its replica, the model's, and the snapshot it would restart from."""

    number: int
    environment: Environment
    replica: TaskListReplica = field(init=False)
    model: ModelReplica = field(default_factory=ModelReplica)
    life: int = 0
    snapshot: tuple[bytes, ModelReplica] | None = None
    writers: set[int] = field(default_factory=set)
    ever: set[str] = field(default_factory=lambda: {"none"})

    def __post_init__(self) -> None:
        self.start()

    @property
    def now_ms(self) -> int:
        """The time by the node's clock."""
        return int(self.environment.clock.now().timestamp() * 1000)

    def start(self) -> None:
        """Begin empty, or from the snapshot."""
        self.life += 1
        self.model = ModelReplica()
        self.replica = TaskListReplica(make_replica=self._make, environment=self.environment)
        assert self.replica.writer_id not in self.writers
        self.writers.add(self.replica.writer_id)
        if self.snapshot is not None:
            payload, model = self.snapshot
            self.replica.merge(payload)
            self.model = model.copy()

    def _make(self, *, environment: Environment, watcher: FactWatcher) -> FactReplica:
        replica = YrsReplica(environment=environment, watcher=watcher)
        apply = replica.apply

        def applied(change: FactChange) -> None:
            apply(change)
            self.model.apply(change)

        replica.apply = applied  # type: ignore[method-assign]
        return replica


def task_of(node: Node, choice: int) -> str:
    """One of the tasks that the node sees, or one it does not have."""
    tasks = node.replica.view().tasks
    return tasks[choice % len(tasks)].task_id if tasks else "none"


def add(node: Node, _: str, choice: int) -> None:
    """A task at the end."""
    task = node.replica.add(f"task {choice}", agent=AGENTS[choice % 3], priority=choice % 256)
    assert node.replica.view().tasks[-1].position == task.position


def claim(node: Node, task: str, choice: int) -> None:
    """A claim; an earlier one counts."""
    claimed = node.replica.claim(task, agent=AGENTS[choice % 3])
    assert (claimed.claimed_at_ms or 0, claimed.claimed_by) <= (node.now_ms, AGENTS[choice % 3])


def complete(node: Node, task: str, choice: int) -> None:
    """A completion of what is claimed."""
    done = node.replica.complete(task, agent=AGENTS[choice % 3])
    assert (done.status, done.completed_by) == (TaskStatus.DONE, AGENTS[choice % 3])


def edit(node: Node, task: str, choice: int) -> None:
    """What is written last is what is seen, whatever was written elsewhere before."""
    edited = node.replica.edit(task, title=f"edited {choice}", description="" if choice % 2 else f"more\n{choice}")
    assert edited.title == f"edited {choice}"


def assign(node: Node, task: str, choice: int) -> None:
    """To somebody, or to nobody."""
    agent = AGENTS[choice % 3] if choice % 4 else None
    assert node.replica.assign(task, agent).assignee == agent


def move(node: Node, task: str, choice: int) -> None:
    """To the front, or right behind another task, also among tasks that stand at the same position."""
    other = task_of(node, choice // 7)
    after = None if other == task or choice % 5 == 0 else other
    node.replica.move(task, after=after)
    order = [found.task_id for found in node.replica.view().tasks]
    if after is not None:
        assert order.index(task) == order.index(after) + 1


def remove(node: Node, task: str, _: int) -> None:
    """Off the list, however often it was put on it."""
    node.replica.remove(task)
    assert task not in {found.task_id for found in node.replica.view().tasks}


OPERATIONS: dict[str, Callable[[Node, str, int], object]] = {
    "add": add,
    "claim": claim,
    "complete": complete,
    "edit": edit,
    "assign": assign,
    "tag": lambda node, task, choice: node.replica.tag(task, TAGS[choice % 2]),
    "untag": lambda node, task, choice: node.replica.untag(task, TAGS[choice % 2]),
    "move": move,
    "remove": remove,
    "put_back": lambda node, _, choice: node.replica.restore(sorted(node.ever)[choice % len(node.ever)]),
    "rename": lambda node, _, choice: node.replica.rename(f"list {choice}"),
}
TRAFFIC = ("whole", "delta", "deliver", "deliver", "twice", "lose", "snapshot", "restart", "advance")
STEPS = st.lists(
    st.tuples(st.sampled_from((*OPERATIONS, "add", "add", *TRAFFIC)), st.integers(0, 4), st.integers(0, 1_000)),
    max_size=STEPS_MAX,
)


def operate(node: Node, verb: str, choice: int) -> None:
    """One operation; what breaks a rule is refused and changes nothing."""
    before = node.replica.view()
    try:
        OPERATIONS[verb](node, task_of(node, choice), choice)
    except REFUSALS:
        assert node.replica.view() == before
    node.ever.update(task.task_id for task in node.replica.view().tasks)


@dataclass(slots=True)
class History:
    """What happens between nodes: messages that are late, doubled, reordered or lost, snapshots and restarts."""

    nodes: list[Node]
    clocks: list[FakeClock]
    sent: list[Message] = field(default_factory=list)

    def step(self, verb: str, who: int, choice: int) -> None:
        """One thing that happens."""
        node, other = self.nodes[who % len(self.nodes)], self.nodes[choice % len(self.nodes)]
        if verb in OPERATIONS:
            operate(node, verb, choice)
        elif verb in {"whole", "delta"}:
            self.send(node, None if verb == "whole" else other)
        elif verb in {"deliver", "twice", "lose"} and self.sent:
            place = choice % len(self.sent)
            message = self.sent[place] if verb == "twice" else self.sent.pop(place)
            if verb != "lose" and message.needs_life in {None, (node.number, node.life)}:
                node.replica.merge(message.update)
                node.model.merge(message.model)
        elif verb == "snapshot":
            node.snapshot = (node.replica.encode(), node.model.copy())
        elif verb == "restart":
            node.start()
        elif verb == "advance":
            self.clocks[node.number].advance(choice / 1000)
        view = node.replica.view()
        assert (view.name, view.tasks) == node.model.view()

    def send(self, node: Node, other: Node | None) -> None:
        """A whole list for anybody, or a delta for one life of one node."""
        update = node.replica.encode() if other is None else node.replica.delta_since(other.replica.vector())
        self.sent.append(Message(update, node.model.copy(), None if other is None else (other.number, other.life)))


def settle(nodes: list[Node]) -> None:
    """Everybody hears of everything."""
    for _ in range(2):
        for node in nodes:
            for other in nodes:
                node.replica.merge(other.replica.delta_since(node.replica.vector()))
                node.model.merge(other.model)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(3, 5), STEPS, st.randoms(use_true_random=False))
def test_fault_19_replicas_converge_to_the_view_of_the_model(
    count: int, steps: list[tuple[str, int, int]], order: random.Random
) -> None:
    clocks = [FakeClock() for _ in range(count)]
    nodes = [
        Node(number, Environment(clock=clock, randomness=SeededRandomness(number), ids=CountingIds()))
        for number, clock in enumerate(clocks)
    ]
    # Something that all of them know from the start, so that most of what follows is about the same tasks.
    operate(nodes[0], "add", 0)
    operate(nodes[0], "add", 1)
    settle(nodes)
    history = History(nodes, clocks)
    for step in steps:
        history.step(*step)
    order.shuffle(nodes)
    settle(nodes)
    (view, *others) = [node.replica.view() for node in nodes]
    assert {other.view_digest for other in others} == {view.view_digest}
    assert all((other.name, other.tasks) == (view.name, view.tasks) for other in others)
    assert (view.name, view.tasks) == nodes[0].model.view()
    for node in nodes:
        version = node.replica.view().version
        assert not node.replica.merge(nodes[0].replica.encode())
        assert node.replica.view().version == version
