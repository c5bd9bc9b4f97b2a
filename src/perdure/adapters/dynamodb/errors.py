"""The one place where the engine's errors become ours.

What decides is whether the work may have been done. The engine's own words are left out of messages, because they
quote keys and requests; its error code says as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from botocore import exceptions as sdk  # type: ignore[import-untyped]  # ships no types

from perdure.adapters.dynamodb.items import to_document
from perdure.adapters.dynamodb.threads import GaveUp
from perdure.errors import (
    BackendDown,
    Forbidden,
    Invalid,
    LimitExceeded,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.document_rules import not_as_expected
from perdure.ports.documents import Write

TABLE_MISSING: Final = "ResourceNotFoundException"
TABLE_EXISTS: Final = "ResourceInUseException"

_CONDITION_FAILED: Final = "ConditionalCheckFailed"
_SIZE: Final = "size"  # all that tells a request that is too large from one that is malformed
_BAD_REQUEST, _SERVER_ERROR = 400, 500
_STATUS_CODES: Final = {401: "AccessDenied", 403: "AccessDenied", 413: "RequestEntityTooLarge", 429: "ThrottlingError"}

_Kind: TypeAlias = tuple[type[PerdureError], str]
"""A class, and how its message goes on after ``PutItem on the table 'x'``."""

_THROTTLED: Final[_Kind] = (Throttled, "was not done, the engine asked for less; try again later")
_FORBIDDEN: Final[_Kind] = (Forbidden, "was refused; check the credentials, their rights and this machine's clock")
_TOO_LARGE: Final[_Kind] = (LimitExceeded, "was refused, it is too large; write less at a time")
_INVALID: Final[_Kind] = (Invalid, "was refused as malformed")

# Of single requests, and of the reasons for which a transaction was cancelled. Nothing was done in all of these.
_CODES: Final[Mapping[str, _Kind]] = {
    "ProvisionedThroughputExceeded": _THROTTLED,
    "ProvisionedThroughputExceededException": _THROTTLED,
    "ReplicatedWriteConflictException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "ThrottlingError": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "TransactionConflict": _THROTTLED,
    "TransactionConflictException": _THROTTLED,
    "AccessDenied": _FORBIDDEN,
    "AccessDeniedException": _FORBIDDEN,
    "ExpiredToken": _FORBIDDEN,
    "ExpiredTokenException": _FORBIDDEN,
    "IncompleteSignature": _FORBIDDEN,
    "IncompleteSignatureException": _FORBIDDEN,
    "InvalidClientTokenId": _FORBIDDEN,
    "InvalidSignatureException": _FORBIDDEN,
    "MissingAuthenticationToken": _FORBIDDEN,
    "MissingAuthenticationTokenException": _FORBIDDEN,
    "NotAuthorized": _FORBIDDEN,
    "OptInRequired": _FORBIDDEN,
    "RequestExpired": _FORBIDDEN,
    "RequestTimeTooSkewed": _FORBIDDEN,
    "SignatureDoesNotMatch": _FORBIDDEN,
    "UnrecognizedClientException": _FORBIDDEN,
    "ItemCollectionSizeLimitExceeded": _TOO_LARGE,
    "ItemCollectionSizeLimitExceededException": _TOO_LARGE,
    "RequestEntityTooLarge": _TOO_LARGE,
    "DuplicateItem": _INVALID,
    "SerializationException": _INVALID,
    "ValidationError": _INVALID,
    "ValidationException": _INVALID,
    TABLE_MISSING: (
        Invalid,
        "found no such table; create it with the key pk (S, HASH), sk (S, RANGE) and time to live on the attribute ttl",
    ),
}
# The first request with this token, or this one, may still be under way, and nobody knows yet how it ends.
_UNDECIDED: Final = frozenset({"TransactionInProgressException", "RequestTimeout", "RequestTimeoutException"})

_NO_CREDENTIALS: Final[_Kind] = (
    Forbidden,
    "was not sent, there are no credentials for it; give some, or put them where the vendor's own chain looks",
)
_NOT_REACHED: Final[_Kind] = (
    BackendDown,
    "was not sent, the endpoint was not reached; check its address, the network and the server's certificate",
)
# What the client raises before it sends anything.
_NOT_SENT: Final[Mapping[type[Exception], _Kind]] = {
    sdk.ConfigNotFound: _NO_CREDENTIALS,
    sdk.ConfigParseError: _NO_CREDENTIALS,
    sdk.CredentialRetrievalError: _NO_CREDENTIALS,
    sdk.InvalidConfigError: _NO_CREDENTIALS,
    sdk.MetadataRetrievalError: _NO_CREDENTIALS,
    sdk.NoAuthTokenError: _NO_CREDENTIALS,
    sdk.NoCredentialsError: _NO_CREDENTIALS,
    sdk.PartialCredentialsError: _NO_CREDENTIALS,
    sdk.ProfileNotFound: _NO_CREDENTIALS,
    sdk.RefreshWithMFAUnsupportedError: _NO_CREDENTIALS,
    sdk.SSOError: _NO_CREDENTIALS,
    sdk.TokenRetrievalError: _NO_CREDENTIALS,
    sdk.UnknownCredentialError: _NO_CREDENTIALS,
    sdk.ConnectTimeoutError: _NOT_REACHED,
    sdk.EndpointConnectionError: _NOT_REACHED,
    sdk.ProxyConnectionError: _NOT_REACHED,
    sdk.ParamValidationError: (Invalid, "was not sent, a parameter does not have the shape that the engine wants"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked of which table. ``writes`` are those of a commit; None means that repeating it harms nobody."""

    operation: str
    table: str
    writes: Sequence[Write] | None = None

    def __str__(self) -> str:
        return f"{self.operation} on the table {self.table!r}"


