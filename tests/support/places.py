"""A place on each backend: what a route's config says to reach an empty one, for the processes of a test to share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.cosmos import KEY, CosmosServer
from tests.support.dynamodb import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, DynamoDbServer
from tests.support.firestore import FirestoreServer

__all__ = ["KEPT", "SHARED", "MakePlace", "Place", "make_place", "place", "places"]

KEPT = ("filesystem", "sqlite", "postgres", "dynamodb", "firestore", "cosmos")
"""The backends that keep something when a process is gone."""

SHARED = ("sqlite", "postgres", "dynamodb", "firestore", "cosmos")
"""Those that several processes may use at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is kept: the backend and the config of a route that leads there."""

    backend: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def registry(self) -> dict[str, Any]:
        """As ``perdure.open`` takes it, and as JSON carries it to a child."""
        return {"backend": self.backend, "config": dict(self.config)}


MakePlace = Callable[[str], Place]


def places(*backends: str) -> pytest.MarkDecorator:
    """Runs a test once on each of these backends, by parametrising ``place``."""
    return pytest.mark.parametrize("place", backends, indirect=True)


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> MakePlace:
    """``make_place("sqlite")``: an empty place, whose engine is started if it was not."""

    def make(backend: str) -> Place:
        return Place(backend=backend.removesuffix("-emulator"), config=_CONFIGS[backend](request, tmp_path))

    return make


@pytest.fixture
def place(request: pytest.FixtureRequest, make_place: MakePlace) -> Place:
    """An empty place on the backend that ``@places(...)`` names."""
    return make_place(request.param)


def _dynamodb(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    server: DynamoDbServer = request.getfixturevalue("dynamodb_server")
    return {
        "table_name": server.new_table(),
        "region": REGION,
        "endpoint_url": server.endpoint,
        "access_key_id": _secret(folder / "access-key-id", ACCESS_KEY_ID.reveal()),
        "secret_access_key": _secret(folder / "secret-access-key", SECRET_ACCESS_KEY.reveal()),
        "create_table": True,
    }


def _cosmos(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    server: CosmosServer = request.getfixturevalue("cosmos")
    return {
        "endpoint": server.endpoint,
        "key": _secret(folder / "cosmos-key", KEY),
        "database": server.new_database(),
        "create_container": True,
    }


def _firestore(server: FirestoreServer) -> dict[str, Any]:
    return {"project": server.new_project(), "endpoint": server.endpoint}


def _secret(path: Path, value: str) -> str:
    # In a file, so that every process finds it, whatever its environment is.
    path.write_text(value)
    return f"secret://file/{str(path).removeprefix('/')}"


_CONFIGS: Mapping[str, Callable[[pytest.FixtureRequest, Path], dict[str, Any]]] = {
    "memory": lambda _request, _folder: {},
    "filesystem": lambda _request, folder: {"directory": str(folder / "documents")},
    "sqlite": lambda _request, folder: {"path": str(folder / "documents.db")},
    "postgres": lambda _request, _folder: {},
    "dynamodb": _dynamodb,
    "firestore": lambda request, _folder: _firestore(request.getfixturevalue("firestore_server")),
    "firestore-emulator": lambda request, _folder: _firestore(request.getfixturevalue("firestore_emulator")),
    "cosmos": _cosmos,
}
