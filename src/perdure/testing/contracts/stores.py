"""What the contract of every kind of store stands on: backends that a test file opens, and spaces nobody used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import pytest

from perdure.core.environment import SystemIds
from perdure.domain.container import Container, Space, make_space
from perdure.domain.store_audit import StoreAudit
from perdure.ports.backend import Backend

TIMEOUT_S: Final = 60.0  # no test waits for it; long enough for an engine that starts beside the tests

_IDS: Final = SystemIds()  # engines live longer than a test

OpenAnother: TypeAlias = Callable[[], Awaitable[Backend]]


def new_id() -> UUID:
    """An id that nothing had before; later ones sort after earlier ones."""
    return _IDS.new()


def new_tenant() -> str:
    """A tenant that no test had before."""
    return f"t_{_IDS.new().hex}"


def new_space(
    *,
    tenant: str | None = None,
    mode: str = "lab",
    env: str = "dev",
    project: str = "default",
    surface: str | None = None,
    app: str | None = None,
) -> Space:
    """The space of a tenant of its own, or another space of a tenant."""
    return make_space(tenant=tenant or new_tenant(), mode=mode, env=env, project=project, surface=surface, app=app)


def audit(container: Container, operation: str, occurred_at: datetime) -> StoreAudit:
    """The record of a write, as it is kept with it."""
    return StoreAudit(
        audit_id=new_id(),
        kind=container.kind,
        backend="any",
        operation=operation,
        container="/".join(container.name),
        tenant=container.space.tenant,
        project=container.space.project,
        actor="agent:tester",
        request_id="req-1",
        trace_id=None,
        occurred_at=occurred_at,
        outcome="committed",
    )


class StoreContract(ABC):
    """What a backend says: how to open one for (lab, dev), and how its time is moved. The rest is the same for all."""

    @abstractmethod
    async def open_backend(self) -> Backend:
        """A backend of (lab, dev); called again in one test, another client on the same data."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass for the stores of every backend opened in this test."""

    @pytest.fixture
    async def open_another(self) -> AsyncIterator[OpenAnother]:
        """Opens backends and closes them after the test."""
        opened: list[Backend] = []

        async def open_another() -> Backend:
            opened.append(await self.open_backend())
            return opened[-1]

        yield open_another
        for backend in reversed(opened):
            await backend.close()

    @pytest.fixture
    async def backend(self, open_another: OpenAnother) -> Backend:
        """The client that most tests are about."""
        return await open_another()
