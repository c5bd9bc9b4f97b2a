"""What has expired is removed in the background, from every backend in use; nobody sees it before or after."""

from __future__ import annotations

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.domain.memory import Message
from perdure.errors import BackendDown
from perdure.ports.environment import Environment
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness
from perdure.testing.routed import given, routed_plane
from perdure.testing.watched import WatchedBackend, failing


async def test_a_sweep_removes_what_has_expired_from_every_backend_in_use():
    clock = FakeClock()
    environment = Environment(clock=clock, randomness=SeededRandomness(), ids=CountingIds())
    store = MemoryStore()
    backend = DocumentBackend(MemoryDriver(store), mode="lab", env="dev", environment=environment)
    await backend.open()
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("tables", "main")
        await acme.routes.set("memory", "main")
        await acme.tables.put("items", "short", 1, ttl_s=10)
        await acme.tables.put("items", "kept", 2)
        await acme.memory.append("s", Message(role="user", content="hi"), user="u", ttl_s=10)
        assert await plane.upkeep.sweep() == 0
        clock.advance(3_600)
        assert [row.key for row in (await acme.tables.query("items")).items] == ["kept"]
        assert await plane.upkeep.sweep() == 2
        assert await plane.upkeep.sweep() == 0
        assert (await acme.tables.get("items", "kept")).value == 2
        assert await acme.memory.find_session("s", user="u") is None
    await backend.close()


async def test_a_backend_that_is_away_keeps_no_other_from_being_swept():
    clock = FakeClock()
    environment = Environment(clock=clock, randomness=SeededRandomness(), ids=CountingIds())
    healthy = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    broken = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await healthy.open()
    await broken.open()
    watched = WatchedBackend(broken)
    specs = [given("broken", watched), given("healthy", healthy)]
    async with routed_plane(specs, healthy.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("memory", "broken")
        await acme.routes.set("tables", "healthy")
        await acme.memory.append("s", Message(role="user", content="hi"), user="u")
        await acme.tables.put("items", "short", 1, ttl_s=10)
        clock.advance(3_600)
        watched.before = failing(BackendDown("nothing answers"), among="logs.sweep")
        assert await plane.upkeep.sweep() == 1
    await healthy.close()
    await broken.close()


async def test_every_backend_in_use_is_probed_and_its_health_is_shown():
    environment = Environment(clock=FakeClock(), randomness=SeededRandomness(), ids=CountingIds())
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()
    watched = WatchedBackend(backend)
    async with routed_plane([given("main", watched)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("tables", "main")
        await acme.tables.put("items", "k", 1)
        assert (await acme.routes.show("tables")).health.status == "unknown"
        await plane.upkeep.probe()
        assert (await acme.routes.show("tables")).health.status == "healthy"
        watched.before = failing(BackendDown("nothing answers"), among="probe")
        await plane.upkeep.probe()
        health = (await acme.routes.show("tables")).health
        assert (health.status, health.problem) == ("unhealthy", "backend_down")
        assert health.checked_at == environment.clock.now()
    await backend.close()
