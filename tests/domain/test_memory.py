"""Merging patches, as RFC 7396 gives them in its appendix, and whose memory is meant."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.domain.container import (
    PART_CHARS_MAX,
    board_container,
    check_part,
    make_space,
    session_container,
    user_of,
)
from perdure.domain.memory import PATCH_DEPTH_MAX, merge_patch
from perdure.errors import Invalid, LimitExceeded

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="p")


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_standard(target: Any, patch: Any, merged: Any):
    assert merge_patch(target, patch) == merged


def test_a_patch_does_not_change_what_it_is_merged_into():
    target: dict[str, Any] = {"a": {"b": 1}}
    merge_patch(target, {"a": {"b": None}})
    assert target == {"a": {"b": 1}}


def test_a_patch_may_be_as_deep_as_the_limit_and_no_deeper():
    deep: Any = 1
    for _ in range(PATCH_DEPTH_MAX):
        deep = {"a": deep}
    assert merge_patch({}, deep) == deep
    with pytest.raises(Invalid, match="patch_depth_max"):
        merge_patch({}, {"a": {"a": deep}})


def test_containers_say_whose_they_are():
    assert user_of(session_container(SPACE, user="u", session="s")) == "u"
    assert user_of(board_container(SPACE)) is None
    assert user_of(board_container(SPACE, user="u")) == "u"
    assert user_of(board_container(SPACE, user="u", session="s")) == "u"


def test_a_session_s_blackboards_need_their_user():
    with pytest.raises(Invalid, match="user"):
        board_container(SPACE, session="s")


def test_no_two_names_give_one_container():
    assert session_container(SPACE, user="u#1", session="s") != session_container(SPACE, user="u", session="1#s")
    assert session_container(SPACE, user="board", session="s") != board_container(SPACE, user="s")


def test_a_part_may_be_as_long_as_the_limit_and_no_longer():
    assert check_part("é" * PART_CHARS_MAX, what="a user") == "é" * PART_CHARS_MAX
    with pytest.raises(LimitExceeded, match="part_chars_max"):
        check_part("é" * (PART_CHARS_MAX + 1), what="a user")
