"""What each operation on a task list does to its facts. Rules hold for local operations only, never for merges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from perdure.domain.ids import check_text
from perdure.domain.tasklists.facts import LIST, Dot, claim_key, done_key, field_key, member_key, tag_key
from perdure.domain.tasklists.index import (
    ASSIGNEE,
    CREATED_AT,
    CREATED_BY,
    DESCRIPTION,
    NAME,
    POSITION,
    PRIORITY,
    TITLE,
    TaskIndex,
)
from perdure.domain.tasklists.positions import position_between
from perdure.domain.tasklists.tasks import (
    AGENT_CHARS_MAX,
    DESCRIPTION_CHARS_MAX,
    LIST_NAME_CHARS_MAX,
    PRIORITY_MAX,
    TAG_CHARS_MAX,
    TAGS_MAX,
    TASK_ID_CHARS_MAX,
    TASKS_MAX,
    TITLE_CHARS_MAX,
    FactChange,
    Task,
    TaskStatus,
)
from perdure.errors import IllegalTransition, Invalid, LimitExceeded, NotFound

LINE_FREE: Final = "\n\t"  # control characters that a description may hold
TIME_MS_MAX: Final = 2**53 - 1  # exact wherever it is read


class Draft:
    """One operation in the making: facts to put and to remove, all of them with the dots of one logical moment."""

    def __init__(self, index: TaskIndex, *, writer: int) -> None:
        self._index = index
        self._dot = Dot(index.lamport + 1, writer)
        self.puts: dict[str, str] = {}
        self.removals: list[str] = []

    def change(self) -> FactChange:
        """What the operation does."""
        return FactChange(puts=self.puts, removals=tuple(self.removals))

    def add(self, task_id: str, *, title: str, description: str, priority: int, created_by: str, at_ms: int) -> None:
        """Make a task the last of the list. Raises ``Invalid`` if a member has that id, ``LimitExceeded``."""
        check_text(task_id, what="a task's id", limit="task_id_chars_max", chars_max=TASK_ID_CHARS_MAX)
        if self._index.find(task_id) is not None:
            raise Invalid(f"task {task_id!a} is in the list already; edit it")
        _refuse_more("tasks_max", TASKS_MAX, self._index.count() + 1, "tasks in one list")
        self.puts[member_key(task_id, self._dot)] = ""
        self.write(task_id, TITLE, check_title(title))
        self.write(task_id, DESCRIPTION, check_description(description))
        self.write(task_id, PRIORITY, str(check_priority(priority)))
        self.write(task_id, CREATED_BY, check_agent(created_by))
        self.write(task_id, CREATED_AT, str(_check_time(at_ms)))
        last = self._index.last()
        self.write(task_id, POSITION, position_between(last[0] if last else None, None))

    def restore(self, task_id: str) -> None:
        """Make a removed task a member again, as it was. Raises ``NotFound`` for one that never was."""
        if self._index.facts(task_id) is None or task_id == LIST:
            raise _not_found(task_id)
        if self._index.find(task_id) is None:
            self.puts[member_key(task_id, self._dot)] = ""

    def write(self, task_id: str, field: str, value: str) -> None:
        """Give a field a value: put an entry and remove those seen."""
        of_task = self._index.facts(task_id)
        seen = of_task.fields.get(field, {}) if of_task else {}
        self.removals += [field_key(task_id, field, dot) for dot in seen]
        self.puts[field_key(task_id, field, self._dot)] = value

    def rename(self, name: str) -> None:
        """Give the list a name."""
        self.write(
            LIST, NAME, check_text(name, what="a name", limit="list_name_chars_max", chars_max=LIST_NAME_CHARS_MAX)
        )

    def edit(
        self, task_id: str, *, title: str | None = None, description: str | None = None, priority: int | None = None
    ) -> None:
        """Change what is given."""
        task = self._member(task_id)
        if title is not None and check_title(title) != task.title:
            self.write(task_id, TITLE, title)
        if description is not None and check_description(description) != task.description:
            self.write(task_id, DESCRIPTION, description)
        if priority is not None and check_priority(priority) != task.priority:
            self.write(task_id, PRIORITY, str(priority))

    def assign(self, task_id: str, agent: str | None) -> None:
        """Say whose task it is; None for nobody's."""
        task = self._member(task_id)
        if agent is not None:
            check_agent(agent)
        if agent != task.assignee:
            self.write(task_id, ASSIGNEE, agent or "")

    def claim(self, task_id: str, *, agent: str, at_ms: int) -> None:
        """Claim a task: advisory, for who claimed first may not be known yet. Refused when it is done."""
        task = self._member(task_id)
        if task.status is TaskStatus.DONE:
            raise _illegal(task, "claim")
        self.puts[claim_key(task_id, time_ms=_check_time(at_ms), agent=check_agent(agent))] = ""

    def complete(self, task_id: str, *, agent: str, at_ms: int) -> None:
        """Complete a claimed task, whoever claimed it. Refused when nobody did, or when it is done."""
        task = self._member(task_id)
        if task.status is not TaskStatus.CLAIMED:
            raise _illegal(task, "complete")
        self.puts[done_key(task_id, time_ms=_check_time(at_ms), agent=check_agent(agent))] = ""

    def tag(self, task_id: str, tag: str) -> None:
        """Add a tag."""
        task = self._member(task_id)
        check_text(tag, what="a tag", limit="tag_chars_max", chars_max=TAG_CHARS_MAX)
        if tag not in task.tags:
            _refuse_more("tags_max", TAGS_MAX, len(task.tags) + 1, "tags of one task")
            self.puts[tag_key(task_id, tag, self._dot)] = ""

    def untag(self, task_id: str, tag: str) -> None:
        """Remove a tag, as far as it was seen."""
        self._member(task_id)
        of_task = self._index.facts(task_id)
        dots = of_task.tags.get(tag, set()) if of_task else set()
        self.removals += [tag_key(task_id, tag, dot) for dot in sorted(dots)]

    def remove(self, task_id: str) -> None:
        """Take a task off the list, as far as it was seen: added again by somebody at the same time, it stays."""
        self._member(task_id)
        of_task = self._index.facts(task_id)
        dots = of_task.members if of_task else set()
        self.removals += [member_key(task_id, dot) for dot in sorted(dots)]

    def move(self, task_id: str, *, after: str | None) -> None:
        """Put a task right behind another one, or first (None).

        One write, so that a task that two move at the same time is at one of the places, once. Only tasks that stand
        at the very same position, because two put them there at the same time, have to be moved along.
        """
        self._member(task_id)
        if after == task_id:
            raise Invalid("a task does not stand behind itself")
        behind = None if after is None else self._member(after)
        low = None if behind is None else behind.position
        tied: list[str] = []
        high: str | None = None
        for position, other in self._index.following(behind):
            if other == task_id:
                continue
            if position != low:
                high = position
                break
            tied.append(other)
        for moved in (task_id, *tied):
            low = position_between(low, high)
            self.write(moved, POSITION, low)

    def _member(self, task_id: str) -> Task:
        task = self._index.find(task_id)
        if task is None:
            raise _not_found(task_id)
        return task


