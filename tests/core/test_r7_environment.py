"""No environment variable selects a backend or a place: the arguments and the routes do, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import perdure
from tests.core.placed import KINDS
from tests.support.children import run_child
from tests.support.databases import Database
from tests.support.places import KEPT, MakePlace

NOWHERE = "127.0.0.1:1"
ELSEWHERE = {
    # Older registries and programs like this one.
    **dict.fromkeys(("ENV", "APP_ENV", "ENVIRONMENT", "PERDURE_ENV"), "prod"),
    **dict.fromkeys(("MODE", "APP_MODE", "PERDURE_MODE"), "saas"),
    **dict.fromkeys(
        (
            *("BACKEND", "MEMORY_BACKEND", "MEMORY_STORE_BACKEND", "STATE_BACKEND", "EVENT_STREAM_BACKEND"),
            *("STREAM_BACKEND", "TABULAR_STORE_BACKEND", "TABLES_BACKEND", "STORAGE_BACKEND"),
            *("ROUTING_REGISTRY_BACKEND", "ROUTING_BACKEND", "PERDURE_BACKEND", "PERDURE_REGISTRY"),
        ),
        "memory",
    ),
    **dict.fromkeys(("PERDURE_DATA_DIR", "PERDURE_HOME", "STATE_DIR", "ROUTING_REGISTRY_PATH"), "/nowhere"),
    "PERDURE_SETTINGS": "/nowhere/perdure.toml",
    **dict.fromkeys(("PERDURE_DSN", "DATABASE_URL", "POSTGRES_URL"), f"postgresql://nobody@{NOWHERE}/nothing"),
    # PostgreSQL's client library.
    "PGHOST": "127.0.0.1",
    "PGHOSTADDR": "127.0.0.2",
    "PGPORT": "1",
    "PGDATABASE": "nothing",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGPASSFILE": "/nowhere/pgpass",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGAPPNAME": "elsewhere",
    # Amazon's.
    **dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "DYNAMODB_ENDPOINT"), f"http://{NOWHERE}"),
    **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-west-2"),
    "AWS_PROFILE": "nobody",
    "AWS_ACCESS_KEY_ID": "AKIAELSEWHERE",
    "AWS_SECRET_ACCESS_KEY": "elsewhere",
    "AWS_SESSION_TOKEN": "elsewhere",
    "AWS_CONFIG_FILE": "/nowhere/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "DYNAMODB_TABLE": "elsewhere",
    # Google's.
    **dict.fromkeys(("FIRESTORE_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"), NOWHERE),
    **dict.fromkeys(("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT", "CLOUDSDK_CORE_PROJECT"), "elsewhere"),
    "FIRESTORE_DATABASE": "elsewhere",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN": "elsewhere.invalid",
    "GOOGLE_CLOUD_QUOTA_PROJECT": "elsewhere",
    # Microsoft's.
    **dict.fromkeys(("AZURE_COSMOS_ENDPOINT", "COSMOS_ENDPOINT", "ACCOUNT_HOST"), f"http://{NOWHERE}"),
    **dict.fromkeys(("AZURE_COSMOS_KEY", "COSMOS_KEY", "ACCOUNT_KEY"), "ZWxzZXdoZXJl"),
    **dict.fromkeys(("AZURE_COSMOS_DATABASE", "COSMOS_DATABASE", "AZURE_COSMOS_CONTAINER"), "elsewhere"),
    "AZURE_COSMOS_CONNECTION_STRING": f"AccountEndpoint=http://{NOWHERE};AccountKey=ZWxzZXdoZXJl",
    # What HTTP clients go by.
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), f"http://{NOWHERE}"),
    **dict.fromkeys(("all_proxy", "GRPC_PROXY", "grpc_proxy"), f"http://{NOWHERE}"),
}
"""What would lead elsewhere: all that the vendors' clients and older registries go by."""

NOT_PARSED = {name: "nonsense \u00fc /:@" for name in ELSEWHERE if name != "PGOPTIONS"}
"""As above, with values that mean nothing."""

