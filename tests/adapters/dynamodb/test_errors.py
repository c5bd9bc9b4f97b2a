"""What the engine and its client say, and what it means for a read and for a commit."""

from __future__ import annotations

import ssl
import traceback
from typing import Any

import pytest
from botocore import exceptions as sdk  # type: ignore[import-untyped]  # ships no types

from perdure.adapters.dynamodb.driver import DynamoDbDriver
from perdure.adapters.dynamodb.errors import Request, translate
from perdure.adapters.dynamodb.threads import GaveUp
from perdure.errors import (
    BackendDown,
    Corrupt,
    Forbidden,
    Invalid,
    LimitExceeded,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.documents import Expect, ExpectationFailed, Put, Remove, Require
from tests.adapters.dynamodb.answers import Answers
from tests.adapters.dynamodb.conftest import SECRETS, OpenDriver

PUT = Put(sort="a", version=1, body=b"{}", expect=Expect.ABSENT)
READ = Request(operation="GetItem", table="kept")
COMMIT = Request(operation="PutItem", table="kept", writes=[PUT])
STORED = {"pk": {"S": "p"}, "sk": {"S": "a"}, "v": {"N": "7"}, "b": {"B": "e30="}, "c": {"S": "other"}}

Kind = type[PerdureError]

# Code and status, then what it means for a read and for a commit.
ANSWERED: list[tuple[str, int, Kind, Kind]] = [
    ("ProvisionedThroughputExceededException", 400, Throttled, Throttled),
    ("ThrottlingException", 400, Throttled, Throttled),
    ("RequestLimitExceeded", 400, Throttled, Throttled),
    ("SlowDown", 429, Throttled, Throttled),
    ("TransactionConflictException", 400, Throttled, Throttled),
    ("ReplicatedWriteConflictException", 400, Throttled, Throttled),
    ("AccessDeniedException", 400, Forbidden, Forbidden),
    ("UnrecognizedClientException", 400, Forbidden, Forbidden),
    ("InvalidSignatureException", 400, Forbidden, Forbidden),
    ("MissingAuthenticationTokenException", 400, Forbidden, Forbidden),
    ("ExpiredTokenException", 400, Forbidden, Forbidden),
    ("NobodyKnows", 403, Forbidden, Forbidden),
    ("ValidationException", 400, Invalid, Invalid),
    ("SerializationException", 400, Invalid, Invalid),
    ("ResourceNotFoundException", 400, Invalid, Invalid),
    ("RequestEntityTooLarge", 413, LimitExceeded, LimitExceeded),
    ("ItemCollectionSizeLimitExceededException", 400, LimitExceeded, LimitExceeded),
    ("InternalServerError", 500, BackendDown, OutcomeUnknown),
    ("ServiceUnavailable", 503, BackendDown, OutcomeUnknown),
    ("ThrottlingException", 503, BackendDown, OutcomeUnknown),
    ("RequestTimeoutException", 408, BackendDown, OutcomeUnknown),
    ("TransactionInProgressException", 400, BackendDown, OutcomeUnknown),
    ("IdempotentParameterMismatchException", 400, PersistenceError, PersistenceError),
    ("NobodyKnows", 404, PersistenceError, PersistenceError),
]

RAISED: list[tuple[Exception, Kind, Kind]] = [
    (sdk.EndpointConnectionError(endpoint_url="x"), BackendDown, BackendDown),
    (sdk.ConnectTimeoutError(endpoint_url="x"), BackendDown, BackendDown),
    (sdk.ProxyConnectionError(proxy_url="x"), BackendDown, BackendDown),
    (
        sdk.SSLError(endpoint_url="x", error=ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")),
        BackendDown,
        BackendDown,
    ),
    (sdk.SSLError(endpoint_url="x", error=ssl.SSLError(1, "[SSL: BAD_RECORD_MAC]")), BackendDown, OutcomeUnknown),
    (sdk.ReadTimeoutError(endpoint_url="x"), TimedOut, OutcomeUnknown),
    (sdk.ConnectionClosedError(endpoint_url="x"), BackendDown, OutcomeUnknown),
    (sdk.HTTPClientError(error="x"), BackendDown, OutcomeUnknown),
    (sdk.ResponseStreamingError(error="x"), BackendDown, OutcomeUnknown),
    (OSError("x"), BackendDown, OutcomeUnknown),
    (KeyError("x"), PersistenceError, OutcomeUnknown),
    (sdk.ParamValidationError(report="x"), Invalid, Invalid),
    (sdk.NoCredentialsError(), Forbidden, Forbidden),
    (sdk.PartialCredentialsError(provider="x", cred_var="y"), Forbidden, Forbidden),
    (sdk.CredentialRetrievalError(provider="x", error_msg="y"), Forbidden, Forbidden),
    (sdk.UnauthorizedSSOTokenError(), Forbidden, Forbidden),
    (GaveUp(began=False), TimedOut, TimedOut),
    (GaveUp(began=True), TimedOut, OutcomeUnknown),
]


@pytest.mark.fast
@pytest.mark.parametrize(("raised", "read", "commit"), RAISED, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_the_client_raises_says_whether_anything_was_done(raised: Exception, read: Kind, commit: Kind) -> None:
    assert type(translate(raised, READ)) is read
    assert type(translate(raised, COMMIT)) is commit


async def failure_of_read(driver: DynamoDbDriver) -> PerdureError:
    with pytest.raises(PerdureError) as caught:
        await driver.get("p", ["a"], timeout_s=60)
    return caught.value


async def failure_of_commit(driver: DynamoDbDriver, *writes: Put | Remove | Require) -> PerdureError:
    with pytest.raises(PerdureError) as caught:
        await driver.commit("p", writes or [PUT], commit_id="mine", timeout_s=60)
    return caught.value


@pytest.mark.parametrize(("code", "status", "read", "commit"), ANSWERED)
async def test_what_the_engine_answers_says_whether_anything_was_done(
    answers: Answers, open_on_answers: OpenDriver, code: str, status: int, read: Kind, commit: Kind
) -> None:
    driver = await open_on_answers()
    for operation in ("GetItem", "PutItem"):
        answers.refuse(operation, code, status=status)
    for failure, kind in ((await failure_of_read(driver), read), (await failure_of_commit(driver), commit)):
        assert type(failure) is kind
        assert isinstance(failure.__cause__, sdk.ClientError)
        assert failure.detail["engine_code"] == code
        assert failure.detail["http_status"] == status
        assert "of vendors" not in str(failure), "the engine's own words quote keys"
    assert answers.operations() == ["GetItem", "PutItem"]


async def test_a_pause_that_the_engine_asks_for_is_passed_on(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.refuse("GetItem", "ThrottlingException", header="Retry-After: 7")
    answers.refuse("GetItem", "ThrottlingException", header="Retry-After: soon")
    assert (await failure_of_read(driver)).detail["retry_after_s"] == 7.0
    assert "retry_after_s" not in (await failure_of_read(driver)).detail


@pytest.mark.parametrize(("message", "kind"), [("Item size has exceeded", LimitExceeded), ("wrong type", Invalid)])
async def test_what_is_too_large_is_told_from_what_is_malformed(
    answers: Answers, open_on_answers: OpenDriver, message: str, kind: Kind
) -> None:
    driver = await open_on_answers()
    answers.refuse("PutItem", "ValidationException", message=message)
    assert type(await failure_of_commit(driver)) is kind
    reasons = [{"Code": "None"}, {"Code": "ValidationError", "Message": message}]
    answers.refuse("TransactWriteItems", "TransactionCanceledException", CancellationReasons=reasons)
    assert type(await failure_of_commit(driver, PUT, Require(sort="b"))) is kind


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"Item": {"sk": {"S": "a"}', b"[]", b"null"])
@pytest.mark.parametrize("status", [200, 502])
async def test_an_answer_that_makes_no_sense_is_neither_done_nor_nothing_there(
    answers: Answers, open_on_answers: OpenDriver, status: int, body: bytes
) -> None:
    driver = await open_on_answers()
    for operation in ("PutItem", "GetItem"):
        answers.give(operation, body, status=status)
    assert isinstance(await failure_of_commit(driver), OutcomeUnknown)
    assert isinstance(await failure_of_read(driver), BackendDown | PersistenceError)


@pytest.mark.parametrize("header", ["Server: somebody else's", "x-amz-crc32: 1\r\nx-amzn-RequestId: 1"])
async def test_an_answer_of_somebody_else_or_one_that_was_altered_is_none(
    answers: Answers, open_on_answers: OpenDriver, header: str
) -> None:
    driver = await open_on_answers()
    for operation in ("PutItem", "GetItem"):
        answers.give(operation, {}, header=header)
    assert isinstance(await failure_of_commit(driver), OutcomeUnknown)
    assert isinstance(await failure_of_read(driver), PersistenceError)
    answers.give("GetItem", {}, header="x-amz-crc32: 2745614147\r\nx-amzn-RequestId: 1")
    assert await driver.get("p", ["a"], timeout_s=60) == {}


async def test_a_failed_condition_says_what_was_there(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    answers.refuse("PutItem", "ConditionalCheckFailedException", Item=STORED)
    answers.refuse("PutItem", "ConditionalCheckFailedException")
    failure = await failure_of_commit(driver)
    assert isinstance(failure, ExpectationFailed)
    assert failure.sort == "a"
    assert failure.found is not None
    assert (failure.found.version, failure.found.body, failure.found.commit_id) == (7, b"{}", "other")
    failure = await failure_of_commit(driver)
    assert isinstance(failure, ExpectationFailed)
    assert (failure.sort, failure.found) == ("a", None)


NONE = {"Code": "None"}


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        ([NONE, {"Code": "TransactionConflict"}, NONE], Throttled),
        ([{"Code": "ThrottlingError"}, NONE, NONE], Throttled),
        ([NONE, NONE, {"Code": "ProvisionedThroughputExceeded"}], Throttled),
        ([{"Code": "ItemCollectionSizeLimitExceeded"}, NONE, NONE], LimitExceeded),
        ([{"Code": "ValidationError"}, NONE, {"Code": "TransactionConflict"}], Throttled),
        ([{"Code": "AccessDenied"}, NONE, NONE], Forbidden),
        ([{"Code": "NobodyKnows"}, NONE, NONE], PersistenceError),
        ([], PersistenceError),
        (
            [{"Code": "TransactionConflict"}, {"Code": "ConditionalCheckFailed", "Item": STORED}, NONE],
            ExpectationFailed,
        ),
    ],
)
async def test_a_cancelled_transaction_did_nothing(
    answers: Answers, open_on_answers: OpenDriver, reasons: list[dict[str, Any]], kind: Kind
) -> None:
    driver = await open_on_answers()
    answers.refuse("TransactWriteItems", "TransactionCanceledException", CancellationReasons=reasons)
    failure = await failure_of_commit(driver, PUT, Remove(sort="b", expect=3), Require(sort="c"))
    assert type(failure) is kind
    if isinstance(failure, ExpectationFailed):
        assert failure.sort == "b"
        assert failure.found is not None
        assert failure.found.version == 7


@pytest.mark.parametrize(
    "wrong",
    [{"v": {"N": "7.5"}}, {"v": {"S": "x"}}, {"b": {"S": "{}"}}, {"c": {"N": "1"}}, {"x": {"N": "1e99"}}, {"v": None}],
)
async def test_an_item_of_somebody_else_is_corrupt(
    answers: Answers, open_on_answers: OpenDriver, wrong: dict[str, Any]
) -> None:
    driver = await open_on_answers()
    item = {name: value for name, value in {**STORED, **wrong}.items() if value is not None}
    answers.give("GetItem", {"Item": item})
    assert isinstance(await failure_of_read(driver), Corrupt)
    answers.refuse("PutItem", "ConditionalCheckFailedException", Item=item)
    assert isinstance(await failure_of_commit(driver), Corrupt)


async def test_no_failure_shows_a_secret_or_a_payload(answers: Answers, open_on_answers: OpenDriver) -> None:
    driver = await open_on_answers()
    hidden = Put(sort="a", version=1, body=b'"buried"', expect=Expect.ABSENT)
    shown = [repr(driver), str(driver), repr(vars(driver))]
    for code, status, _, _ in ANSWERED:
        answers.refuse("PutItem", code, status=status)
        failure = await failure_of_commit(driver, hidden)
        shown += [repr(failure), str(failure), repr(failure.detail), *traceback.format_exception(failure)]
    for raised, _, _ in RAISED:
        shown.append(repr(translate(raised, COMMIT)))
    assert not [text for text in (*SECRETS, "buried") if text in "".join(shown)]
