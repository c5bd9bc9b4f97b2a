"""The one place where Firestore's errors become Perdure's."""

from __future__ import annotations

from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

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

_Status: Final = grpc.StatusCode

EXPECTATION_CODES: Final = frozenset({_Status.ALREADY_EXISTS, _Status.FAILED_PRECONDITION, _Status.NOT_FOUND})
"""How a commit ends when something was not as expected. Each of them has other reasons too."""

# The request was on its way and nobody says what became of it.
_LOST: Final = frozenset(
    {
        _Status.CANCELLED,
        _Status.DATA_LOSS,
        _Status.DEADLINE_EXCEEDED,
        _Status.INTERNAL,
        _Status.UNAVAILABLE,
        _Status.UNKNOWN,
    }
)
_TOO_LARGE_WORDS: Final = ("too big", "too large", "longer than", "exceeds", "maximum")
_STATUS_DETAILS: Final = "grpc-status-details-bin"


def from_read(exc: grpc.aio.AioRpcError) -> PerdureError:
    """What to do about a read that failed."""
    code = exc.code()
    match code:
        case _Status.DEADLINE_EXCEEDED:
            return TimedOut("the database did not answer in time; nothing was changed", status=code.name)
        case _Status.UNAVAILABLE:
            return BackendDown(
                "the database did not answer; is it running, and can this machine reach it?", status=code.name
            )
        case _Status.NOT_FOUND:
            return Invalid(
                "the project has no such database; look at project and database, or make it with: "
                "gcloud firestore databases create",
                code="database_missing",
                status=code.name,
            )
        case _Status.FAILED_PRECONDITION:
            return Invalid(
                "the database cannot answer this query: it must be in native mode, and the field k of the collection "
                "group d must have its automatic index",
                code="index_missing",
                status=code.name,
            )
        case _:
            return _from_any(exc)


def from_commit(exc: grpc.aio.AioRpcError) -> PerdureError:
    """What to do about a commit that failed, if it was not for what it expected."""
    code = exc.code()
    if code in _LOST:
        return OutcomeUnknown(
            "the answer to a commit was lost, so it may have been written; send the same commit again, or look",
            status=code.name,
        )
    if code in EXPECTATION_CODES:
        return from_read(exc)  # nothing was expected, so it is the database that is missing or in another mode
    return _from_any(exc)


def _from_any(exc: grpc.aio.AioRpcError) -> PerdureError:
    code = exc.code()
    match code:
        case _Status.RESOURCE_EXHAUSTED | _Status.ABORTED:
            # Aborted: others were writing the same documents. The engine asks to come back, and has done nothing.
            return Throttled(
                "the database asks for less: a quota is used up or others write the same documents; try again later",
                status=code.name,
                **_retry_after(exc),
            )
        case _Status.PERMISSION_DENIED | _Status.UNAUTHENTICATED:
            return Forbidden(
                "the database refuses these credentials; they need the role roles/datastore.user in its project",
                status=code.name,
            )
        case _Status.INVALID_ARGUMENT | _Status.OUT_OF_RANGE:
            # The details may quote what was sent, so they are looked at and not repeated.
            if any(word in (exc.details() or "").lower() for word in _TOO_LARGE_WORDS):
                return LimitExceeded("the database finds something in the request too large", status=code.name)
            return Invalid("the database does not accept the request; __cause__ says why", status=code.name)
        case _:
            return PersistenceError("the database failed; __cause__ says how", status=code.name)


def _retry_after(exc: grpc.aio.AioRpcError) -> dict[str, Any]:
    """When to come back, if the engine said so."""
    for key, value in exc.trailing_metadata() or ():
        if key == _STATUS_DETAILS:
            for detail in status_pb2.Status.FromString(value).details:
                retry: Any = error_details_pb2.RetryInfo()
                if detail.Unpack(retry):
                    return {"retry_after_s": retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9}
    return {}
