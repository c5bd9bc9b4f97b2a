"""Where a driver connects, and as whom: what it was told, whatever the environment says."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import socket
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from perdure.adapters.firestore.connection import SERVICE, authorisation
from perdure.adapters.firestore.driver import FirestoreDriver
from perdure.core.environment import SystemClock
from perdure.errors import BackendDown, Forbidden, Invalid
from perdure.ports.documents import Expect, Put
from perdure.ports.secrets import Secret
from tests.adapters.firestore.conftest import OpenDriver
from tests.support.firestore_fake import FirestoreFake

PUT = Put(sort="a", version=1, body=b"{}", expect=Expect.ABSENT)


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the environment would send a driver that listened to it."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        address = f"127.0.0.1:{trap.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{address}")
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
        for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT"):
            monkeypatch.setenv(name, "nonsense")
        monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "nonsense.example")
        monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "nonsense")
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "nonsense")
        yield trap


def assert_nobody_came(trap: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        trap.accept()


@pytest.fixture(scope="module")
def service_account() -> Secret:
    """A key as Google gives them out, made up here."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Secret(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "another-project",
                "private_key_id": "k1",
                "private_key": pem.decode(),
                "client_email": "perdure@another-project.iam.example",
                "token_uri": "https://127.0.0.1:1/token",
                # For accounts of its own universe the SDK asks Google about regions, and no test goes there.
                "universe_domain": "tests.example",
            }
        )
    )


async def test_the_environment_changes_neither_endpoint_nor_project(
    trap: socket.socket, fake: FirestoreFake, open_driver: OpenDriver
) -> None:
    driver = await open_driver(fake.endpoint, project="told")
    await driver.commit("p", [PUT], commit_id="c1", timeout_s=30)
    assert (await driver.get("p", ["a"], timeout_s=30))["a"].version == 1
    assert fake.stored("/d/a").name.startswith("projects/told/databases/(default)/documents/")
    assert_nobody_came(trap)


async def test_without_an_endpoint_it_is_the_service_whatever_the_environment_says(
    trap: socket.socket, service_account: Secret
) -> None:
    driver = FirestoreDriver(project="told", credentials=service_account, clock=SystemClock())
    await driver.open()
    assert driver._connection is not None
    target = driver._connection._channel._channel.target
    assert target.decode().removeprefix("dns:///") == SERVICE == "firestore.googleapis.com:443"
    await driver.close()
    assert_nobody_came(trap)


def test_a_service_account_signs_its_requests_by_itself(trap: socket.socket, service_account: Secret) -> None:
    signed: list[dict[str, str]] = []

    class Call:
        service_url = "https://firestore.googleapis.com/google.firestore.v1.Firestore"
        method_name = "Commit"

    def take(metadata: list[tuple[str, str]], error: Exception | None) -> None:
        assert error is None
        signed.append(dict(metadata))

    authorisation(service_account)(Call, take)
    claims = signed[0]["authorization"].removeprefix("Bearer ").split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert found["iss"] == "perdure@another-project.iam.example"
    assert found["scope"] == "https://www.googleapis.com/auth/datastore"
    assert_nobody_came(trap)


@pytest.mark.parametrize(
    "text",
    ["hunter2", "[]", '"hunter2"', "{}", '{"type": "service_account", "private_key": "hunter2"}', "wrong key"],
)
async def test_credentials_that_are_no_key_are_refused_without_being_shown(text: str, service_account: Secret) -> None:
    if text == "wrong key":
        text = json.dumps({**json.loads(service_account.reveal()), "private_key": "hunter2"})
    driver = FirestoreDriver(project="tests", credentials=Secret(text), clock=SystemClock())
    with pytest.raises(Invalid, match="service account's key") as caught:
        await driver.open()
    assert caught.value.__cause__ is None
    assert "hunter2" not in repr(caught.value)
    await driver.close()


async def test_missing_default_credentials_are_forbidden_and_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    driver = FirestoreDriver(project="tests", clock=SystemClock())
    with pytest.raises(Forbidden, match="gcloud auth application-default login"):
        await driver.open()
    await driver.close()


async def test_nobody_at_the_endpoint_is_down_and_nothing_was_sent(open_driver: OpenDriver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    driver = await open_driver(f"127.0.0.1:{port}")
    for attempt in (
        driver.get("p", ["a"], timeout_s=30),
        driver.scan("p", start="A", end="~", limit=1, timeout_s=30),
        driver.commit("p", [PUT], commit_id="c1", timeout_s=30),
        driver.probe(timeout_s=30),
    ):
        with pytest.raises(BackendDown):
            await attempt


async def test_nothing_is_left_behind(fake: FirestoreFake, open_driver: OpenDriver) -> None:
    before = asyncio.all_tasks()
    for _ in range(3):
        driver = await open_driver(fake.endpoint)
        await driver.commit("p", [Put(sort="a", version=1, body=b"{}", expect=Expect.ANY)], commit_id="c", timeout_s=30)
        await driver.scan("p", start="A", end="~", limit=1, timeout_s=30)
        cancelled = asyncio.create_task(driver.get("p", ["a"], timeout_s=30))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await driver.close()
        await driver.close()
    gc.collect()
    assert asyncio.all_tasks() == before
