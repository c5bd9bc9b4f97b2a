"""Audit records that a route keeps are read back through the facades, page by page."""

from __future__ import annotations

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.domain.memory import Message
from perdure.domain.stream import StreamEvent
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane


async def test_kept_records_say_who_did_what_and_never_a_value():
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme", actor="agent:planner", request_id="req-1")
        for kind in ("streams", "tables", "memory"):
            await acme.routes.set(kind, "main", audit="writes")
        await acme.streams.append("s", StreamEvent(type="A", data={"card": "4111"}))
        await acme.tables.put("t", "k", {"card": "4111"})
        await acme.tables.delete("t", "k")
        await acme.memory.append("m", Message(role="user", content="4111"), user="u")
        (appended,) = await acme.streams.audits("s")
        put, deleted = await acme.tables.audits("t")
        (remembered,) = await acme.memory.audits("m", user="u")
        assert (appended.operation, put.operation, deleted.operation) == ("append", "put", "delete")
        assert {record.actor for record in (appended, put, deleted, remembered)} == {"agent:planner"}
        assert {record.outcome for record in (appended, put, deleted, remembered)} == {"committed"}
        assert {record.request_id for record in (appended, put, deleted, remembered)} == {"req-1"}
        assert "4111" not in repr((appended, put, deleted, remembered))
        assert list(await acme.tables.audits("t", after=put.audit_id)) == [deleted]
        assert list(await acme.tables.audits("t", limit=1)) == [put]
    await backend.close()


async def test_a_route_that_logs_only_keeps_no_record():
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("tables", "main")
        await acme.tables.put("t", "k", 1)
        assert list(await acme.tables.audits("t")) == []
    await backend.close()
