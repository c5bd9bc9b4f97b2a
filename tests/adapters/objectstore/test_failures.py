"""What a cloud's failures are to a caller: never "nothing there", never a secret, and always what to do."""

from __future__ import annotations

import traceback

import pytest

from perdure.adapters.objectstore import opening
from perdure.adapters.objectstore.store import ObstoreObjects
from perdure.core.environment import system_environment
from perdure.domain.object import object_digest
from perdure.errors import (
    BackendDown,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Refused,
    Throttled,
    TimedOut,
)
from perdure.ports.secrets import Secret
from perdure.testing.contracts.stores import new_space
from tests.adapters.objectstore.answers import answering
from tests.support.servers import free_port

SPACE = new_space()
DIGEST = object_digest(b"a")
KEY_ID, KEY, TOKEN = "AKIAWELLKNOWN", "the-secret-of-the-bucket", "the-session-token"
PATIENCE_S = 20.0
IMPATIENCE_S = 0.5

NO_BUCKET = "<Error><Code>NoSuchBucket</Code></Error>"
REFUSED = f"<Error><Code>InvalidAccessKeyId</Code><Key>{KEY}</Key></Error>"


def store_at(port: int) -> ObstoreObjects:
    return opening.s3(
        bucket="bucket",
        region="eu-central-1",
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id=Secret(KEY_ID),
        secret_access_key=Secret(KEY),
        session_token=Secret(TOKEN),
        mode="lab",
        env="dev",
        environment=system_environment(),
    )


async def failure(port: int, what: str, *, timeout_s: float = PATIENCE_S) -> PerdureError:
    """The error of one request."""
    store = store_at(port)
    requests = {
        "put": lambda: store.put(SPACE, b"a", timeout_s=timeout_s),
        "get": lambda: store.get(SPACE, DIGEST, timeout_s=timeout_s),
        "find": lambda: store.find(SPACE, DIGEST, timeout_s=timeout_s),
        "list": lambda: store.list(SPACE, limit=1, timeout_s=timeout_s),
        "delete": lambda: store.delete(SPACE, DIGEST, timeout_s=timeout_s),
        "spaces": lambda: store.spaces(SPACE.tenant, limit=1, timeout_s=timeout_s),
        "probe": lambda: store.probe(timeout_s=timeout_s),
        "open": lambda: store.open(timeout_s=timeout_s),
    }
    with pytest.raises(PerdureError) as caught:
        await requests[what]()
    error = caught.value
    assert error.__cause__ is not None
    shown = f"{error} {error!r} {error.detail} {store!r}"
    for secret in (KEY_ID, KEY, TOKEN):
        assert secret not in shown
    return error


ALL = ("put", "get", "find", "list", "delete", "spaces", "probe", "open")


@pytest.mark.parametrize("what", ALL)
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, REFUSED, Forbidden),
        (403, REFUSED, Forbidden),
        (404, NO_BUCKET, Refused),
        (400, "", PersistenceError),
        (418, "", PersistenceError),
    ],
)
async def test_an_answer_is_told_as_what_to_do(status: int, body: str, error: type[PerdureError], what: str) -> None:
    async with answering(status, body) as server:
        found = await failure(server.port, what)
    assert type(found) is error
    assert not isinstance(found, NotFound)


@pytest.mark.parametrize(("status", "error"), [(429, Throttled), (503, Throttled), (500, PersistenceError)])
async def test_what_may_pass_is_tried_again_and_then_told(status: int, error: type[PerdureError]) -> None:
    async with answering(status) as server:
        found = await failure(server.port, "find")
        assert type(found) is error
        assert len(server.requests) == 1 + opening.RETRIES_MAX


@pytest.mark.parametrize("what", ALL)
async def test_a_store_that_nobody_serves_is_down(what: str) -> None:
    assert type(await failure(free_port(), what)) is BackendDown


@pytest.mark.parametrize("what", ["get", "find", "list", "spaces", "probe"])
async def test_a_read_without_an_answer_is_timed_out(what: str) -> None:
    async with answering(None) as server:
        assert type(await failure(server.port, what, timeout_s=IMPATIENCE_S)) is TimedOut


@pytest.mark.parametrize("what", ["put", "delete"])
async def test_a_write_without_an_answer_has_an_unknown_outcome(what: str) -> None:
    async with answering(None) as server:
        assert type(await failure(server.port, what, timeout_s=IMPATIENCE_S)) is OutcomeUnknown


async def test_what_is_garbled_is_a_failure_and_not_an_empty_list() -> None:
    for body in ("", "{}", "<html>not closed"):
        async with answering(200, body) as server:
            for what in ("find", "list", "get"):
                assert isinstance(await failure(server.port, what), PersistenceError)


async def test_a_trace_of_a_failure_holds_no_secret() -> None:
    async with answering(403, "") as server:
        error = await failure(server.port, "put")
    shown = "".join(traceback.format_exception(error))
    for secret in (KEY, TOKEN):
        assert secret not in shown
