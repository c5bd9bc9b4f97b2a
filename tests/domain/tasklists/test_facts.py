"""Facts: a key says all of one, and what no release of ours wrote is nobody's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.tasklists.facts import (
    CLAIM,
    DONE,
    FIELD,
    LAMPORT_MAX,
    LIST,
    MEMBER,
    SEPARATOR,
    TAG,
    Dot,
    Fact,
    claim_key,
    done_key,
    field_key,
    member_key,
    read_fact,
    tag_key,
)

pytestmark = pytest.mark.fast

TEXTS = st.text(st.characters(blacklist_characters=SEPARATOR, blacklist_categories=["Cs"]), max_size=20)
DOTS = st.builds(Dot, st.integers(1, LAMPORT_MAX), st.integers(0, 2**53 - 1))


@given(TEXTS, TEXTS, DOTS, st.integers(0, 2**53 - 1))
def test_what_a_key_was_made_of_is_read_from_it(task: str, name: str, dot: Dot, time_ms: int):
    assert read_fact(member_key(task, dot)) == Fact(MEMBER, task, "", dot, None)
    assert read_fact(field_key(task, name, dot)) == Fact(FIELD, task, name, dot, None)
    assert read_fact(tag_key(task, name, dot)) == Fact(TAG, task, name, dot, None)
    assert read_fact(claim_key(task, time_ms=time_ms, agent=name)) == Fact(CLAIM, task, name, None, time_ms)
    assert read_fact(done_key(task, time_ms=time_ms, agent=name)) == Fact(DONE, task, name, None, time_ms)


def test_dots_are_ordered_by_lamport_and_then_by_writer():
    assert Dot(1, 9) < Dot(2, 1) < Dot(2, 2)


ARABIC_ZERO = "\u0660"
DOT = f"{1:016x}.{1:014x}"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        f"z{SEPARATOR}task{SEPARATOR}{DOT}",
        f"m{SEPARATOR}task",
        f"m{SEPARATOR}task{SEPARATOR}{DOT}{SEPARATOR}more",
        f"m{SEPARATOR}task{SEPARATOR}{DOT[:-1]}",
        f"m{SEPARATOR}task{SEPARATOR}{DOT}0",
        f"m{SEPARATOR}task{SEPARATOR}{DOT.replace('.', ':')}",
        f"m{SEPARATOR}task{SEPARATOR}{'0' * 16}.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR}{LAMPORT_MAX + 1:016x}.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR}{'A' * 16}.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR}+{1:015x}.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR}0_0{1:013x}.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR} {1:015x}.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR}{ARABIC_ZERO * 15}1.{1:014x}",
        f"m{SEPARATOR}task{SEPARATOR}{'g' * 16}.{1:014x}",
        f"c{SEPARATOR}task{SEPARATOR}{1:015d}{SEPARATOR}agent",
        f"c{SEPARATOR}task{SEPARATOR}{ARABIC_ZERO * 16}{SEPARATOR}agent",
        f"c{SEPARATOR}task{SEPARATOR}-{1:015d}{SEPARATOR}agent",
        f"c{SEPARATOR}task{SEPARATOR}{1:016d}",
        f"f{SEPARATOR}task{SEPARATOR}{DOT}",
    ],
    ids=range(21),
)
def test_what_is_no_key_of_ours_is_no_fact(key: str):
    assert read_fact(key) is None


def test_a_dot_at_the_end_of_counting_is_read():
    assert read_fact(member_key(LIST, Dot(LAMPORT_MAX, 0))) is not None
