"""Tenants and members, as the owner."""

from __future__ import annotations

from uuid import UUID

import pytest

from perdure.adapters.postgres.tenants import PostgresTenants
from perdure.core.tenants import Tenants
from perdure.domain.ids import tenant_uuid
from perdure.errors import BackendDown, Forbidden, Invalid, NotFound, Refused
from tests.support.databases import DIRECT, Database, engines
from tests.support.stories import plane_on

ANA = UUID("019ab000-0000-7000-8000-0000000000aa")


@pytest.fixture
def tenants(database: Database) -> Tenants:
    return Tenants(PostgresTenants(database.direct_dsn("owner")))


def trail(database: Database) -> list[tuple[object, ...]]:
    return database.query("SELECT action, resource_type, actor, context FROM perdure.audit_trail ORDER BY id")


@engines(*DIRECT)
async def test_a_tenant_is_added_once_with_its_sequence_and_its_audit_entry(tenants: Tenants, database: Database):
    assert await tenants.add("t_acme", actor="user:ops") is True
    assert await tenants.add("t_acme", actor="user:ops") is False
    assert database.query("SELECT tenant_id, last_number FROM perdure.tenant_sequences") == [(tenant_uuid("t_acme"), 0)]
    assert trail(database) == [("TENANT_ADDED", "TENANT", "user:ops", {"slug": "t_acme"})]
    [found] = await tenants.list()
    assert (found.slug, found.tenant_id, found.members) == ("t_acme", tenant_uuid("t_acme"), ())


async def test_membership_is_granted_changed_and_revoked_and_the_trail_says_so(tenants: Tenants, database: Database):
    await tenants.add("t_acme")
    assert await tenants.grant(ANA, "t_acme") is True
    assert await tenants.grant(ANA, "t_acme") is False
    assert await tenants.grant(ANA, "t_acme", role="admin") is True
    [found] = await tenants.list()
    assert [(member.user_id, member.role) for member in found.members] == [(ANA, "admin")]
    assert await tenants.revoke(ANA, "t_acme") is True
    assert await tenants.revoke(ANA, "t_acme") is False
    assert [(action, context) for action, _, _, context in trail(database)[1:]] == [
        ("MEMBER_GRANTED", {"role": "member"}),
        ("MEMBER_GRANTED", {"role": "admin"}),
        ("MEMBER_REVOKED", {"role": "admin"}),
    ]


async def test_a_member_may_read_and_a_stranger_may_not(tenants: Tenants, database: Database):
    await tenants.add("t_acme")
    async with plane_on(database) as plane:
        acme = plane.scope("t_acme", actor="agent:planner", user=ANA)
        with pytest.raises(Forbidden, match="not a member"):
            await acme.runs.list()
        await plane.tenants.grant(ANA, "t_acme")
        assert len(await acme.runs.list()) == 0


async def test_tenants_are_listed_by_slug_in_pages(tenants: Tenants):
    for slug in ("t_c", "t_a", "t_b"):
        await tenants.add(slug)
    assert [one.slug for one in await tenants.list(limit=2)] == ["t_a", "t_b"]
    assert [one.slug for one in await tenants.list(after="t_b", limit=2)] == ["t_c"]


async def test_what_cannot_be_is_refused(tenants: Tenants, database: Database):
    with pytest.raises(NotFound, match="perdure tenants add t_never"):
        await tenants.grant(ANA, "t_never")
    with pytest.raises(NotFound):
        await tenants.revoke(ANA, "t_never")
    with pytest.raises(Invalid, match="not a tenant"):
        await tenants.add("acme")
    with pytest.raises(Invalid, match="not a role"):
        await tenants.grant(ANA, "t_acme", role="Admin")
    with pytest.raises(Forbidden):
        await Tenants(PostgresTenants(database.direct_dsn("app"))).add("t_other")
    with pytest.raises(Refused, match="perdure_owner"):
        await Tenants(PostgresTenants(None)).add("t_other")
    with pytest.raises(BackendDown):
        await Tenants(PostgresTenants("postgresql://127.0.0.1:1/none?connect_timeout=2")).add("t_other")
