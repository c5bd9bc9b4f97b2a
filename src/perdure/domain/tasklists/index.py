"""A list resolved from its facts, kept up to date fact by fact."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final, TypeAlias

import blake3
import msgspec

from perdure.domain.tasklists.facts import CLAIM, DONE, FIELD, LIST, MEMBER, Dot, Fact, read_fact
from perdure.domain.tasklists.positions import is_position
from perdure.domain.tasklists.tasks import PRIORITY_MAX, Task, TaskListView, TaskStatus

NAME: Final = "name"
TITLE: Final = "title"
DESCRIPTION: Final = "description"
PRIORITY: Final = "priority"
ASSIGNEE: Final = "assignee"
POSITION: Final = "position"
CREATED_BY: Final = "created_by"
CREATED_AT: Final = "created_at_ms"

_NUMBER_DIGITS_MAX: Final = 16  # of what we write; a time in milliseconds has 13
_LAST: Final = "z"  # where a task without a position stands: behind those that have one
_FEW: Final = 8  # tasks that moved, of which one is put in place by itself, in so many: more are sorted at once

Place: TypeAlias = tuple[str, str]
"""A position, and the id of the task that stands there: what orders a list."""


class TaskFacts:
    """Everything known of one task."""

    __slots__ = ("claims", "digest", "dones", "fields", "members", "resolved", "tags")

    def __init__(self) -> None:
        self.members: set[Dot] = set()
        self.fields: dict[str, dict[Dot, str]] = {}
        self.claims: set[tuple[int, str]] = set()
        self.dones: set[tuple[int, str]] = set()
        self.tags: dict[str, set[Dot]] = {}
        self.resolved: Task | None = None
        self.digest: bytes | None = None

    def text(self, name: str) -> str | None:
        """The value of a field: that of the greatest dot."""
        entries = self.fields.get(name)
        return entries[max(entries)] if entries else None


class TaskIndex:
    """The facts of a list by task, and the view they resolve to. Not safe between threads."""

    def __init__(self) -> None:
        self.lamport = 0
        self.version = 0
        self._tasks: dict[str, TaskFacts] = {}
        self._view: TaskListView | None = None
        self._order: list[Place] = []
        self._positions: dict[str, str] = {}
        self._moved: set[str] = set()

    def put(self, key: str, value: object) -> None:
        """Take a fact in. One that this release does not know, or that holds no text, changes no view."""
        fact = read_fact(key)
        if fact is None or not isinstance(value, str):
            return
        if fact.dot is not None:
            self.lamport = max(self.lamport, fact.dot.lamport)
        of_task = self._tasks.get(fact.task_id)
        if of_task is None:
            of_task = self._tasks[fact.task_id] = TaskFacts()
        _add(of_task, fact, value)
        self._touch(fact.task_id, of_task)

    def remove(self, key: str) -> None:
        """Forget a fact."""
        fact = read_fact(key)
        of_task = None if fact is None else self._tasks.get(fact.task_id)
        if fact is None or of_task is None:
            return
        _discard(of_task, fact)
        self._touch(fact.task_id, of_task)

    def changed(self) -> None:
        """Count one effective change."""
        self.version += 1
        self._view = None

    def facts(self, task_id: str) -> TaskFacts | None:
        """Everything known of a task, a member or not."""
        return self._tasks.get(task_id)

    def find(self, task_id: str) -> Task | None:
        """A task that is a member of the list."""
        of_task = self._tasks.get(task_id)
        if of_task is None or not of_task.members or task_id == LIST:
            return None
        if of_task.resolved is None:
            of_task.resolved = _resolve(task_id, of_task)
        return of_task.resolved

    def count(self) -> int:
        """How many tasks the list has."""
        return len(self._ordered())

    def last(self) -> Place | None:
        """Where the list ends; None for an empty one."""
        order = self._ordered()
        return order[-1] if order else None

    def following(self, task: Task | None) -> Iterator[Place]:
        """The places behind a task, in order; all of them for None."""
        order = self._ordered()
        first = 0 if task is None else bisect_right(order, (task.position, task.task_id))
        return (order[number] for number in range(first, len(order)))

    def view(self) -> TaskListView:
        """The list as it stands."""
        if self._view is None:
            of_list = self._tasks.get(LIST)
            name = (of_list.text(NAME) if of_list else None) or ""
            tasks = [task for _, task_id in self._ordered() if (task := self.find(task_id)) is not None]
            hasher = blake3.blake3(json.dumps(name).encode())
            # One digest each, which is kept: of a long list nothing is read again but what changed.
            hasher.update(b"".join(self._digest(task) for task in tasks))
            self._view = TaskListView(
                name=name, tasks=tuple(tasks), version=self.version, view_digest=hasher.hexdigest()
            )
        return self._view

    def _digest(self, task: Task) -> bytes:
        of_task = self._tasks[task.task_id]
        if of_task.digest is None:
            of_task.digest = blake3.blake3(msgspec.json.encode(task)).digest()
        return of_task.digest

    def _ordered(self) -> list[Place]:
        if len(self._moved) * _FEW > len(self._order):
            tasks = (self.find(task_id) for task_id in self._tasks)
            self._positions = {task.task_id: task.position for task in tasks if task is not None}
            self._order = sorted((position, task_id) for task_id, position in self._positions.items())
        else:
            for task_id in self._moved:
                self._place(task_id)
        self._moved.clear()
        return self._order

    def _place(self, task_id: str) -> None:
        task = self.find(task_id)
        now = None if task is None else task.position
        before = self._positions.get(task_id)
        if now == before:
            return
        if before is not None:
            del self._order[bisect_left(self._order, (before, task_id))]
            del self._positions[task_id]
        if now is not None:
            insort(self._order, (now, task_id))
            self._positions[task_id] = now

    def _touch(self, task_id: str, of_task: TaskFacts) -> None:
        of_task.resolved = of_task.digest = None
        self._moved.add(task_id)
        self._view = None


def _add(of_task: TaskFacts, fact: Fact, value: str) -> None:
    if fact.kind == CLAIM:
        of_task.claims.add((fact.time_ms or 0, fact.name))
    elif fact.kind == DONE:
        of_task.dones.add((fact.time_ms or 0, fact.name))
    elif fact.dot is not None and fact.kind == MEMBER:
        of_task.members.add(fact.dot)
    elif fact.dot is not None and fact.kind == FIELD:
        of_task.fields.setdefault(fact.name, {})[fact.dot] = value
    elif fact.dot is not None:
        of_task.tags.setdefault(fact.name, set()).add(fact.dot)


def _discard(of_task: TaskFacts, fact: Fact) -> None:
    if fact.kind == CLAIM:
        of_task.claims.discard((fact.time_ms or 0, fact.name))
    elif fact.kind == DONE:
        of_task.dones.discard((fact.time_ms or 0, fact.name))
    elif fact.dot is not None and fact.kind == MEMBER:
        of_task.members.discard(fact.dot)
    elif fact.dot is not None and fact.kind == FIELD:
        of_task.fields.get(fact.name, {}).pop(fact.dot, None)
    elif fact.dot is not None:
        dots = of_task.tags.get(fact.name, set())
        dots.discard(fact.dot)
        if not dots:
            of_task.tags.pop(fact.name, None)


def _resolve(task_id: str, of_task: TaskFacts) -> Task:
    claim = min(of_task.claims, default=None)
    done = min(of_task.dones, default=None)
    status = TaskStatus.DONE if done else TaskStatus.CLAIMED if claim else TaskStatus.EMPTY
    position = of_task.text(POSITION) or _LAST
    return Task(
        task_id=task_id,
        title=of_task.text(TITLE) or "",
        description=of_task.text(DESCRIPTION) or "",
        priority=min(_number(of_task.text(PRIORITY)), PRIORITY_MAX),
        assignee=of_task.text(ASSIGNEE) or None,
        tags=tuple(sorted(of_task.tags)),
        status=status,
        claimed_by=claim[1] if claim else None,
        claimed_at_ms=claim[0] if claim else None,
        completed_by=done[1] if done else None,
        completed_at_ms=done[0] if done else None,
        created_by=of_task.text(CREATED_BY) or "",
        created_at_ms=_number(of_task.text(CREATED_AT)),
        position=position if is_position(position) else _LAST,
    )


def _number(text: str | None) -> int:
    # A peer may have written anything; what is no number resolves to the same on every node.
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX else 0
