"""Firestore: Google's document database, in native mode."""

from __future__ import annotations

from perdure.compose.backends import Lent
from perdure.compose.documents import driver_module, opened, required_text, secret, text
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.ports.documents import DocumentDriver


def spec(lent: Lent) -> BackendSpec:
    """The backend ``firestore``."""
    del lent
    return BackendSpec(
        name="firestore",
        lab_only=False,
        extra="firestore",
        config=(
            ConfigField(name="project", required=True, about="the vendor's project, not the scope's"),
            ConfigField(name="database", about="(default) if left out"),
            ConfigField(name="collection", about="perdure if left out"),
            ConfigField(name="endpoint", about="host:port in plaintext, for an emulator"),
            ConfigField(name="credentials", type="secret", about="a service account's JSON; else the vendor's chain"),
        ),
        open=_start,
        cost_notes="a charge for each document read, written and removed",
    )


async def _start(request: BackendRequest) -> Backend:
    module = driver_module("firestore", extra="firestore")
    driver: DocumentDriver = module.FirestoreDriver(
        project=required_text(request, "project"),
        clock=request.environment.clock,
        database=text(request, "database") or module.DATABASE_DEFAULT,
        collection=text(request, "collection") or module.COLLECTION_DEFAULT,
        endpoint=text(request, "endpoint"),
        credentials=await secret(request, "credentials"),
    )
    return await opened(driver, request)
