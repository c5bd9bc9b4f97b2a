"""A list resolved from facts: who wins, in which order, and that every node sees the same."""

from __future__ import annotations

import random

import pytest

from perdure.domain.tasklists.facts import (
    LIST,
    Dot,
    claim_key,
    done_key,
    field_key,
    member_key,
    tag_key,
)
from perdure.domain.tasklists.index import TaskIndex
from perdure.domain.tasklists.tasks import PRIORITY_MAX, TaskStatus

pytestmark = pytest.mark.fast

A, B, C = Dot(1, 1), Dot(1, 2), Dot(2, 1)


def index_of(*facts: tuple[str, object]) -> TaskIndex:
    """The index of these facts, put in this order."""
    index = TaskIndex()
    for key, value in facts:
        index.put(key, value)
    index.changed()
    return index


def a_task(task_id: str = "t", *, position: str = "V", dot: Dot = A) -> list[tuple[str, object]]:
    return [(member_key(task_id, dot), ""), (field_key(task_id, "position", dot), position)]


def test_a_task_is_there_while_one_of_its_dots_is():
    index = index_of(*a_task(), (member_key("t", B), ""))
    index.remove(member_key("t", A))
    assert index.find("t") is not None
    index.remove(member_key("t", B))
    assert index.find("t") is None
    assert index.view().tasks == ()


def test_what_is_said_of_a_task_that_is_no_member_shows_nothing_and_is_kept():
    index = index_of((field_key("t", "title", A), "early"), (claim_key("t", time_ms=1, agent="a"), ""))
    assert index.view().tasks == ()
    index.put(member_key("t", B), "")
    (task,) = index.view().tasks
    assert (task.title, task.status) == ("early", TaskStatus.CLAIMED)


@pytest.mark.parametrize("order", [(A, B, C), (C, B, A), (B, A, C), (B, C, A), (C, A, B), (A, C, B)])
def test_three_concurrent_writers_resolve_alike_in_all_orders(order: tuple[Dot, ...]):
    index = index_of(*a_task(), *((field_key("t", "title", dot), f"by {dot.lamport}.{dot.writer}") for dot in order))
    assert index.view().tasks[0].title == "by 2.1"


def test_when_the_greatest_entry_goes_the_next_one_counts():
    index = index_of(*a_task(), (field_key("t", "title", A), "a"), (field_key("t", "title", B), "b"))
    index.remove(field_key("t", "title", B))
    assert index.view().tasks[0].title == "a"


def test_of_claims_the_earliest_counts_and_of_two_at_once_the_smaller_agent():
    claims = [(5, "a"), (3, "z"), (3, "m"), (4, "b")]
    index = index_of(*a_task(), *((claim_key("t", time_ms=at, agent=agent), "") for at, agent in claims))
    task = index.view().tasks[0]
    assert (task.status, task.claimed_by, task.claimed_at_ms) == (TaskStatus.CLAIMED, "m", 3)


def test_an_earlier_claim_that_arrives_later_displaces():
    index = index_of(*a_task(), (claim_key("t", time_ms=5, agent="a"), ""))
    index.put(claim_key("t", time_ms=4, agent="b"), "")
    assert index.view().tasks[0].claimed_by == "b"


def test_of_completions_the_earliest_counts_and_completion_goes_before_claims():
    index = index_of(
        *a_task(),
        (claim_key("t", time_ms=1, agent="a"), ""),
        (done_key("t", time_ms=9, agent="z"), ""),
        (done_key("t", time_ms=9, agent="b"), ""),
    )
    task = index.view().tasks[0]
    assert (task.status, task.completed_by, task.completed_at_ms) == (TaskStatus.DONE, "b", 9)
    assert task.claimed_by == "a"


def test_tags_are_there_while_one_of_their_dots_is_and_in_order():
    index = index_of(*a_task(), *((tag_key("t", tag, dot), "") for tag, dot in [("z", A), ("b", A), ("b", B)]))
    index.remove(tag_key("t", "b", A))
    assert index.view().tasks[0].tags == ("b", "z")
    index.remove(tag_key("t", "b", B))
    assert index.view().tasks[0].tags == ("z",)