OWN = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

Variant = Mapping[str, Any]


def variant(label: str, *, add: Mapping[str, str] | None = None, without: Sequence[str] = ()) -> Variant:
    """An environment: what a process has, without some of it, and with more."""
    return {"label": label, "with": dict(add or {}), "without": list(without)}


@pytest.fixture
async def task(database: Database, make_place: MakePlace, tmp_path: Path) -> dict[str, Any]:
    """A project on each backend, and the registry on one of them, as the environment of this process has it."""
    registry = make_place("dynamodb").registry
    task: dict[str, Any] = {
        "dsn": database.dsn("app"),
        "registry": registry,
        "data_dir": str(tmp_path / "data"),
        "projects": list(KEPT),
        "variants": [variant("first")],
    }
    async with perdure.open(task["dsn"], mode="lab", env="dev", registry=registry, data_dir=task["data_dir"]) as plane:
        acme = plane.scope("t_acme", actor="agent:writer")
        for backend in KEPT:
            place = make_place(backend)
            for kind in KINDS:
                await acme.routes.set(kind, place.backend, config=place.config, project=backend)
    return task


async def check(task: dict[str, Any], environments: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """A process in each environment finds the same routes, writes to the same places, and finds what others wrote."""
    expected: dict[str, Any] | None = None
    labels: list[str] = []
    for label, environment in environments:
        variants = task["variants"] if label == "variants" else [variant(label)]
        for said, seen in await run_child("tests.core.placed", {**task, "variants": variants}, env=environment):
            labels.append(said)
            routes = {project: found["routes"] for project, found in seen.items()}
            expected = expected or routes
            assert routes == expected, said
            for backend in KEPT:
                assert [place[0] for place in routes[backend]] == [backend] * len(KINDS), said
                assert seen[backend]["rows"] == sorted(labels), (said, backend)
                assert seen[backend]["events"] == labels, (said, backend)
                assert seen[backend]["messages"] == labels, (said, backend)


async def test_r7_changing_unsetting_or_garbling_every_variable_changes_no_backend(task: dict[str, Any]) -> None:
    await check(
        task,
        [
            ("as it is", OWN),
            ("elsewhere", {**OWN, **ELSEWHERE}),
            ("nonsense", {**OWN, **NOT_PARSED}),
            ("nothing", {}),
        ],
    )


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_r7_no_variable_alone_changes_a_backend(task: dict[str, Any]) -> None:
    variants = [
        variant("0 as it is"),
        *(variant(f"1 {name}", add={name: value}) for name, value in ELSEWHERE.items()),
        *(variant(f"2 {name}", add={name: value}) for name, value in NOT_PARSED.items()),
        *(variant(f"3 {name}", without=[name]) for name in OWN),
    ]
    assert len({one["label"] for one in variants}) == len(variants)
    await check({**task, "variants": variants}, [("variants", OWN)])


@pytest.mark.parametrize("name", ["PGHOSTADDR", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"])
async def test_r7_variables_of_postgresql_lead_no_complete_dsn_elsewhere(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    services = tmp_path / "services"
    services.write_text("[elsewhere]\nhost=127.0.0.1\nhostaddr=127.0.0.2\nport=1\ndbname=nothing\nuser=nobody\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv(name, {**ELSEWHERE, "PGSERVICE": "elsewhere"}[name])
    async with perdure.open(
        database.dsn("app"),
        mode="lab",
        env="dev",
        owner_dsn=database.direct_dsn("owner"),
        relay_dsn=database.dsn("relay"),
        listen_dsn=database.direct_dsn("relay"),
    ) as plane:
        acme = plane.scope("t_acme", actor="agent:writer")
        await acme.tables.put("places", name, 1)
        assert "t_acme" in [tenant.slug for tenant in await plane.tenants.list()]
        async with plane.relay({}) as relay:
            await relay.drain()
    monkeypatch.undo()  # what asks now is led elsewhere by any of them
    assert database.query("SELECT count(*) FROM perdure.versioned_rows WHERE key = %s", name) == [(1,)]
