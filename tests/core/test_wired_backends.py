"""Backends as a route opens them: from a config to a store that answers, with secrets by reference."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.adapters.cxdb.server import ServerSettings, serving
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.postgres.session import Session
from perdure.compose.backends import Lent, backend_specs
from perdure.core.environment import system_environment
from perdure.core.secrets import SystemSecrets
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space, make_space
from perdure.domain.route import ConfigValue
from perdure.domain.turn import NewTurn
from perdure.errors import Forbidden, Unsupported
from perdure.ports.backend import Backend, BackendRequest, BackendSpec
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane
from tests.contracts.turn_stores import BlobsInMemory
from tests.support.object_stores import (
    ACCESS_KEY_ID,
    ACCOUNT,
    ACCOUNT_KEY,
    REGION,
    SECRET_ACCESS_KEY,
    AzureServer,
    S3Server,
    azure_server,  # noqa: F401 - a fixture, found by its name here
    s3_server,  # noqa: F401 - a fixture, found by its name here
)

TIMEOUT_S = 30.0
ENVIRON = {
    "ID": ACCESS_KEY_ID.reveal(),
    "KEY": SECRET_ACCESS_KEY.reveal(),
    "ACCOUNT_KEY": ACCOUNT_KEY.reveal(),
}


def spec(name: str) -> BackendSpec:
    """The specification of a release's backend; none of those asked for here uses the plane's database."""
    return backend_specs(Lent(session=cast("Session", None)))[name]


def space_of(tenant: str) -> Space:
    return make_space(tenant=tenant, mode="lab", env="dev", project="default")


@asynccontextmanager
async def opened(name: str, config: Mapping[str, ConfigValue], data_dir: Path) -> AsyncIterator[Backend]:
    """The backend that a route with this config leads to."""
    request = BackendRequest(
        config=config,
        mode="lab",
        env="dev",
        data_dir=data_dir,
        secrets=SystemSecrets(ENVIRON),
        environment=system_environment(),
        timeout_s=TIMEOUT_S,
    )
    backend = await spec(name).open(request)
    try:
        yield backend
    finally:
        await backend.close()


async def check_objects(backend: Backend) -> None:
    """What is put is found, and the backend shows a sign of life."""
    assert backend.objects is not None
    acme = space_of("t_acme")
    ref = await backend.objects.put(acme, b"kept", timeout_s=TIMEOUT_S)
    read = await backend.objects.get(acme, ref.digest, timeout_s=TIMEOUT_S)
    assert [chunk async for chunk in read.chunks] == [b"kept"]
    assert await backend.objects.find(space_of("t_other"), ref.digest, timeout_s=TIMEOUT_S) is None
    await backend.probe(timeout_s=TIMEOUT_S)


def check_only_objects(backend: Backend) -> None:
    """Nothing else is there."""
    for what in ("logs", "rows", "routes"):
        with pytest.raises(Unsupported, match="objects and nothing else"):
            getattr(backend, what)
    assert backend.turns is None


async def test_a_bucket_of_s3_is_opened_with_credentials_by_reference(
    s3_server: S3Server,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    config = {
        "bucket": s3_server.new_bucket(),
        "region": REGION,
        "endpoint": s3_server.endpoint,
        "prefix": "team/objects",
        "access_key_id": "secret://env/ID",
        "secret_access_key": "secret://env/KEY",
    }
    async with opened("s3", config, tmp_path) as backend:
        await check_objects(backend)
        check_only_objects(backend)


async def test_a_container_of_azure_is_opened_with_its_key_by_reference(
    azure_server: AzureServer,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    config = {
        "account": ACCOUNT,
        "container": azure_server.new_container(),
        "endpoint": azure_server.endpoint,
        "account_key": "secret://env/ACCOUNT_KEY",
    }
    async with opened("azure", config, tmp_path) as backend:
        await check_objects(backend)
        check_only_objects(backend)


async def test_a_directory_keeps_objects_beside_its_documents(tmp_path: Path) -> None:
    async with opened("filesystem", {"directory": "acme"}, tmp_path) as backend:
        await check_objects(backend)
    assert (tmp_path / "acme.objects").is_dir()
    async with opened("filesystem", {"directory": "acme"}, tmp_path) as backend:
        assert backend.objects is not None
        assert len((await backend.objects.list(space_of("t_acme"), limit=10, timeout_s=TIMEOUT_S)).objects) == 1


async def test_clients_of_one_memory_share_its_objects(tmp_path: Path) -> None:
    memory = spec("memory")
    request = BackendRequest(
        config={},
        mode="lab",
        env="dev",
        data_dir=tmp_path,
        secrets=SystemSecrets({}),
        environment=system_environment(),
        timeout_s=TIMEOUT_S,
    )
    first = await memory.open(request)
    await check_objects(first)
    await first.close()
    second = await memory.open(request)
    assert second.objects is not None
    assert len((await second.objects.list(space_of("t_acme"), limit=10, timeout_s=TIMEOUT_S)).objects) == 1
    await second.close()


async def test_without_the_extra_documents_are_kept_and_objects_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("perdure.adapters.objectstore")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    async with opened("filesystem", {"directory": "acme"}, tmp_path) as backend:
        assert backend.objects is None
        filesystem = replace(given("filesystem", backend, lab_only=True), kinds=spec("filesystem").kinds)
        async with routed_plane([filesystem], backend.routes, environment=system_environment()) as plane:
            acme = plane.tenant("t_acme")
            await acme.routes.set("objects", "filesystem")
            with pytest.raises(Unsupported, match=r"perdure\[objects\]") as caught:
                await acme.objects.put(b"kept")
            assert caught.value.code == "objects.unsupported_backend"
    with pytest.raises(Unsupported, match=r"perdure\[objects\]"):
        async with opened("s3", {"bucket": "abc", "region": REGION}, tmp_path):
            pass


@asynccontextmanager
async def cxdb_server() -> AsyncIterator[dict[str, Any]]:
    """The config of a route to a server of ours that is t_acme's."""
    driver = MemoryDriver(MemoryStore())
    await driver.open()
    beneath = DocumentBackend(driver, mode="lab", env="dev", environment=system_environment())
    parts = TurnParts(beneath.logs, beneath.rows, environment=system_environment(), sleep=asyncio.sleep)
    store = StoredTurns(parts, BlobsInMemory())
    async with serving(store, space_of("t_acme"), settings=ServerSettings(port=0)) as server:
        yield {"address": f"127.0.0.1:{server.port}", "tenant": "t_acme"}
    await beneath.close()


