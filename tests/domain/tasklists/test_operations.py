"""Operations on a list: what each refuses, each limit at its edge, and what a removal removes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perdure.domain.tasklists.facts import Dot, field_key, member_key, tag_key
from perdure.domain.tasklists.index import TaskIndex
from perdure.domain.tasklists.operations import TIME_MS_MAX, Draft
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
    TaskStatus,
)
from perdure.errors import IllegalTransition, Invalid, LimitExceeded, NotFound

pytestmark = pytest.mark.fast

WRITER = 7
LONE = "\ud800"


class Board:
    """A list that drafts are done to at once."""

    def __init__(self) -> None:
        self.index = TaskIndex()

    def do(self, operation: Callable[[Draft], None], *, writer: int = WRITER) -> Draft:
        draft = Draft(self.index, writer=writer)
        operation(draft)
        change = draft.change()
        for key in change.removals:
            self.index.remove(key)
        for key, value in change.puts.items():
            self.index.put(key, value)
        self.index.changed()
        return draft

    def add(self, task_id: str = "t", **given: Any) -> None:
        fields: dict[str, Any] = {
            "title": "write",
            "description": "",
            "priority": 0,
            "created_by": "agent:a",
            "at_ms": 1,
        } | given
        self.do(lambda draft: draft.add(task_id, **fields))

    @property
    def order(self) -> list[str]:
        return [task.task_id for task in self.index.view().tasks]

    @property
    def task(self) -> Any:
        return self.index.find("t")


@pytest.fixture
def board() -> Board:
    made = Board()
    made.add()
    return made


def test_tasks_are_added_at_the_end(board: Board):
    board.add("a", title="second", description="of\n\ttwo lines", priority=PRIORITY_MAX, at_ms=TIME_MS_MAX)
    assert board.order == ["t", "a"]
    second = board.index.view().tasks[1]
    assert (second.description, second.priority, second.created_at_ms) == ("of\n\ttwo lines", 255, TIME_MS_MAX)
    assert second.created_by == "agent:a"


@pytest.mark.parametrize(
    ("given", "over"),
    [
        ({"title": "x" * TITLE_CHARS_MAX}, {"title": "x" * (TITLE_CHARS_MAX + 1)}),
        ({"description": "x" * DESCRIPTION_CHARS_MAX}, {"description": "x" * (DESCRIPTION_CHARS_MAX + 1)}),
        ({"created_by": "x" * AGENT_CHARS_MAX}, {"created_by": "x" * (AGENT_CHARS_MAX + 1)}),
        ({"task_id": "x" * TASK_ID_CHARS_MAX}, {"task_id": "x" * (TASK_ID_CHARS_MAX + 1)}),
    ],
    ids=["title", "description", "agent", "id"],
)
def test_texts_of_a_task_are_taken_at_their_limits_and_not_beyond(given: dict[str, str], over: dict[str, str]):
    board = Board()
    board.add(**given)
    assert len(board.order) == 1
    with pytest.raises(LimitExceeded):
        board.add(**({"task_id": "other"} | over))
    assert len(board.order) == 1


def test_a_name_a_tag_and_the_number_of_tags_have_their_limits(board: Board):
    board.do(lambda draft: draft.rename("x" * LIST_NAME_CHARS_MAX))
    with pytest.raises(LimitExceeded):
        board.do(lambda draft: draft.rename("x" * (LIST_NAME_CHARS_MAX + 1)))
    tags = [str(number).rjust(TAG_CHARS_MAX, "x") for number in range(TAGS_MAX)]
    for tag in tags:
        board.do(lambda draft, tag=tag: draft.tag("t", tag))  # type: ignore[misc]  # mypy cannot infer a default
    assert len(board.task.tags) == TAGS_MAX
    assert not board.do(lambda draft: draft.tag("t", tags[0])).puts
    with pytest.raises(LimitExceeded, match="tags_max"):
        board.do(lambda draft: draft.tag("t", "one more"))
    with pytest.raises(LimitExceeded):
        board.do(lambda draft: draft.tag("t", "x" * (TAG_CHARS_MAX + 1)))


def test_a_list_takes_as_many_tasks_as_its_limit(monkeypatch: pytest.MonkeyPatch, board: Board):
    monkeypatch.setattr(board.index, "count", lambda: TASKS_MAX - 1)
    board.add("last")
    monkeypatch.setattr(board.index, "count", lambda: TASKS_MAX)
    with pytest.raises(LimitExceeded, match="tasks_max"):
        board.add("more")


@pytest.mark.parametrize("priority", [-1, PRIORITY_MAX + 1, 1.0, True, "1", 2**63, None])
def test_a_priority_is_a_whole_number_of_a_byte(priority: Any):
    with pytest.raises(Invalid):
        Board().add(priority=priority)


@pytest.mark.parametrize("at_ms", [-1, TIME_MS_MAX + 1, 2**63])
def test_a_clock_beyond_all_bounds_is_refused(board: Board, at_ms: int):
    for operation in (
        lambda draft: draft.add("a", title="a", description="", priority=0, created_by="a", at_ms=at_ms),
        lambda draft: draft.claim("t", agent="a", at_ms=at_ms),
    ):
        with pytest.raises(Invalid, match="clock"):
            board.do(operation)
    board.do(lambda draft: draft.claim("t", agent="a", at_ms=0))
    with pytest.raises(Invalid, match="clock"):
        board.do(lambda draft: draft.complete("t", agent="a", at_ms=at_ms))


@pytest.mark.parametrize("bad", [LONE, "a\x1fb", "a\nb", "", " a", "a\u2028", "\x00"])
def test_what_is_no_line_of_text_is_refused_everywhere(board: Board, bad: str):
    operations: list[Callable[[Draft], None]] = [
        lambda draft: draft.add(bad, title="a", description="", priority=0, created_by="a", at_ms=1),
        lambda draft: draft.add("a", title=bad, description="", priority=0, created_by="a", at_ms=1),
        lambda draft: draft.add("a", title="a", description="", priority=0, created_by=bad, at_ms=1),
        lambda draft: draft.edit("t", title=bad),
        lambda draft: draft.assign("t", bad),
        lambda draft: draft.claim("t", agent=bad, at_ms=1),
        lambda draft: draft.tag("t", bad),
        lambda draft: draft.rename(bad),
    ]
    before = board.index.view()
    for operation in operations:
        with pytest.raises(Invalid):
            board.do(operation)
    assert board.index.view() is before


@pytest.mark.parametrize("bad", [LONE, "a\x1fb", "a\x00", "a\r\nb", "line\u2028line"])
def test_a_description_has_lines_and_no_other_control_characters(board: Board, bad: str):
    with pytest.raises(Invalid):
        board.do(lambda draft: draft.edit("t", description=bad))


def test_every_operation_on_a_task_that_is_not_there_says_so(board: Board):
    operations: list[Callable[[Draft], None]] = [
        lambda draft: draft.edit("x", title="a"),
        lambda draft: draft.assign("x", "a"),
        lambda draft: draft.claim("x", agent="a", at_ms=1),
        lambda draft: draft.complete("x", agent="a", at_ms=1),
        lambda draft: draft.tag("x", "a"),
        lambda draft: draft.untag("x", "a"),
        lambda draft: draft.remove("x"),
        lambda draft: draft.move("x", after=None),
        lambda draft: draft.move("t", after="x"),
        lambda draft: draft.restore("x"),
        lambda draft: draft.restore(""),
    ]
    for operation in operations:
        with pytest.raises(NotFound):
            board.do(operation)


def test_upstream_empty_cannot_be_completed_and_done_cannot_be_claimed(board: Board):
    with pytest.raises(IllegalTransition) as raised:
        board.do(lambda draft: draft.complete("t", agent="a", at_ms=1))
    assert raised.value.detail == {"current": "empty", "attempted": "complete"}
    board.do(lambda draft: draft.claim("t", agent="a", at_ms=1))
    board.do(lambda draft: draft.claim("t", agent="b", at_ms=2))  # advisory: an earlier one may be on its way
    board.do(lambda draft: draft.complete("t", agent="b", at_ms=3))  # whoever claimed it
    assert (board.task.status, board.task.claimed_by, board.task.completed_by) == (TaskStatus.DONE, "a", "b")
    for operation in (
        lambda draft: draft.claim("t", agent="a", at_ms=4),
        lambda draft: draft.complete("t", agent="a", at_ms=4),
    ):
        with pytest.raises(IllegalTransition):
            board.do(operation)


def test_a_task_that_is_there_is_not_added_again_and_one_that_was_removed_is(board: Board):
    with pytest.raises(Invalid, match="already"):
        board.add()
    board.do(lambda draft: draft.remove("t"))
    board.add(title="again")
    assert board.task.title == "again"


def test_a_removal_names_exactly_the_dots_that_were_seen(board: Board):
    board.index.put(member_key("t", Dot(9, 3)), "")
    draft = board.do(lambda draft: draft.remove("t"))
    assert draft.removals == [member_key("t", Dot(1, WRITER)), member_key("t", Dot(9, 3))]
    assert not draft.puts
    assert board.order == []


def test_what_is_restored_is_as_it_was(board: Board):
    board.do(lambda draft: draft.edit("t", title="better"))
    board.do(lambda draft: draft.remove("t"))
    board.do(lambda draft: draft.restore("t"))
    assert board.task.title == "better"
    assert not board.do(lambda draft: draft.restore("t")).puts


def test_a_write_puts_one_entry_after_all_that_were_seen_and_removes_those(board: Board):
    board.index.put(field_key("t", "title", Dot(50, 9)), "from a peer")
    draft = board.do(lambda draft: draft.edit("t", title="mine"))
    assert draft.puts == {field_key("t", "title", Dot(51, WRITER)): "mine"}
    assert set(draft.removals) == {field_key("t", "title", Dot(1, WRITER)), field_key("t", "title", Dot(50, 9))}
    assert board.task.title == "mine"


def test_what_is_so_already_is_not_written_again(board: Board):
    for operation in (
        lambda draft: draft.edit("t", title="write", description="", priority=0),
        lambda draft: draft.assign("t", None),
        lambda draft: draft.untag("t", "none"),
    ):
        change = board.do(operation).change()
        assert (change.puts, change.removals) == ({}, ())


def test_somebody_is_assigned_and_nobody(board: Board):
    board.do(lambda draft: draft.assign("t", "agent:b"))
    assert board.task.assignee == "agent:b"
    board.do(lambda draft: draft.assign("t", None))
    assert board.task.assignee is None


def test_a_tag_goes_with_every_dot_that_was_seen(board: Board):
    board.do(lambda draft: draft.tag("t", "red"))
    board.index.put(tag_key("t", "red", Dot(30, 2)), "")
    draft = board.do(lambda draft: draft.untag("t", "red"))
    assert len(draft.removals) == 2
    assert board.task.tags == ()


def test_tasks_are_moved_first_last_and_between(board: Board):
    for name in "abc":
        board.add(name)
    for moved, after, order in (
        ("c", None, ["c", "t", "a", "b"]),
        ("c", "a", ["t", "a", "c", "b"]),
        ("t", "b", ["a", "c", "b", "t"]),
        ("a", None, ["a", "c", "b", "t"]),
    ):
        draft = board.do(lambda draft, moved=moved, after=after: draft.move(moved, after=after))  # type: ignore[misc]
        assert board.order == order
        assert len(draft.puts) == 1
    with pytest.raises(Invalid, match="behind itself"):
        board.do(lambda draft: draft.move("a", after="a"))


def test_tasks_that_stand_at_one_position_are_moved_along_and_nobody_else(board: Board):
    for name in "abcd":
        board.add(name)
    for name in "abc":
        board.index.put(field_key(name, "position", Dot(90, 1)), "k")
    board.index.put(field_key("d", "position", Dot(90, 1)), "s")
    board.index.changed()
    assert board.order == ["t", "a", "b", "c", "d"]
    draft = board.do(lambda draft: draft.move("t", after="a"))
    assert board.order == ["a", "t", "b", "c", "d"]
    assert len(draft.puts) == 3  # of the moved one and of the two that were behind at the same position
