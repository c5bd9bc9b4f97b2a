"""Mistakes that everybody makes once, and what they are told."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.core.route_views import Coverage
from perdure.errors import BackendDown, Invalid
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane


async def test_a_secret_that_is_not_there_is_an_outage_and_no_missing_row():
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()

    async def start(request: BackendRequest) -> Backend:
        await request.secrets.resolve(str(request.config["key"]))
        return backend

    keyed = BackendSpec(
        name="keyed", lab_only=False, config=(ConfigField(name="key", type="secret", required=True),), open=start
    )
    async with routed_plane([keyed, given("main", backend)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("tables", "keyed", config={"key": "secret://env/NOT_THERE"})
        with pytest.raises(BackendDown, match="NOT_THERE") as caught:
            await acme.tables.find("items", "k")
        assert caught.value.code == "tables.backend_unavailable"
        view = await acme.routes.show("tables", probe=True)
        assert view.health.status == "unhealthy"
        assert "NOT_THERE" in str(view.health.reason)
        rows: list[Coverage] = list(await acme.routes.coverage())
        assert [row.kind for row in rows if row.status == "available"] == ["tables"]
        assert {row.status for row in rows if row.kind != "tables"} == {"missing"}
    await backend.close()


async def test_a_word_that_a_field_does_not_know_is_refused_when_the_route_is_written():
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()

    async def start(request: BackendRequest) -> Backend:
        del request
        return backend

    chosen = BackendSpec(
        name="chosen", lab_only=False, config=(ConfigField(name="level", choices=("low", "high")),), open=start
    )
    async with routed_plane([chosen], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        with pytest.raises(Invalid, match="one of: low, high"):
            await acme.routes.set("tables", "chosen", config={"level": "medium"})
        assert list(await acme.routes.list()) == []
        await acme.routes.set("tables", "chosen", config={"level": "high"})
    await backend.close()


@pytest.mark.parametrize("given_event", [[], {"type": "A"}, "A"], ids=["list", "dict", "text"])
async def test_what_is_no_event_or_message_is_refused_with_an_example(given_event: Any):
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        with pytest.raises(Invalid, match="StreamEvent"):
            await acme.streams.append("s", given_event)
        with pytest.raises(Invalid, match="Message"):
            await acme.memory.append("s", given_event, user="u")
    await backend.close()
