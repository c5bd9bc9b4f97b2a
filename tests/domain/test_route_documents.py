"""Routes in the words of older registries, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from perdure.domain.kinds import TENANT_KINDS, Kind
from perdure.domain.route import Route
from perdure.domain.route_documents import document_of, read_documents
from perdure.errors import Invalid

ROUTE = Route(
    route_id=UUID(int=1),
    kind=Kind.STREAMS,
    tenant="t_acme",
    mode="saas",
    env="prod",
    backend="postgres",
    config={"dsn": "secret://env/OTHER"},
    tier="enterprise",
    cost_notes="what the server costs",
    version=3,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 2, tzinfo=UTC),
    updated_by="user:ana",
    previous_backend_type="memory",
    switch_rationale="grown up",
    last_switch_time=datetime(2026, 1, 2, tzinfo=UTC),
)


@pytest.mark.parametrize("kind", TENANT_KINDS)
@pytest.mark.parametrize(
    "route",
    [
        ROUTE,
        replace(ROUTE, project="apollo", surface="chat", required=False, audit="writes"),
        replace(ROUTE, tenant="t_system", default=True, cost_notes=None, config={}),
    ],
)
def test_what_is_written_is_read_as_the_same_route(route: Route, kind: Kind) -> None:
    one = replace(route, kind=kind)

    (wanted,) = read_documents(json.dumps(document_of(one)).encode(), mode="saas", env="prod")

    assert wanted.key == one.key
    assert wanted.target == one.target
    assert wanted.is_met_by(one)
    for other in (replace(one, tier="free"), replace(one, backend="other"), replace(one, deleted=True)):
        assert not wanted.is_met_by(other)


def test_the_words_are_those_of_older_registries() -> None:
    document = document_of(ROUTE)

    assert list(document) == [
        "resource_kind", "tenant_id", "mode", "env", "project_id", "surface_id", "backend_type", "config", "required",
        "tier", "cost_notes", "previous_backend_type", "switch_rationale", "last_switch_time", "created_at",
        "updated_at", "version",
    ]  # fmt: skip
    assert document["resource_kind"] == "event_stream"
    assert document["last_switch_time"] == "2026-01-02T00:00:00+00:00"


def test_what_a_registry_tells_about_itself_is_read_over() -> None:
    given = {**document_of(ROUTE), "id": "0190", "health_status": "healthy", "version": 7}

    (wanted,) = read_documents(json.dumps([given]).encode(), mode="saas", env="prod")

    assert wanted.is_met_by(ROUTE)


@pytest.mark.parametrize("given", [b"\xff", b"{", b"[]", b"[1]", b"null", b'{"resource_kind": null}'])
def test_anything_else_is_refused(given: bytes) -> None:
    with pytest.raises(Invalid):
        read_documents(given, mode="saas", env="prod")
