"""What routing refuses whatever the backend: lab backends elsewhere, records that cannot be read, too much of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from perdure.adapters.documents import keys
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.backends import BACKENDS_OPEN_MAX, Backends
from perdure.domain.container import stream_container
from perdure.domain.ids import Mode
from perdure.domain.kinds import Kind
from perdure.domain.log import NewEntry
from perdure.domain.route import Route, RouteKey, Target
from perdure.domain.route_changes import By, RouteSettings, make_route
from perdure.errors import BackendDown, Forbidden, LimitExceeded, NoRoute, StaleVersion, Throttled, Unsupported
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import Expect, Put
from perdure.testing.contracts.streams_appending import event
from perdure.testing.driver_faults import Fault, FaultyDriver
from perdure.testing.environment import fake_environment
from perdure.testing.routed import Everybody, RoutedPlane, given, routed_plane
from perdure.testing.watched import WatchedBackend
from tests.support.document_stores import no_sleep

pytestmark = pytest.mark.fast

ACME = "t_acme"


class SharedMemoryDriver(MemoryDriver):
    """Memory that says it is reached from everywhere, as an engine of every mode is."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, durable=True, shared=True, node_local=False)


@dataclass
class Place:
    """Documents in memory, and backends on them."""

    mode: Mode = "lab"
    store: MemoryStore = field(default_factory=MemoryStore)
    faulty: FaultyDriver | None = None

    async def backend(self, **faults: object) -> DocumentBackend:
        self.faulty = FaultyDriver(SharedMemoryDriver(self.store), **faults)  # type: ignore[arg-type]  # handed on
        backend = DocumentBackend(
            self.faulty, mode=self.mode, env="dev", environment=fake_environment(), sleep=no_sleep
        )
        await backend.open()
        return backend

    @asynccontextmanager
    async def plane(self, backend: Backend, *specs: BackendSpec, lab_only: bool = False) -> AsyncIterator[RoutedPlane]:
        async with AsyncExitStack() as stack:
            yield await stack.enter_async_context(
                routed_plane(
                    [given("main", backend, lab_only=lab_only), *specs],
                    backend.routes,
                    environment=fake_environment(space=1),
                    mode=self.mode,
                    sleep=no_sleep,
                )
            )


@pytest.mark.parametrize("mode", ["saas", "enterprise"])
async def test_r17_a_lab_backend_is_refused_outside_lab_when_it_is_written(mode: Mode) -> None:
    place = Place(mode=mode)
    backend = WatchedBackend(await place.backend())
    async with place.plane(backend, lab_only=True) as plane:
        routes = plane.tenant(ACME).routes
        mark = len(backend.calls)
        for call in (
            routes.set("tables", "main"),
            routes.switch("tables", "main", rationale="why", data_stays=True),
            routes.copy("tables", "main", rationale="why"),
        ):
            with pytest.raises(Forbidden) as caught:
                await call
            assert caught.value.code == "forbidden_backend_class"
            assert caught.value.detail == {"backend": "main", "mode": mode}
        assert backend.calls[mark:] == []
        for unknown in ("local", "fs", "tmp", "noop", "localhost", "in_memory", ""):
            with pytest.raises(Unsupported):
                await routes.set("tables", unknown)
        assert await routes.list() == []


async def test_r17_a_lab_backend_is_refused_outside_lab_when_a_route_leads_there_already() -> None:
    place = Place(mode="saas")
    backend = WatchedBackend(await place.backend())
    async with place.plane(backend) as plane:
        await plane.tenant(ACME).routes.set("tables", "main")
    async with place.plane(backend, lab_only=True) as plane:
        mark = len(backend.calls)
        for call in (plane.tenant(ACME).tables.put("t", "a", 1), plane.tenant(ACME).tables.find("t", "a")):
            with pytest.raises(Forbidden) as caught:
                await call
            assert caught.value.code == "forbidden_backend_class"
        assert backend.calls[mark:] == []
        shown = await plane.tenant(ACME).routes.show("tables", probe=True)
        assert (shown.health.status, shown.health.problem) == ("unhealthy", "forbidden_backend_class")


@pytest.mark.parametrize("mode", ["saas", "enterprise"])
async def test_r17_a_lab_backend_is_refused_outside_lab_by_the_adapter_itself(mode: Mode) -> None:
    with pytest.raises(Forbidden) as caught:
        DocumentBackend(MemoryDriver(), mode=mode, env="dev", environment=fake_environment())
    assert caught.value.code == "forbidden_backend_class"