async def test_a_cxdb_server_keeps_turns_of_the_tenant_that_its_route_names_and_of_nobody_else(tmp_path: Path) -> None:
    async with cxdb_server() as config, opened("cxdb", config, tmp_path) as backend:
        assert backend.turns is not None
        context = await backend.turns.create(space_of("t_acme"), timeout_s=TIMEOUT_S)
        turn = NewTurn(type_id="t", type_version=1, payload=b"kept", idempotency_key="k")
        for replayed in (False, True):
            ref = await backend.turns.append(space_of("t_acme"), context.context_id, turn, timeout_s=TIMEOUT_S)
            assert (ref.depth, ref.replayed) == (1, replayed)
        for stranger in (space_of("t_other"), replace(space_of("t_acme"), project="other")):
            with pytest.raises(Forbidden):
                await backend.turns.head(stranger, context.context_id, timeout_s=TIMEOUT_S)
        await backend.probe(timeout_s=TIMEOUT_S)


async def test_plain_text_to_another_machine_is_refused_when_the_backend_is_opened(tmp_path: Path) -> None:
    with pytest.raises(Forbidden, match="plain text"):
        async with opened("cxdb", {"address": "cxdb.example:9009", "tenant": "t_acme"}, tmp_path):
            pass


async def test_a_route_from_or_to_what_is_not_copied_is_refused_before_a_copy_begins(tmp_path: Path) -> None:
    async with opened("memory", {}, tmp_path) as backend:
        ours, server = given("ours", backend), replace(given("server", backend), copies=False)
        async with routed_plane([ours, server], backend.routes, environment=fake_environment()) as plane:
            acme = plane.tenant("t_acme")
            await acme.routes.set("turns", "ours")
            await acme.routes.set("turns", "server", project="there")
            for project, target in ((None, "server"), ("there", "ours")):
                with pytest.raises(Unsupported, match="cannot be copied") as caught:
                    await acme.routes.copy("turns", target, rationale="r", settle_s=0, project=project)
                assert caught.value.code == "turns.not_copied"
            for route in await acme.routes.list():
                assert (route.copy, route.version) == (None, 1)
