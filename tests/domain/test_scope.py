"""Who may be meant by a scope, and by what is said in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perdure.domain.limits import TENANT_CHARS_MAX
from perdure.domain.scope import Scope, make_scope
from perdure.domain.stream import StreamEvent, complete
from perdure.errors import Forbidden, Invalid, LimitExceeded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = StreamEvent(type="note")


def scope(**values: str | None) -> Scope:
    known: dict[str, str | None] = {"tenant": "t_acme", "actor": "user:ann", "mode": "lab", "env": "dev"}
    return make_scope(**{**known, **values})  # type: ignore[arg-type]  # texts, or what tests do wrong on purpose


@pytest.mark.parametrize(
    "bad", ["", "acme", "t_", "T_acme", "t_Acme", "t_acme\n", " t_acme", "t_acme ", "t_a/b", "t_ä", "t_a\0", "xt_acme"]
)
def test_r01_a_tenant_is_a_slug_and_nothing_around_it(bad: str) -> None:
    with pytest.raises(Invalid):
        scope(tenant=bad)


def test_r01_the_longest_tenant_is_64_characters() -> None:
    longest = "t_" + "a" * (TENANT_CHARS_MAX - 2)
    assert scope(tenant=longest).tenant == longest
    with pytest.raises((Invalid, LimitExceeded)):
        scope(tenant=longest + "a")


@pytest.mark.parametrize("bad", ["", "dev", "prod", "LAB", "lab ", "lab\n", "system", "t_system", None, 1])
def test_r02_a_mode_is_one_of_three(bad: str | None) -> None:
    with pytest.raises(Invalid):
        scope(mode=bad)


@pytest.mark.parametrize("mode", ["saas", "enterprise", "lab"])
def test_r02_the_three_modes_are_fine(mode: str) -> None:
    assert scope(mode=mode).mode == mode


def test_r02_a_mode_is_never_left_out() -> None:
    with pytest.raises(TypeError):
        make_scope("t_acme", actor="user:ann", env="dev")  # type: ignore[call-arg]  # that is the point


@pytest.mark.parametrize("part", ["project", "surface", "app", "session", "request_id", "trace_id"])
def test_r24_every_part_is_one_line_of_text(part: str) -> None:
    for fine in ("a/b", "..", "#", "🚀", " edges ", "x" * 128):
        assert getattr(scope(**{part: fine}), part) == fine
    for bad in ("", "two\nlines", "nul\0", "\ud800", "\u2028"):
        with pytest.raises(Invalid):
            scope(**{part: bad})
    with pytest.raises(LimitExceeded):
        scope(**{part: "x" * 129})


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"tenant_id": "t_other"}, ["tenant_id"]),
        ({"mode": "saas"}, ["mode"]),
        ({"env": "prod"}, ["env"]),
        ({"project_id": "p2"}, ["project_id"]),
        ({"surface_id": "s"}, ["surface_id"]),
        ({"app_id": "a"}, ["app_id"]),
        ({"tenant_id": None}, ["tenant_id"]),
        ({"mode": "saas", "tenant_id": "t_o", "app_id": "a"}, ["tenant_id", "mode", "app_id"]),
    ],
)
def test_r04_what_an_event_says_otherwise_is_listed_whole(said: dict[str, str], fields: list[str]) -> None:
    with pytest.raises(Forbidden) as caught:
        complete(replace(EVENT, routing=dict(said)), scope(), event_id="e", now=NOW)
    assert (caught.value.code, caught.value.detail) == ("identity_override", {"fields": fields})


def test_r04_what_an_event_says_the_same_is_fine() -> None:
    ours = {"tenant_id": "t_acme", "mode": "lab", "env": "dev", "project_id": "default", "surface_id": None}
    full = complete(replace(EVENT, routing=dict(ours)), scope(), event_id="e", now=NOW)
    assert full.routing.items() >= ours.items()


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": [1]},
        {"ids": "x"},
        {"routing": None},
        {"meta": 1},
        {"extra": []},
        {"trace_id": 5},
        {"span_id": b"x"},
        {"v": "1"},
        {"v": True},
        {"type": ""},
        {"type": 5},
        {"ts": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
        {"meta": {"priority": "high"}},
        {"meta": {"persist": "maybe"}},
        {"meta": {"severity": 3}},
        {"routing": {"actor_type": "robot"}},
    ],
)
def test_an_event_that_would_come_back_as_something_else_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        complete(replace(EVENT, **wrong), scope(), event_id="e", now=NOW)  # type: ignore[arg-type]  # wrong on purpose