async def test_r17_in_lab_a_lab_backend_is_fine() -> None:
    place = Place()
    async with place.plane(await place.backend(), lab_only=True) as plane:
        await plane.tenant(ACME).routes.set("tables", "main")
        assert (await plane.tenant(ACME).tables.put("t", "a", 1)).version == 1


async def test_r23_a_record_that_cannot_be_read_serves_nobody_is_reported_and_stops_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Place()
    backend = await place.backend()
    async with place.plane(backend) as plane:
        await plane.tenant(ACME).routes.set("tables", "main")
    sort = keys.route_sort(RouteKey(kind=Kind.TABLES, tenant="t_broken", mode="lab", env="dev"))
    driver = MemoryDriver(place.store)
    await driver.open()
    put = Put(sort=sort, version=1, body=b'{"secret": "hunter2"', expect=Expect.ABSENT)
    await driver.commit(keys.routes_partition("lab", "dev"), [put], commit_id="c", timeout_s=1)
    with caplog.at_level(logging.ERROR):
        async with place.plane(backend) as plane:
            (problem,) = plane.stores.routing.quarantined
            assert problem.where == sort
            with pytest.raises(NoRoute):
                await plane.tenant("t_broken").tables.put("t", "a", 1)
            assert (await plane.tenant(ACME).tables.put("t", "a", 1)).version == 1
    assert "cannot be read and serves nobody" in caplog.text
    assert "hunter2" not in caplog.text + repr(problem)


async def test_r26_a_page_costs_the_same_wherever_it_begins_and_however_long_the_stream_is() -> None:
    place = Place()
    async with place.plane(await place.backend()) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("streams", "main")
        assert place.faulty is not None
        costs: list[set[int]] = []
        for _ in range(2):
            for _ in range(5):
                await acme.streams.append("s", *(event(n=n) for n in range(40)))
            after: str | None = None
            costs.append(set())
            while True:
                before = place.faulty.reads
                page = await acme.streams.read("s", after=after, limit=20)
                costs[-1].add(place.faulty.reads - before)
                after = page.next_cursor
                if not page.has_more:
                    break
        assert costs[0] == costs[1]
        assert max(costs[0]) <= 3


@pytest.mark.parametrize("times", [1, 3])
async def test_r53_throttling_is_tried_again_and_not_noticed(times: int) -> None:
    place = Place()
    async with place.plane(await place.backend()) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "main")
    backend = await place.backend(commits=[Fault.THROTTLED] * times)
    async with place.plane(backend) as plane:
        assert (await plane.tenant(ACME).tables.put("t", "a", 1)).version == 1
        assert place.faulty is not None
        assert place.faulty.commits > times


async def test_r53_throttling_that_lasts_is_surfaced_with_when_to_come_back() -> None:
    place = Place()
    async with place.plane(await place.backend()) as plane:
        await plane.tenant(ACME).routes.set("tables", "main")
    backend = await place.backend(commit_chances={Fault.THROTTLED: 1.0}, retry_after_s=2.5)
    async with place.plane(backend) as plane:
        with pytest.raises(Throttled) as caught:
            await plane.tenant(ACME).tables.put("t", "a", 1, timeout_s=2)
        assert caught.value.code == "tables.throttled"
        assert caught.value.detail == {"retry_after_s": 2.5, "kind": "tables", "backend": "main"}


async def test_everybody_is_admitted_once_in_a_while_and_a_stranger_never() -> None:
    place = Place()
    async with place.plane(await place.backend()) as plane:
        admission = plane.stores._admission
        assert isinstance(admission, Everybody)
        await plane.tenant(ACME).routes.set("tables", "main")
        for _ in range(3):
            await plane.tenant(ACME).tables.put("t", "a", 1)
        assert [scope.tenant for scope in admission.admitted] == [ACME]


@dataclass
class Opened:
    """A backend's specification that counts what it opens and what is closed."""

    backends: list[WatchedBackend] = field(default_factory=list)
    inner: Backend | None = None
    problem: Exception | None = None

    def spec(self, name: str) -> BackendSpec:
        async def start(request: BackendRequest) -> Backend:
            del request
            if self.problem is not None:
                raise self.problem
            assert self.inner is not None
            self.backends.append(WatchedBackend(self.inner))
            return self.backends[-1]

        return BackendSpec(name=name, lab_only=False, config=(ConfigField(name="place"),), open=start)


