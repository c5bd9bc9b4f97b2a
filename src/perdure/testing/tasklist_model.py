"""What a task list must come to, told in the plainest way: the oracle that replicas are held against.

A replica of the model is two sets that only grow: facts ever put, and facts ever removed. Merging is
union. The view is read off the whole each time, by rules written here a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.domain.tasklists.tasks import FactChange, Task, TaskStatus


@dataclass(slots=True)
class ModelReplica:
    """A replica of the model."""

    put: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def apply(self, change: FactChange) -> None:
        """Do a local change."""
        self.removed.update(change.removals)
        self.put.update(change.puts)

    def merge(self, other: ModelReplica) -> None:
        """Take in all that another replica has."""
        self.put.update(other.put)
        self.removed |= other.removed

    def copy(self) -> ModelReplica:
        """The replica as it is now: a snapshot, or something on its way."""
        return ModelReplica(dict(self.put), set(self.removed))

    def view(self) -> tuple[str, tuple[Task, ...]]:
        """The list's name and its tasks in order."""
        live = [(key.split("\x1f"), value) for key, value in self.put.items() if key not in self.removed]
        members = {parts[1] for parts, _ in live if parts[0] == "m"}
        tasks = [_task(task_id, [fact for fact in live if fact[0][1] == task_id]) for task_id in members]
        name = _greatest([fact for fact in live if fact[0][1] == ""], "name")
        return name, tuple(sorted(tasks, key=lambda task: (task.position, task.task_id)))


def _task(task_id: str, facts: list[tuple[list[str], str]]) -> Task:
    claims = sorted((int(parts[2]), parts[3]) for parts, _ in facts if parts[0] == "c")
    dones = sorted((int(parts[2]), parts[3]) for parts, _ in facts if parts[0] == "d")
    if dones:
        status = TaskStatus.DONE
    elif claims:
        status = TaskStatus.CLAIMED
    else:
        status = TaskStatus.EMPTY
    return Task(
        task_id=task_id,
        title=_greatest(facts, "title"),
        description=_greatest(facts, "description"),
        priority=int(_greatest(facts, "priority") or 0),
        assignee=_greatest(facts, "assignee") or None,
        tags=tuple(sorted({parts[2] for parts, _ in facts if parts[0] == "t"})),
        status=status,
        claimed_by=claims[0][1] if claims else None,
        claimed_at_ms=claims[0][0] if claims else None,
        completed_by=dones[0][1] if dones else None,
        completed_at_ms=dones[0][0] if dones else None,
        created_by=_greatest(facts, "created_by"),
        created_at_ms=int(_greatest(facts, "created_at_ms") or 0),
        position=_greatest(facts, "position"),
    )


def _greatest(facts: list[tuple[list[str], str]], name: str) -> str:
    found = [(_dot(parts[3]), value) for parts, value in facts if parts[0] == "f" and parts[2] == name]
    return max(found)[1] if found else ""


def _dot(text: str) -> tuple[int, int]:
    lamport, writer = text.split(".")
    return int(lamport, 16), int(writer, 16)
