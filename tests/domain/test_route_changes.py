"""What a change of a route writes: the state, its history and its event, from the state before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from perdure.domain.kinds import Kind
from perdure.domain.route import (
    COST_NOTES_CHARS_MAX,
    RATIONALE_CHARS_MAX,
    CopyPhase,
    Route,
    RouteEventType,
    RouteKey,
    Target,
    make_route_key,
)
from perdure.domain.route_changes import (
    By,
    RouteSettings,
    abandon_copy,
    begin_copy,
    delete_route,
    edit_route,
    finish_copy,
    make_route,
    revive_route,
    settle_copy,
    switch_route,
)
from perdure.errors import IllegalTransition, Invalid, LimitExceeded

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BY = By(actor="user:ops", at=NOW, request_id="req-1")
LATER = By(actor="user:other", at=NOW + timedelta(hours=1))
ID = UUID("01900000-0000-7000-8000-000000000001")
KEY = RouteKey(kind=Kind.STREAMS, tenant="t_acme", mode="saas", env="prod")
HERE = Target(backend="here", config={"table": "a"})
THERE = Target(backend="there", config={"place": "b"})


def made(settings: RouteSettings | None = None, key: RouteKey = KEY) -> Route:
    return make_route(key, HERE, settings or RouteSettings(), route_id=ID, by=BY).route


def test_a_first_version_expects_that_there_is_none():
    change = make_route(KEY, HERE, RouteSettings(tier="pro", cost_notes="cheap"), route_id=ID, by=BY)
    assert change.expected_version == 0
    assert (change.route.version, change.route.tier, change.route.cost_notes) == (1, "pro", "cheap")
    assert (change.history.action, change.history.from_backend, change.history.to_backend) == ("set", None, "here")
    assert (change.event.type, change.event.event_id) == (RouteEventType.CHANGED, f"{ID}:v1")
    assert change.history.request_id == "req-1"


def test_an_edit_keeps_id_and_creation_and_says_nothing_of_a_switch():
    switched = switch_route(made(), THERE, RouteSettings(), rationale="cheaper", by=BY).route
    change = edit_route(switched, replace(THERE, config={"place": "c"}), RouteSettings(tier="pro"), by=LATER)
    assert (change.route.route_id, change.route.created_at, change.route.version) == (ID, NOW, 3)
    assert change.expected_version == 2
    assert change.event.type is RouteEventType.CHANGED
    assert change.event.previous_backend_type is None
    assert (change.route.previous_backend_type, change.route.last_switch_time) == ("here", NOW)
    assert change.route.updated_by == "user:other"


def test_a_switch_replaces_the_config_and_records_from_where_when_and_why():
    change = switch_route(made(), THERE, RouteSettings(), rationale="  nearer to the users ", by=LATER)
    assert change.route.config == {"place": "b"}
    assert change.route.previous_backend_type == "here"
    assert change.route.switch_rationale == "nearer to the users"
    assert change.route.last_switch_time == LATER.at
    assert (change.history.from_backend, change.history.to_backend) == ("here", "there")
    assert change.event.type is RouteEventType.BACKEND_SWITCHED
    assert change.event.previous_backend_type == "here"


@pytest.mark.parametrize("rationale", ["", "   ", "two\nlines"])
def test_a_switch_without_a_proper_reason_is_refused(rationale: str):
    with pytest.raises(Invalid, match="rationale"):
        switch_route(made(), THERE, RouteSettings(), rationale=rationale, by=BY)


def test_a_reason_may_be_as_long_as_the_limit_and_no_longer():
    long = "x" * RATIONALE_CHARS_MAX
    assert switch_route(made(), THERE, RouteSettings(), rationale=long, by=BY).route.switch_rationale == long
    with pytest.raises(LimitExceeded, match="rationale_chars_max"):
        switch_route(made(), THERE, RouteSettings(), rationale=long + "x", by=BY)


def test_cost_notes_may_be_as_long_as_the_limit_and_no_longer():
    long = "x" * COST_NOTES_CHARS_MAX
    assert made(RouteSettings(cost_notes=long)).cost_notes == long
    with pytest.raises(LimitExceeded, match="cost_notes_chars_max"):
        made(RouteSettings(cost_notes=long + "x"))


def test_an_edit_to_another_backend_is_refused():
    with pytest.raises(Invalid, match="switch"):
        edit_route(made(), THERE, RouteSettings(), by=BY)


def test_a_switch_to_the_same_backend_is_refused():
    with pytest.raises(Invalid, match="already"):
        switch_route(made(), HERE, RouteSettings(), rationale="again", by=BY)


def test_the_times_of_a_route_grow_whatever_the_clocks_say():
    earlier = By(actor="user:ops", at=NOW - timedelta(days=1))
    change = edit_route(made(), HERE, RouteSettings(tier="pro"), by=earlier)
    assert change.route.updated_at > NOW
    assert change.history.occurred_at == change.route.updated_at


def test_only_the_control_plane_offers_a_default():
    with pytest.raises(Invalid, match="t_system"):
        made(RouteSettings(default=True))
    system = replace(KEY, tenant="t_system")
    assert made(RouteSettings(default=True), system).default
    with pytest.raises(Invalid, match="project"):
        made(RouteSettings(default=True), replace(system, project="p"))


def test_a_route_for_a_surface_names_its_project():
    with pytest.raises(Invalid, match="project"):
        made(key=replace(KEY, surface="web"))


@pytest.mark.parametrize("settings", [RouteSettings(tier="gold"), RouteSettings(audit="all")])  # type: ignore[arg-type]
def test_unknown_words_are_refused(settings: RouteSettings):
    with pytest.raises(Invalid):
        made(settings)


def test_a_deleted_route_comes_back_under_its_id_with_its_history():
    gone = delete_route(made(RouteSettings(tier="pro")), rationale=None, by=BY)
    assert (gone.route.deleted, gone.history.to_backend, gone.route.version) == (True, None, 2)
    back = revive_route(gone.route, THERE, RouteSettings(), by=LATER)
    assert (back.route.route_id, back.route.version, back.expected_version) == (ID, 3, 2)
    assert (back.route.deleted, back.route.tier, back.route.config) == (False, "free", {"place": "b"})
    assert back.event.type is RouteEventType.CHANGED


def test_a_copy_goes_from_filling_to_settling_to_done():
    filling = begin_copy(made(), THERE, rationale="move", by=BY).route
    assert filling.copy is not None
    assert (filling.backend, filling.copy.phase, filling.copy.other) == ("here", CopyPhase.BACKFILL, THERE)
    settling = settle_copy(filling, by=BY).route
    assert settling.copy is not None
    assert (settling.backend, settling.copy.phase) == ("here", CopyPhase.SETTLE)
    done = finish_copy(settling, rollback_s=60, by=LATER)
    assert (done.route.backend, done.route.config) == ("there", {"place": "b"})
    assert done.event.type is RouteEventType.BACKEND_SWITCHED
    assert done.route.copy is not None
    assert (done.route.copy.phase, done.route.copy.other) == (CopyPhase.DONE, HERE)
    assert done.route.copy.rollback_until == LATER.at + timedelta(seconds=60)


def test_a_copy_that_is_abandoned_leaves_the_route_as_it_was():
    filling = begin_copy(made(), THERE, rationale="move", by=BY).route
    for route in (filling, settle_copy(filling, by=BY).route):
        left = abandon_copy(route, by=LATER).route
        assert (left.backend, left.copy, left.previous_backend_type) == ("here", None, None)


def test_steps_of_a_copy_out_of_order_are_refused():
    route = made()
    filling = begin_copy(route, THERE, rationale="move", by=BY).route
    for wrong in (
        lambda: settle_copy(route, by=BY),
        lambda: finish_copy(filling, rollback_s=1, by=BY),
        lambda: abandon_copy(route, by=BY),
        lambda: begin_copy(filling, THERE, rationale="again", by=BY),
        lambda: switch_route(filling, THERE, RouteSettings(), rationale="now", by=BY),
        lambda: edit_route(filling, HERE, RouteSettings(), by=BY),
        lambda: delete_route(filling, rationale=None, by=BY),
    ):
        with pytest.raises(IllegalTransition):
            wrong()


def test_a_key_is_checked_in_every_part():
    assert make_route_key("tables", "t_acme", mode="lab", env="dev", project="a/b#c").project == "a/b#c"
    for bad in (
        {"kind": "runs"},
        {"kind": "nothing"},
        {"tenant": "acme"},
        {"tenant": "t_a\n"},
        {"mode": "prod"},
        {"env": "X"},
        {"project": ""},
    ):
        given = {"kind": "tables", "tenant": "t_acme", "mode": "lab", "env": "dev"} | bad
        with pytest.raises(Invalid):
            make_route_key(given.pop("kind"), given.pop("tenant"), **given)