def check_title(title: str) -> str:
    """A title: one line of at most ``TITLE_CHARS_MAX`` characters."""
    return check_text(title, what="a title", limit="title_chars_max", chars_max=TITLE_CHARS_MAX)


def check_description(description: str) -> str:
    """A description: lines of text, at most ``DESCRIPTION_CHARS_MAX`` characters in all; may be empty."""
    _refuse_more("description_chars_max", DESCRIPTION_CHARS_MAX, len(description), "characters in a description")
    for line in _lines(description):
        check_text(
            line,
            what="a line of a description",
            limit="description_chars_max",
            chars_max=DESCRIPTION_CHARS_MAX,
            blank_edges_allowed=True,
        )
    return description


def check_agent(agent: str) -> str:
    """Who claims, completes or is assigned."""
    return check_text(agent, what="an agent", limit="agent_chars_max", chars_max=AGENT_CHARS_MAX)


def check_priority(priority: int) -> int:
    """A priority from 0 to ``PRIORITY_MAX``."""
    if type(priority) is not int or not 0 <= priority <= PRIORITY_MAX:
        raise Invalid(f"a priority is a whole number from 0 to {PRIORITY_MAX}")
    return priority


def _lines(text: str) -> Iterable[str]:
    return (line for line in text.replace("\t", "\n").split("\n") if line)


def _check_time(at_ms: int) -> int:
    if not 0 <= at_ms <= TIME_MS_MAX:
        raise Invalid("the clock of this node is before 1970 or beyond all bounds; set it right")
    return at_ms


def _not_found(task_id: str) -> NotFound:
    return NotFound(f"no task {ascii(task_id)[:80]} in this list", task_id=task_id)


def _illegal(task: Task, attempted: str) -> IllegalTransition:
    return IllegalTransition(
        f"task {task.task_id!a} is {task.status}; it cannot be the object of {attempted!r} now",
        current=task.status.value,
        attempted=attempted,
    )


def _refuse_more(limit: str, allowed: int, actual: int, what: str) -> None:
    if actual > allowed:
        raise LimitExceeded(
            f"{actual} {what}, at most {allowed} ({limit})", limit=limit, allowed=allowed, actual=actual
        )