def test_tasks_at_the_same_position_are_in_the_order_of_their_ids():
    index = index_of(*a_task("b"), *a_task("c"), *a_task("a"), *a_task("first", position="1"))
    assert [task.task_id for task in index.view().tasks] == ["first", "a", "b", "c"]


def test_a_task_whose_position_is_none_stands_behind_those_that_have_one():
    index = index_of(*a_task("a", position="V0"), *a_task("b", position="y"))
    assert [task.task_id for task in index.view().tasks] == ["b", "a"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("7", 7), ("255", 255), ("256", PRIORITY_MAX), ("-1", 0), ("1.5", 0), ("\u0661", 0), ("9" * 17, 0), ("", 0)],
)
def test_a_number_that_a_peer_wrote_resolves_alike_everywhere(written: str, read: int):
    index = index_of(*a_task(), (field_key("t", "priority", A), written))
    assert index.view().tasks[0].priority == read


@pytest.mark.parametrize("value", [1, 1.0, None, True, b"x", ["x"]])
def test_a_value_that_is_no_text_changes_no_view(value: object):
    index = index_of(*a_task(), (field_key("t", "title", C), value))
    assert index.view().tasks[0].title == ""


def test_facts_of_a_newer_release_change_no_view():
    index = index_of(*a_task())
    before = index.view()
    for key in ("x", "m", "q\x1ft\x1f1"):
        index.put(key, "new")
        index.remove(key)
    index.remove(field_key("never", "title", A))
    assert index.view() == before


def test_the_list_itself_is_no_task_and_has_a_name():
    index = index_of((field_key(LIST, "name", A), "sprint"), (member_key(LIST, A), ""))
    assert (index.view().name, index.view().tasks) == ("sprint", ())


def test_lamport_is_the_greatest_that_was_seen_also_of_what_is_not_shown():
    index = index_of((field_key("gone", "title", Dot(41, 3)), "x"), *a_task())
    assert index.lamport == 41


def test_the_digest_is_of_what_is_seen_and_of_nothing_else():
    one = index_of(*a_task(), (field_key("t", "title", A), "x"))
    same = index_of((field_key("t", "title", B), "x"), *a_task(dot=C))
    assert one.view().view_digest == same.view().view_digest
    for other in (
        index_of(*a_task(), (field_key("t", "title", A), "y")),
        index_of(*a_task("u"), (field_key("u", "title", A), "x")),
        index_of(*a_task(), (field_key("t", "title", A), "x"), (field_key(LIST, "name", A), "x")),
        index_of(),
    ):
        assert other.view().view_digest != one.view().view_digest


def test_a_view_is_kept_until_something_changes():
    index = index_of(*a_task())
    assert index.view() is index.view()
    index.put(field_key("t", "title", C), "new")
    index.changed()
    assert index.view().tasks[0].title == "new"
    assert index.view().version == 2


@pytest.mark.parametrize("seed", range(5))
def test_an_index_that_was_asked_all_the_time_shows_what_one_that_was_asked_once_shows(seed: int):
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    asked, facts = TaskIndex(), dict[str, str]()
    for number in range(400):
        task = f"task{chance.randrange(60)}"
        dot = Dot(number + 1, chance.randrange(4))
        key = chance.choice([member_key(task, dot), field_key(task, "position", dot), tag_key(task, "t", dot)])
        if facts and chance.random() < 0.4:
            gone = chance.choice(sorted(facts))
            del facts[gone]
            asked.remove(gone)
        facts[key] = chance.choice("1357CVz") if key.startswith("f") else ""
        asked.put(key, facts[key])
        asked.changed()
        if chance.random() < 0.7:
            assert asked.count() == len(asked.view().tasks)
    once = index_of(*facts.items())
    assert asked.view().tasks == once.view().tasks
    assert asked.view().view_digest == once.view().view_digest
    places = [(task.position, task.task_id) for task in once.view().tasks]
    assert list(asked.following(None)) == places
    assert asked.last() == places[-1]
    assert list(asked.following(once.view().tasks[3])) == places[4:]
