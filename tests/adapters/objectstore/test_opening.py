"""Stores of objects made from arguments: what is refused, and what nothing outside can change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.domain.object import object_digest
from perdure.errors import BackendDown, Invalid, PerdureError
from perdure.ports.secrets import Secret
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from tests.adapters.objectstore.answers import answering
from tests.support.servers import free_port

PLACE: dict[str, Any] = {"mode": "lab", "env": "dev", "environment": system_environment()}
S3: dict[str, Any] = {"bucket": "bucket", "region": "eu-central-1", **PLACE}
AZURE: dict[str, Any] = {"account": "account", "container": "container", **PLACE}
GCS: dict[str, Any] = {"bucket": "bucket", **PLACE}
WRONG = "wrong-and-secret"


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (opening.s3, {**S3, "bucket": "B"}),
        (opening.s3, {**S3, "bucket": "a/b/c"}),
        (opening.s3, {**S3, "bucket": "x" * 64}),
        (opening.s3, {**S3, "region": "EU"}),
        (opening.s3, {**S3, "region": "eu.example.com/x?"}),
        (opening.s3, {**S3, "access_key_id": Secret("a")}),
        (opening.s3, {**S3, "secret_access_key": Secret(WRONG)}),
        (opening.s3, {**S3, "session_token": Secret(WRONG)}),
        *(
            (opening.s3, {**S3, "endpoint": endpoint})
            for endpoint in (
                "",
                "bucket",
                "http://example.com",
                f"https://user:{WRONG}@example.com",
                f"https://example.com?key={WRONG}",
                "https://example.com#x",
                "https://example.com:99999",
                "https://example.com:0",
                "ftp://127.0.0.1",
                "https://[::1",
            )
        ),
        *(
            (opening.s3, {**S3, "prefix": prefix})
            for prefix in ("", "/a", "a/", "a//b", "a/../b", ".", "é", "a b", "x" * (opening.PREFIX_CHARS_MAX + 1))
        ),
        (opening.azure, {**AZURE, "account": "Account"}),
        (opening.azure, {**AZURE, "account": "ac"}),
        (opening.azure, {**AZURE, "container": "a--b"}),
        (opening.azure, {**AZURE, "container": "a-"}),
        (opening.azure, {**AZURE, "account_key": Secret(WRONG)}),
        (opening.azure, {**AZURE, "endpoint": "http://account.example.com"}),
        (opening.gcs, {**GCS, "bucket": ""}),
        (opening.gcs, {**GCS, "service_account_key": Secret(WRONG)}),
        (opening.gcs, {**GCS, "service_account_key": Secret(f'["{WRONG}"]')}),
        (opening.local, {**PLACE, "directory": ""}),
        (opening.local, {**PLACE, "directory": "a\0b"}),
        (opening.memory, {**PLACE, "mode": "prod"}),
        (opening.memory, {**PLACE, "env": "Prod"}),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(make: Callable[..., Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        make(**arguments)
    assert WRONG not in f"{caught.value} {caught.value.detail} {caught.value.__cause__}"


def test_the_longest_prefix_and_names_are_taken() -> None:
    opening.s3(**{**S3, "prefix": "x" * opening.PREFIX_CHARS_MAX, "bucket": "x" * 63})
    opening.s3(**{**S3, "prefix": "team-1/ob_jects/v1.0", "region": "cn-north-1"})
    opening.azure(**{**AZURE, "account": "a" * 24, "container": "a-" * 31 + "b", "account_key": Secret("a2V5")})


@pytest.mark.parametrize(
    ("make", "arguments", "variables"),
    [
        (
            opening.s3,
            {**S3, "access_key_id": Secret("a"), "secret_access_key": Secret("b")},
            {"AWS_ENDPOINT_URL": "{}", "AWS_ENDPOINT": "{}", "AWS_ENDPOINT_URL_S3": "{}", "AWS_REGION": "us-east-1"},
        ),
        (
            opening.azure,
            {**AZURE, "account_key": Secret("a2V5")},
            {"AZURE_STORAGE_ENDPOINT": "{}", "AZURE_ENDPOINT": "{}", "AZURE_STORAGE_ACCOUNT_NAME": "other"},
        ),
    ],
)
async def test_no_variable_leads_data_elsewhere(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], arguments: dict[str, Any], variables: dict[str, str]
) -> None:
    async with answering(404) as elsewhere:
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(f"http://127.0.0.1:{elsewhere.port}"))
        for name in ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "AWS_SKIP_SIGNATURE", "AZURE_STORAGE_USE_EMULATOR"):
            monkeypatch.setenv(name, "true")
        store = make(**arguments, endpoint=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(BackendDown):
            await store.probe(timeout_s=TIMEOUT_S)
        # The engine's own address, which a test must not reach: without http nothing could go elsewhere anyhow.
        with pytest.raises(PerdureError):
            await make(**arguments).probe(timeout_s=0.2)
        assert elsewhere.requests == []


async def test_requests_are_signed_whatever_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    async with answering(403) as server:
        store = opening.s3(
            **S3,
            access_key_id=Secret("AKIAKEY"),
            secret_access_key=Secret("b"),
            endpoint=f"http://127.0.0.1:{server.port}/",
            prefix="pre/fix",
        )
        with pytest.raises(PerdureError):
            await store.find(new_space(), object_digest(b""), timeout_s=TIMEOUT_S)
        (request,) = server.requests
    assert request.startswith("GET /bucket?list-type=2&prefix=pre%2Ffix%2Fobjects%2Ft_")
    assert "authorization: AWS4-HMAC-SHA256 Credential=AKIAKEY/" in request


async def test_memory_is_gone_with_its_store() -> None:
    space = new_space()
    one, other = opening.memory(**PLACE), opening.memory(**PLACE)
    ref = await one.put(space, b"a", timeout_s=TIMEOUT_S)
    assert await one.find(space, ref.digest, timeout_s=TIMEOUT_S) == ref
    assert await other.find(space, ref.digest, timeout_s=TIMEOUT_S) is None


async def test_a_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    store = opening.local(tmp_path / "not" / "there", **PLACE)
    await store.open(timeout_s=TIMEOUT_S)
    assert (tmp_path / "not" / "there").stat().st_mode & 0o777 == 0o700


def test_a_service_account_is_taken_as_its_json() -> None:
    with pytest.raises(Invalid):
        opening.gcs(**GCS, service_account_key=Secret("{"))
    key = {
        "private_key": "none",
        "private_key_id": "1",
        "client_email": "a@b.c",
        "gcs_base_url": "",
        "disable_oauth": True,
    }
    opening.gcs(**GCS, service_account_key=Secret(json.dumps(key)))
