"""What clients are told of failures: a code, and the protocol's word for what it is about before ours."""

from __future__ import annotations

from typing import Final

from perdure.adapters.cxdb.codec.fields import MalformedMessage
from perdure.adapters.cxdb.codec.requests import (
    AppendTurn,
    AttachFs,
    CreateContext,
    ForkContext,
    GetBefore,
    Request,
)
from perdure.adapters.cxdb.codec.responses import ErrorCode, Failure
from perdure.errors import (
    Conflict,
    Forbidden,
    NoRoute,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    Refused,
    Throttled,
    Unavailable,
    Unsupported,
)

DETAIL_CHARS_MAX: Final = 1_000  # of an ERROR's text, which somebody reads
# In this order: the first class that fits.
_CODES: Final[tuple[tuple[type[PerdureError], ErrorCode], ...]] = (
    (MalformedMessage, ErrorCode.INVALID),
    (NotFound, ErrorCode.NOT_FOUND),
    (Forbidden, ErrorCode.FORBIDDEN),
    (Unsupported, ErrorCode.UNSUPPORTED),
    (NoRoute, ErrorCode.FAILED),  # nothing that the client asks can change it
    (Refused, ErrorCode.INVALID),
    (Conflict, ErrorCode.CONFLICT),
    (Throttled, ErrorCode.THROTTLED),
    (OutcomeUnknown, ErrorCode.OUTCOME_UNKNOWN),
    (Unavailable, ErrorCode.UNAVAILABLE),
)


def failure_of(exc: Exception, request: Request | None) -> Failure:
    """The failure of a request that raised; None for the request if it could not be read."""
    if not isinstance(exc, PerdureError):
        return Failure(code=ErrorCode.FAILED, detail="internal error; the log of the server says more")
    code = next((code for kind, code in _CODES if isinstance(exc, kind)), ErrorCode.FAILED)
    detail = exc.message
    if isinstance(exc, NotFound):
        detail = f"{missing(exc, request)}: {detail}"
    return Failure(code=code, detail=detail[:DETAIL_CHARS_MAX])


def missing(exc: NotFound, request: Request | None) -> str:
    """The protocol's word for what was not found."""
    resource = str(exc.detail.get("resource", "resource"))
    match request:
        case CreateContext() | ForkContext() if resource == "turn":
            return "base turn"
        case AppendTurn() if resource == "turn":
            return "parent turn"
        case GetBefore() if resource == "turn":
            return "before turn"
        case AppendTurn() | AttachFs() if resource == "object":
            return "fs root tree blob"
        case _:
            return "blob" if resource == "object" else resource