async def test_r21_a_backend_is_opened_once_shared_and_closed_when_no_route_leads_there() -> None:
    place = Place()
    home = await place.backend()
    opened = Opened(inner=home)
    async with place.plane(home, opened.spec("other")) as plane:
        acme = plane.tenant(ACME)
        for kind in ("tables", "streams"):
            await acme.routes.set(kind, "other")
        await acme.tables.put("t", "a", 1)
        await acme.streams.append("s", event())
        assert len(opened.backends) == 1
        await acme.routes.switch("tables", "main", rationale="why", data_stays=True)
        assert [each.is_closed for each in opened.backends] == [False]
        await acme.routes.switch("streams", "main", rationale="why", data_stays=True)
        assert [each.is_closed for each in opened.backends] == [True]
        await acme.routes.set("memory", "other")
        await acme.memory.boards.put("plan", {})
        assert len(opened.backends) == 2
    assert [each.is_closed for each in opened.backends] == [True, True]


async def test_a_backend_that_does_not_start_is_unavailable_and_is_tried_again() -> None:
    place = Place()
    home = await place.backend()
    opened = Opened(inner=home, problem=BackendDown("nobody there"))
    async with place.plane(home, opened.spec("other")) as plane:
        acme = plane.tenant(ACME)
        await acme.routes.set("tables", "other")
        with pytest.raises(BackendDown) as caught:
            await acme.tables.put("t", "a", 1)
        assert caught.value.code == "tables.backend_unavailable"
        opened.problem = Unsupported("not installed", extra="other")
        with pytest.raises(Unsupported) as refused:
            await acme.tables.put("t", "a", 1)
        assert (refused.value.code, refused.value.detail) == ("tables.unsupported_backend", {"extra": "other"})
        opened.problem = None
        assert (await acme.tables.put("t", "a", 1)).version == 1


async def test_200_backends_are_open_at_a_time_and_no_more() -> None:
    place = Place()
    home = await place.backend()
    opened = Opened(inner=home)
    async with place.plane(home, opened.spec("other")) as plane:
        backends: Backends = plane.stores.backends
        for number in range(BACKENDS_OPEN_MAX):
            async with backends.use(Target(backend="other", config={"place": str(number)}), kind=Kind.TABLES):
                pass
        with pytest.raises(LimitExceeded) as caught:
            async with backends.use(Target(backend="other", config={"place": "one more"}), kind=Kind.TABLES):
                pass
        assert caught.value.detail == {"limit": "backends_open_max", "allowed": BACKENDS_OPEN_MAX}


async def test_r36_a_foreign_entry_under_the_same_name_is_not_read() -> None:
    place = Place()
    backend = await place.backend()
    async with place.plane(backend) as plane:
        for tenant in (ACME, "t_other"):
            await plane.tenant(tenant).routes.set("streams", "main")
        space = plane.tenant("t_other").scope.space
        await backend.logs.append(
            stream_container(space, "s"), [NewEntry(entry_id="e", fingerprint="f", body=b"{}")], timeout_s=1
        )
        assert (await plane.tenant(ACME).streams.read("s")).events == ()


async def test_two_changes_of_one_version_in_one_microsecond_are_two_changes() -> None:
    place = Place()
    backend = await place.backend()
    environment = fake_environment(space=2)
    key = RouteKey(kind=Kind.TABLES, tenant=ACME, mode="lab", env="dev")
    by = By(actor="user:ann", at=environment.clock.now())
    route_id = environment.ids.new()

    def made(backend_name: str) -> Route:
        return make_route(key, Target(backend=backend_name), RouteSettings(), route_id=route_id, by=by).route

    assert made("a").updated_at == made("b").updated_at
    change = make_route(key, Target(backend="a"), RouteSettings(), route_id=route_id, by=by)
    rival = make_route(key, Target(backend="b"), RouteSettings(), route_id=route_id, by=by)
    assert await backend.routes.commit(change, timeout_s=1) == 1
    assert await backend.routes.commit(change, timeout_s=1) == 1
    with pytest.raises(StaleVersion):
        await backend.routes.commit(rival, timeout_s=1)
