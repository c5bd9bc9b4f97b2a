"""Requests and answers of this interface, and what each error is on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from perdure.adapters.cxdb.server.settings import Profile
from perdure.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    Refused,
    Throttled,
    TimedOut,
    Unavailable,
)

OK: Final = 200
CREATED: Final = 201
NO_CONTENT: Final = 204
NOT_MODIFIED: Final = 304
BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
NO_METHOD: Final = 405
TOO_SLOW: Final = 408
CONFLICT: Final = 409
TOO_LARGE: Final = 413
INVALID: Final = 422
NO_DESCRIPTOR: Final = 424
THROTTLED: Final = 429
BROKEN: Final = 500
UNAVAILABLE: Final = 503
NO_ANSWER_IN_TIME: Final = 504

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request whose body, if its route has one, was read. ``parts`` are the segments of its path."""

    method: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back."""

    status: int = OK
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HttpError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def json_answer(body: object, *, status: int = OK, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    """An answer of JSON, its keys in alphabetical order."""
    return Answer(status=status, body=_ENCODER.encode(body), headers=(_JSON, *headers))


def error_answer(error: HttpError) -> Answer:
    """An error as its body says it."""
    return json_answer(error_body(error), status=error.status, headers=error.headers)


def error_body(error: HttpError) -> dict[str, object]:
    """The JSON of an error."""
    return {"error": {"code": error.status, "message": error.message}}


def as_http_error(error: PerdureError, profile: Profile) -> HttpError:
    """What an error of the store is on the wire."""
    if profile is Profile.STRICT:
        return HttpError(_strict_status(error), _strict_message(error))
    headers: tuple[tuple[bytes, bytes], ...] = ()
    retry_after_s = error.detail.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        headers = ((b"retry-after", str(max(1, round(retry_after_s))).encode()),)
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return HttpError(status, error.message, headers=headers)
    return HttpError(BROKEN, error.message)


_STATUSES: Final = (
    (NotFound, NOT_FOUND),
    (Forbidden, FORBIDDEN),
    (Refused, INVALID),
    (Conflict, CONFLICT),
    (Throttled, THROTTLED),
    (TimedOut, NO_ANSWER_IN_TIME),
    (OutcomeUnknown, NO_ANSWER_IN_TIME),
    (Unavailable, UNAVAILABLE),
    (Corrupt, BROKEN),
)


def _strict_status(error: PerdureError) -> int:
    if isinstance(error, NotFound):
        return NOT_FOUND
    return INVALID if isinstance(error, Refused | Conflict) else BROKEN


def _strict_message(error: PerdureError) -> str:
    resource = error.detail.get("resource")
    if isinstance(error, NotFound) and isinstance(resource, str):
        return "blob" if resource == "object" else resource
    return error.message


def too_large(limit: str, allowed: int, profile: Profile) -> HttpError:
    """The answer to a body beyond its limit."""
    status = INVALID if profile is Profile.STRICT else TOO_LARGE
    return HttpError(status, f"the body has more than {allowed} bytes ({limit})")
