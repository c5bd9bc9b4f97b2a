"""Tasks as people see them, and the limits of what one may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TASKS_MAX: Final = 50_000  # visible tasks of one list: its whole view is held in memory and read at a start
TITLE_CHARS_MAX: Final = 500  # one line that people read
DESCRIPTION_CHARS_MAX: Final = 20_000  # some pages; what is longer belongs into an object
TAGS_MAX: Final = 32  # of one task
TAG_CHARS_MAX: Final = 64  # a word or two
AGENT_CHARS_MAX: Final = 128  # as long as any actor
TASK_ID_CHARS_MAX: Final = 128  # longer than any platform's own; it stands in every fact of the task
LIST_NAME_CHARS_MAX: Final = 200  # one line that people read
PRIORITY_MAX: Final = 255  # an unsigned byte, as peers keep it


class TaskStatus(StrEnum):
    """Where a task stands."""

    EMPTY = "empty"
    CLAIMED = "claimed"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a list, resolved from everything that replicas said of it.

    Times are milliseconds since 1970 by the clock of whoever claimed or completed. Of several claims, or completions,
    the earliest counts, and of two at the same time that of the smaller agent; completion goes before claims.
    """

    task_id: str
    title: str
    description: str
    priority: int
    assignee: str | None
    tags: tuple[str, ...]
    status: TaskStatus
    claimed_by: str | None
    claimed_at_ms: int | None
    completed_by: str | None
    completed_at_ms: int | None
    created_by: str
    created_at_ms: int
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskListView:
    """A list as it stands: its tasks in order, and a digest that replicas with the same view agree on.

    ``view_digest`` is BLAKE3-256 in hex of the resolved view, never of encoded bytes, which differ between replicas
    that agree. ``version`` counts effective changes on this node since it started.
    """

    name: str
    tasks: tuple[Task, ...]
    version: int
    view_digest: str


@dataclass(frozen=True, slots=True)
class FactChange:
    """What an operation does to the facts of a list: facts to put, and facts, seen before, to remove."""

    puts: dict[str, str] = field(default_factory=dict)
    removals: tuple[str, ...] = ()
