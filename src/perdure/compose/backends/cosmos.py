"""Cosmos DB: Microsoft's document database, through its NoSQL interface."""

from __future__ import annotations

from perdure.compose.backends import Lent
from perdure.compose.documents import driver_module, opened, required_text, text
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.ports.documents import DocumentDriver


def spec(lent: Lent) -> BackendSpec:
    """The backend ``cosmos``."""
    del lent
    return BackendSpec(
        name="cosmos",
        lab_only=False,
        extra="cosmos",
        config=(
            ConfigField(name="endpoint", required=True, about="the account's address"),
            ConfigField(name="key", type="secret", required=True, about="the account's key"),
            ConfigField(name="database", required=True, about="the database"),
            ConfigField(name="container", about="perdure if left out; partition key /p"),
            ConfigField(name="create_container", type="flag", about="make database and container if they are missing"),
            ConfigField(
                name="consistency",
                about="session (default) or strong; see the page of this backend",
                choices=("session", "strong"),
            ),
        ),
        open=_start,
        cost_notes="request units: about 1 a KB read, 5 to 10 a KB written; at most 20 GB a stream",
    )


async def _start(request: BackendRequest) -> Backend:
    driver: DocumentDriver = driver_module("cosmos", extra="cosmos").CosmosDriver(
        endpoint=required_text(request, "endpoint"),
        key=await request.secrets.resolve(required_text(request, "key")),
        database=required_text(request, "database"),
        container=text(request, "container") or "perdure",
        create_container=bool(request.config.get("create_container", False)),
        consistency=text(request, "consistency") or "session",
        clock=request.environment.clock,
    )
    return await opened(driver, request)