def translate(exc: Exception, request: Request) -> PerdureError:
    """Our error for what the client raised, to be raised from it."""
    if isinstance(exc, GaveUp):
        return _gave_up(exc, request)
    if isinstance(exc, sdk.ClientError):
        return _answered(exc, request)
    what = type(exc).__name__
    for kind, (ours, says) in _NOT_SENT.items():
        if isinstance(exc, kind):
            return ours(f"{request} {says} ({what})")
    if isinstance(exc, sdk.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(exc):
        return _NOT_REACHED[0](f"{request} {_NOT_REACHED[1]} ({what})")
    return _lost(exc, what, request)


def throttled(request: Request) -> Throttled:
    """The error for an engine that did nothing of what it was asked for and did not call it an error."""
    return Throttled(f"{request} {_THROTTLED[1]}")


def _lost(exc: Exception, what: str, request: Request) -> PerdureError:
    if request.writes is not None:
        return _unknown(request, f"the answer was lost ({what})")
    if isinstance(exc, sdk.ReadTimeoutError):
        return TimedOut(f"{request} was not answered in time; try again")
    if isinstance(exc, sdk.ConnectionError | sdk.HTTPClientError | OSError):
        return BackendDown(f"{request} was not answered, the connection was lost ({what}); try again")
    return PersistenceError(f"{request} failed in a way that has no better name ({what})")


def _gave_up(exc: GaveUp, request: Request) -> PerdureError:
    if exc.began and request.writes is not None:
        return _unknown(request, "there was no answer in time")
    waiting = "no answer" if exc.began else "no free thread"
    return TimedOut(f"{request} was given up: {waiting} within the time that the caller gave it")


def _unknown(request: Request, why: str, **detail: Any) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{request}: {why}, so it may have been committed; send the same commit again, or look whether it is there",
        **detail,
    )


def _answered(exc: sdk.ClientError, request: Request) -> PerdureError:
    response: Mapping[str, Any] = exc.response
    detail = _detail(response)
    code, status = detail["engine_code"], detail["http_status"]
    if exc.operation_name != request.operation:
        # The client asks other services for credentials, before anything is sent to this one.
        ours = Forbidden if status < _SERVER_ERROR else BackendDown
        return ours(f"{request} {_NO_CREDENTIALS[1]} ({exc.operation_name}: {code})", **detail)
    if request.writes is not None and code == "ConditionalCheckFailedException":
        return _not_as_expected(request.writes[0], response.get("Item"))
    if request.writes is not None and code == "TransactionCanceledException":
        return _cancelled(response.get("CancellationReasons") or (), request, request.writes, detail)
    if status >= _SERVER_ERROR or code in _UNDECIDED:
        if request.writes is not None:
            return _unknown(request, f"the engine failed ({code})", **detail)
        return BackendDown(f"{request} was not done, the engine failed ({code}); try again", **detail)
    return _refused(_STATUS_CODES.get(status, code), str(response.get("Error", {}).get("Message")), request, detail)


def _cancelled(
    reasons: Sequence[Mapping[str, Any]], request: Request, writes: Sequence[Write], detail: dict[str, Any]
) -> PerdureError:
    """Nothing was done. There is a reason for each write, mostly None, and what is expected comes first."""
    for write, reason in zip(writes, reasons, strict=False):
        if reason.get("Code") == _CONDITION_FAILED:
            return _not_as_expected(write, reason.get("Item"))
    codes = {str(reason.get("Code")): str(reason.get("Message")) for reason in reasons}
    code = next((known for known in _CODES if known in codes), ", ".join(sorted(codes)))
    return _refused(code, codes.get(code, ""), request, detail)


def _not_as_expected(write: Write, item: Mapping[str, Mapping[str, Any]] | None) -> PerdureError:
    return not_as_expected(write, to_document(item) if item else None)


def _refused(code: str, message: str, request: Request, detail: dict[str, Any]) -> PerdureError:
    ours, says = _CODES.get(code, (PersistenceError, "was refused for a reason that has no better name"))
    if _CODES.get(code) is _INVALID and _SIZE in message.lower():
        ours, says = _TOO_LARGE
    return ours(f"{request} {says} ({code})", **detail)


def _detail(response: Mapping[str, Any]) -> dict[str, Any]:
    metadata = response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", _BAD_REQUEST)
    detail = {"engine_code": str(response.get("Error", {}).get("Code", status)), "http_status": status}
    if request_id := metadata.get("RequestId"):
        detail["request_id"] = request_id
    wait = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
    if wait.isascii() and wait.isdigit():
        detail["retry_after_s"] = float(wait)
    return detail
