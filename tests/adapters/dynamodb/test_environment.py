"""Where requests go is decided by arguments alone; the environment and the vendor's files may hold credentials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse  # type: ignore[import-untyped]  # ships no types

from perdure.adapters.dynamodb.connection import ConnectionSettings, connect
from perdure.errors import Forbidden, Invalid, PerdureError
from perdure.ports.secrets import Secret
from tests.adapters.dynamodb.answers import Answers
from tests.adapters.dynamodb.conftest import SECRETS, OpenDriver

SETTINGS = ConnectionSettings(region="eu-central-1", connections_max=1, connect_timeout_s=1.0, read_timeout_s=1.0)
GIVEN = replace(SETTINGS, access_key_id=Secret("AKIAGIVEN"), secret_access_key=Secret("given"))

ELSEWHERE = "http://127.0.0.1:1"
FILE = f"""\
[default]
region = us-west-2
endpoint_url = {ELSEWHERE}
services = elsewhere
use_fips_endpoint = true
use_dualstack_endpoint = true
endpoint_discovery_enabled = true
account_id_endpoint_mode = required
max_attempts = 7
[services elsewhere]
dynamodb =
  endpoint_url = {ELSEWHERE}
"""
MISLEADING = {
    "endpoint": {"AWS_ENDPOINT_URL": ELSEWHERE},
    "endpoint of the service": {"AWS_ENDPOINT_URL_DYNAMODB": ELSEWHERE},
    "endpoint, insisting": {"AWS_ENDPOINT_URL": ELSEWHERE, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"},
    "region": {"AWS_DEFAULT_REGION": "us-west-2", "AWS_REGION": "us-west-2"},
    "proxy": {"HTTP_PROXY": ELSEWHERE, "HTTPS_PROXY": ELSEWHERE, "http_proxy": ELSEWHERE, "https_proxy": ELSEWHERE},
    "variants": {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "discovery": {"AWS_ENDPOINT_DISCOVERY_ENABLED": "true"},
    "account": {"AWS_ACCOUNT_ID": "123456789012", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required"},
    "retries": {"AWS_MAX_ATTEMPTS": "7", "AWS_RETRY_MODE": "adaptive"},
    "defaults": {"AWS_DEFAULTS_MODE": "standard"},
    "file": {},
}


def where_it_goes(client: Any) -> AWSRequest:
    """The request that would be sent for a read, and nothing is sent."""
    sent: list[AWSRequest] = []

    def keep(request: AWSRequest, **_: object) -> AWSResponse:
        sent.append(request)
        return Nothing(request.url, 200, {"x-amzn-requestid": "1"}, None)

    client.meta.events.register("before-send.dynamodb", keep)
    client.get_item(TableName="kept", Key={"pk": {"S": "a"}, "sk": {"S": "b"}})
    (request,) = sent
    return request


class Nothing(AWSResponse):  # type: ignore[misc]  # ships no types
    """An answer that needs no network."""

    @property
    def content(self) -> bytes:
        return b"{}"


@pytest.fixture(params=list(MISLEADING.values()), ids=list(MISLEADING))
def misleading(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that would send data elsewhere, and for "file" the vendor's file."""
    if not request.param:
        (tmp_path / "config").write_text(FILE)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("misleading")
@pytest.mark.parametrize("with_chain", [False, True])
def test_nothing_outside_the_arguments_decides_where_a_request_goes(
    monkeypatch: pytest.MonkeyPatch, *, with_chain: bool
) -> None:
    if with_chain:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACHAIN")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "chain")
    client = connect(SETTINGS if with_chain else GIVEN)
    request = where_it_goes(client)
    client.close()
    assert request.url == "https://dynamodb.eu-central-1.amazonaws.com/"
    signed = request.headers["Authorization"].decode()
    assert f"Credential={'AKIACHAIN' if with_chain else 'AKIAGIVEN'}/" in signed
    assert "/eu-central-1/dynamodb/" in signed
    assert client.meta.config.retries["total_max_attempts"] == 1
    assert client.meta.config.retries["mode"] == "standard"
    assert client.meta.config.read_timeout == 1.0


@pytest.mark.usefixtures("misleading")
async def test_a_driver_talks_to_its_endpoint_and_once(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.refuse("GetItem", "InternalServerError", status=500)
    with pytest.raises(PerdureError):
        await driver.get("p", ["a"], timeout_s=60)
    assert await driver.get("p", ["a"], timeout_s=60) == {}
    assert answers.operations() == ["GetItem", "GetItem"]


def test_given_keys_do_not_need_the_files_of_the_vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACHAIN")
    client = connect(GIVEN)
    assert "Credential=AKIAGIVEN/" in where_it_goes(client).headers["Authorization"].decode()
    client.close()


async def test_a_chain_without_credentials_is_forbidden(
    answers: Answers, open_on_answers: OpenDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "missing"))
    nothing = {"access_key_id": None, "secret_access_key": None, "session_token": None}
    with pytest.raises(Forbidden, match="no credentials"):
        await open_on_answers(**nothing)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Forbidden, match="no credentials"):
        await open_on_answers(**nothing)
    assert answers.asked == []


@pytest.mark.parametrize(
    "changed",
    [
        {"table_name": "ab"},
        {"table_name": "a" * 256},
        {"table_name": "no spaces"},
        {"region": ""},
        {"region": "eu central"},
        {"region": "EU-CENTRAL-1"},
        {"region": "eu-central-1.example.org/"},
        {"endpoint_url": "ftp://example.org"},
        {"endpoint_url": "https://"},
        {"endpoint_url": "https://example.org:port"},
        {"endpoint_url": "https://example.org/path"},
        {"endpoint_url": "https://example.org/?query"},
        {"endpoint_url": "https://user:whispered@example.org"},
        {"secret_access_key": None},
        {"access_key_id": None},
        {"access_key_id": None, "secret_access_key": None},
        {"threads_max": 0},
        {"connect_timeout_s": 0},
        {"read_timeout_s": float("inf")},
    ],
)
async def test_settings_that_cannot_work_are_refused(open_on_answers: OpenDriver, changed: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        await open_on_answers(**changed)
    assert "whispered" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["abc", "a" * 255, "a.b-c_D9"])
async def test_a_table_may_have_every_name_that_the_engine_allows(open_on_answers: OpenDriver, name: str) -> None:
    assert repr(await open_on_answers(table_name=name)) == f"DynamoDbDriver(table_name={name!r}, region='eu-central-1')"


def test_settings_do_not_show_their_secrets() -> None:
    key, secret, token = (Secret(text) for text in SECRETS)
    shown = repr(replace(SETTINGS, access_key_id=key, secret_access_key=secret, session_token=token))
    assert not any(text in shown for text in SECRETS)
