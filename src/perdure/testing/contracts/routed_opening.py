"""What the contracts of the facades stand on: a plane on a watched backend, with time in the hands of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, TypeAlias

import pytest

from perdure.core.environment import SystemIds
from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.route import SYSTEM_TENANT, AuditPolicy
from perdure.domain.versioned import PutRow
from perdure.ports.backend import Backend
from perdure.ports.environment import Environment
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, StoreContract, new_space, new_tenant
from perdure.testing.environment import FakeClock, SeededRandomness
from perdure.testing.routed import RoutedPlane, RoutedTenant, given, routed_plane
from perdure.testing.watched import WatchedBackend

ADMIN: Final = "user:admin"
LOOKS_MAX: Final = 100  # an engine of session consistency shows everything by then

OpenPlane: TypeAlias = Callable[..., Awaitable[RoutedPlane]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A backend, a plane on it, and one tenant whose route leads there under the name ``main``."""

    backend: WatchedBackend
    plane: RoutedPlane
    tenant: str
    clock: FakeClock

    @property
    def acme(self) -> RoutedTenant:
        """The tenant."""
        return self.plane.tenant(self.tenant)

    @property
    def admin(self) -> RoutedTenant:
        """Who may change everybody's routes."""
        return self.plane.tenant(SYSTEM_TENANT, actor=ADMIN)

    def calls_since(self, mark: int) -> list[str]:
        """Calls of the backend after the first ``mark`` of them."""
        return self.backend.calls[mark:]


class RoutedOpening(StoreContract):
    """Fixtures of every facade's contract. ``kinds`` are those that the tenant has a route for."""

    kinds: ClassVar[tuple[Kind, ...]] = ()
    _clocks: list[FakeClock]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for backends and planes alike."""
        await self.advance(seconds)
        for clock in self._clocks:
            clock.advance(seconds)

    @pytest.fixture
    async def watched(self, backend: Backend) -> WatchedBackend:
        """The backend, with its calls in view."""
        return WatchedBackend(backend)

    @pytest.fixture
    async def clock(self, backend: Backend) -> FakeClock:
        """A plane's clock, which begins at the stores' own time and stands still."""
        clock = FakeClock(await store_time(backend))
        self._clocks = [clock]
        return clock

    @pytest.fixture
    async def open_plane(self, clock: FakeClock) -> AsyncIterator[OpenPlane]:
        """Opens planes on backends, the first of which holds the registry, and closes them after the test."""
        async with AsyncExitStack() as stack:

            async def open_plane(*named: tuple[str, Backend], **options: object) -> RoutedPlane:
                environment = Environment(clock=clock, randomness=SeededRandomness(), ids=SystemIds())

                async def sleep(seconds: float) -> None:
                    clock.advance(seconds)
                    await asyncio.sleep(0)

                plane: AbstractAsyncContextManager[RoutedPlane] = routed_plane(
                    [given(name, backend) for name, backend in named],
                    named[0][1].routes,
                    environment=environment,
                    timeout_s=TIMEOUT_S,
                    sleep=sleep,
                    **options,  # type: ignore[arg-type]  # handed on as they are
                )
                return await stack.enter_async_context(plane)

            yield open_plane

    @pytest.fixture
    async def town(self, watched: WatchedBackend, clock: FakeClock, open_plane: OpenPlane) -> Town:
        """A plane, and a tenant with routes."""
        town = Town(backend=watched, plane=await open_plane(("main", watched)), tenant=new_tenant(), clock=clock)
        await self.settle_in(town, town.tenant)
        return town

    async def settle_in(self, town: Town, tenant: str, *, audit: AuditPolicy | None = None) -> None:
        """Give a tenant a route of each kind."""
        for kind in self.kinds:
            await town.admin.routes.set(kind, "main", tenant=tenant, audit=audit)

    async def catch_up(self, town: Town, is_seen: Callable[[], Awaitable[bool]]) -> None:
        """Read until what others wrote is seen, on a backend that may show it late; on others it is seen at once."""
        for _ in range(1 if town.backend.capabilities.consistency == "strong" else LOOKS_MAX):
            if await is_seen():
                break

    async def neighbour(self, town: Town, open_another: OpenAnother, open_plane: OpenPlane) -> RoutedTenant:
        """The same tenant in another plane, on another client of the same data."""
        return (await open_plane(("main", await open_another()))).tenant(town.tenant)


async def store_time(backend: Backend) -> datetime:
    """A backend's own time, as a write tells it."""
    rows = Container(kind=Kind.TABLES, space=new_space(), name=("clock",))
    (row,) = await backend.rows.write(rows, [PutRow(key="now", value=b"0")], timeout_s=TIMEOUT_S)
    assert row is not None
    return row.updated_at
