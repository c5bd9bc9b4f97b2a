"""Webhooks against a real HTTP server: what is sent, what each answer means, and what is never done."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from perdure.adapters.webhooks import RESPONSE_BYTES_MAX, WebhookDeliverer, WebhookSettings
from perdure.adapters.webhooks.addresses import is_public
from perdure.adapters.webhooks.deliverer import retry_after_s
from perdure.adapters.webhooks.request import HEADERS_MAX
from perdure.core.secrets import SystemSecrets
from perdure.errors import Invalid, NotFound
from perdure.ports.relay import Delivery, DeliveryFailed
from perdure.testing.environment import FakeClock
from tests.support.receiver import Answer, Receiver, receiving

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = b"a signing key of enough bytes"
SECRETS = SystemSecrets({"HOOK": "whsec_" + base64.b64encode(KEY).decode(), "TOKEN": "t0ps3cr3t", "WEAK": "whsec_YQ=="})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def delivery(spec: dict[str, Any], *, key: str = "run/step/hook", deadline_s: float = 10.0) -> Delivery:
    ids = UUID(int=1)
    return Delivery(
        tenant="t_acme",
        tenant_id=ids,
        effect_type="WEBHOOK_CALL",
        spec=spec,
        idempotency_key=key,
        attempt=1,
        entry_id=ids,
        effect_id=ids,
        run_id=ids,
        correlation_id=ids,
        deadline_s=deadline_s,
    )


@asynccontextmanager
async def deliverer(settings: WebhookSettings | None = None, **more: Any) -> AsyncIterator[WebhookDeliverer]:
    async with WebhookDeliverer(secrets=SECRETS, clock=FakeClock(NOW), settings=settings, **more) as made:
        yield made


async def failure(spec: dict[str, Any], settings: WebhookSettings | None = None, **more: Any) -> DeliveryFailed:
    async with deliverer(settings) as deliver:
        with pytest.raises(DeliveryFailed) as caught:
            await deliver(delivery(spec, **more))
    return caught.value


async def test_a_call_carries_its_body_and_its_idempotency_key(receiver: Receiver) -> None:
    receiver.answers = [Answer(body=b'{"ok":1}')]
    async with deliverer() as deliver:
        result = await deliver(delivery({"url": f"{receiver.url}/hook?a=1", "body": {"n": 1}, "headers": {"X-A": "b"}}))
    (got,) = receiver.requests
    assert result == {"status": 200, "body": '{"ok":1}', "truncated": False}
    assert (got.method, got.path, json.loads(got.body)) == ("POST", "/hook?a=1", {"n": 1})
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-a"] == "b"
    for name in ("idempotency-key", "x-idempotency-key", "webhook-id"):
        assert got.headers[name] == "run/step/hook"
    assert "webhook-signature" not in got.headers


async def test_an_api_call_uses_its_method_and_its_text(receiver: Receiver) -> None:
    async with deliverer() as deliver:
        await deliver(delivery({"url": receiver.url, "method": "put", "body": "plain"}))
        await deliver(delivery({"url": receiver.url, "method": "GET"}))
    put, get = receiver.requests
    assert (put.method, put.body, put.headers["content-type"]) == ("PUT", b"plain", "text/plain; charset=utf-8")
    assert (get.method, get.body) == ("GET", b"")


async def test_a_call_with_a_secret_is_signed_as_standard_webhooks_has_it(receiver: Receiver) -> None:
    async with deliverer() as deliver:
        await deliver(delivery({"url": receiver.url, "body": {"n": 1}, "secret_ref": "secret://env/HOOK"}))
    (got,) = receiver.requests
    assert got.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"


async def test_a_header_may_be_a_secret_and_an_answer_that_echoes_it_is_redacted(receiver: Receiver) -> None:
    receiver.answers = [Answer(body=b"you sent t0ps3cr3t")]
    header = {"secret_ref": "secret://env/TOKEN", "prefix": "Bearer "}
    async with deliverer() as deliver:
        result = await deliver(delivery({"url": receiver.url, "headers": {"Authorization": header}}))
    assert receiver.requests[0].headers["authorization"] == "Bearer t0ps3cr3t"
    assert result["body"] == "you sent ***"


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (404, False),
        (408, True),
        (410, False),
        (422, False),
        (425, True),
        (429, True),
        (500, True),
        (502, True),
        (503, True),
        (504, True),
    ],
)
async def test_an_answer_says_whether_to_try_again(receiver: Receiver, status: int, retryable: bool) -> None:  # noqa: FBT001
    receiver.answers = [Answer(status=status)]
    failed = await failure({"url": receiver.url})
    assert (failed.code, failed.retryable) == (f"HTTP_{status}", retryable)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_is_delivered(receiver: Receiver, status: int) -> None:
    receiver.answers = [Answer(status=status)]
    async with deliverer() as deliver:
        assert (await deliver(delivery({"url": receiver.url})))["status"] == status


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("1" * 11, None),
        (None, None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now=NOW) == seconds


async def test_what_the_receiver_asks_for_is_passed_on(receiver: Receiver) -> None:
    receiver.answers = [
        Answer(status=503, headers={"Retry-After": "33"}),
        Answer(status=404, headers={"Retry-After": "1"}),
    ]
    assert (await failure({"url": receiver.url})).retry_after_s == 33
    assert (await failure({"url": receiver.url})).retry_after_s is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(receiver: Receiver, status: int) -> None:
    with receiving() as elsewhere:
        receiver.answers = [Answer(status=status, headers={"Location": elsewhere.url})]
        failed = await failure({"url": receiver.url})
    assert (failed.code, failed.retryable) == ("REDIRECT_REFUSED", False)
    assert (len(receiver.requests), elsewhere.requests) == (1, [])


@pytest.mark.parametrize(("size", "truncated"), [(RESPONSE_BYTES_MAX, False), (RESPONSE_BYTES_MAX + 1, True)])
async def test_an_answer_is_recorded_up_to_its_limit(receiver: Receiver, size: int, truncated: bool) -> None:  # noqa: FBT001
    receiver.answers = [Answer(body=b"y" * size)]
    async with deliverer() as deliver:
        result = await deliver(delivery({"url": receiver.url}))
    assert (len(result["body"]), result["truncated"]) == (RESPONSE_BYTES_MAX, truncated)


async def test_an_endless_answer_is_not_read_to_its_end(receiver: Receiver) -> None:
    receiver.answers = [Answer(endless=True)]
    async with deliverer() as deliver:
        result = await deliver(delivery({"url": receiver.url}))
    assert result["truncated"]
    assert receiver.body_bytes_sent < 30 * 1_048_576


async def test_bytes_that_cannot_be_kept_are_replaced(receiver: Receiver) -> None:
    receiver.answers = [Answer(body=b"a\x00b\xff")]
    async with deliverer() as deliver:
        assert (await deliver(delivery({"url": receiver.url})))["body"] == "a\ufffdb\ufffd"


@pytest.mark.parametrize(("timeout_s", "deadline_s"), [(0.05, 10.0), (10.0, 0.05)])
async def test_a_silent_receiver_is_left_in_time(receiver: Receiver, timeout_s: float, deadline_s: float) -> None:
    receiver.answers = [Answer(silent=True)]
    failed = await failure({"url": receiver.url}, WebhookSettings(timeout_s=timeout_s), deadline_s=deadline_s)
    assert (failed.code, failed.retryable) == ("TIMED_OUT", True)


async def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with receiving() as gone:
        url = gone.url
    failed = await failure({"url": url})
    assert (failed.code, failed.retryable) == ("CONNECT_FAILED", True)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"url": "ftp://acme.test/x"},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": 7},
        {"url": "http://ann:pw@acme.test/"},
        {"url": "http://acme.test/", "method": "CONNECT"},
        {"url": "http://acme.test/", "headers": ["X"]},
        {"url": "http://acme.test/", "headers": {"X-A": "a\r\nX-B: b"}},
        {"url": "http://acme.test/", "headers": {"X A": "a"}},
        {"url": "http://acme.test/", "headers": {"Host": "other.test"}},
        {"url": "http://acme.test/", "headers": {"webhook-signature": "v1,forged"}},
        {"url": "http://acme.test/", "headers": {"Idempotency-Key": "mine"}},
        {"url": "http://acme.test/", "headers": {"X-A": "a", "x-a": "b"}},
        {"url": "http://acme.test/", "headers": {"X-A": {"secret_ref": 7}}},
        {"url": "http://acme.test/", "headers": {"X-A": {"other": "b"}}},
        {"url": "http://acme.test/", "headers": {f"X-{n}": "a" for n in range(HEADERS_MAX + 1)}},
        {"url": "http://acme.test/", "secret_ref": {}},
    ],
    ids=str,
)
async def test_a_specification_that_no_attempt_can_make_good_is_dead_at_once(spec: dict[str, Any]) -> None:
    failed = await failure(spec)
    assert (failed.code, failed.retryable) == ("SPEC_INVALID", False)


async def test_as_many_headers_as_allowed_are_sent(receiver: Receiver) -> None:
    async with deliverer() as deliver:
        await deliver(delivery({"url": receiver.url, "headers": {f"X-{n}": "a" for n in range(HEADERS_MAX)}}))
    assert receiver.requests[0].headers[f"x-{HEADERS_MAX - 1}"] == "a"


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("secret://env/GONE", NotFound),
        ("t0ps3cr3t", Invalid),
        ("secret://env/TOKEN", Invalid),
        ("secret://env/WEAK", Invalid),
    ],
)
async def test_a_call_whose_secret_is_not_one_is_not_sent(
    receiver: Receiver, reference: str, error: type[Exception]
) -> None:
    async with deliverer() as deliver:
        with pytest.raises(error) as caught:
            await deliver(delivery({"url": receiver.url, "secret_ref": reference}))
    assert "t0ps3cr3t" not in str(caught.value)
    assert receiver.requests == []


async def test_only_allowed_hosts_are_called(receiver: Receiver) -> None:
    settings = WebhookSettings(hosts_allowed=frozenset({"acme.test"}))
    failed = await failure({"url": receiver.url}, settings)
    assert (failed.code, failed.retryable, receiver.requests) == ("HOST_REFUSED", False, [])
    async with deliverer(WebhookSettings(hosts_allowed=frozenset({"127.0.0.1"}))) as deliver:
        await deliver(delivery({"url": receiver.url}))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "[::ffff:10.0.0.1]"]
)
async def test_addresses_that_are_not_public_are_refused_where_they_are_not_allowed(
    receiver: Receiver, host: str
) -> None:
    failed = await failure({"url": f"http://{host}:{receiver.port}/"}, WebhookSettings(public_only=True))
    assert (failed.code, failed.retryable, receiver.requests) == ("ADDRESS_REFUSED", False, [])


async def test_a_name_is_judged_by_all_of_its_addresses(receiver: Receiver) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        return ["93.184.215.14", "127.0.0.1"]

    async with deliverer(WebhookSettings(public_only=True), resolve=resolve) as deliver:
        with pytest.raises(DeliveryFailed) as caught:
            await deliver(delivery({"url": f"http://rebound.test:{receiver.port}/"}))
    assert (caught.value.code, receiver.requests) == ("ADDRESS_REFUSED", [])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("192.168.1.1", False),
        ("fe80::1%eth0", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - judged, not bound
        ("fc00::1", False),
    ],
)
def test_what_a_public_address_is(address: str, public: bool) -> None:  # noqa: FBT001
    assert is_public(address) is public


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"connect_timeout_s": float("inf")},
        {"response_bytes_max": RESPONSE_BYTES_MAX + 1},
        {"response_bytes_max": -1},
        {"connections_max": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        WebhookSettings(**wrong)
