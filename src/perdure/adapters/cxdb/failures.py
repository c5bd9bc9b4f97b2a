"""What goes wrong on the way to a server and back, as Perdure's errors. Servers' texts are bounded and redacted."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Final, TypeAlias

from perdure.adapters.cxdb.codec.requests import (
    AppendTurn,
    AttachFs,
    CreateContext,
    ForkContext,
    PutBlob,
    Request,
)
from perdure.adapters.cxdb.codec.responses import Failure
from perdure.errors import (
    BackendDown,
    Conflict,
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
    Unsupported,
)

Redact: TypeAlias = Callable[[str], str]

SNIPPET_CHARS_MAX: Final = 200  # of a server's text in a message: enough to find it in the server's own log

_MEANINGS: Final[dict[int, tuple[type[PerdureError], str]]] = {
    400: (Invalid, ""),
    401: (Forbidden, "; which rights does the token give?"),
    403: (Forbidden, "; which rights does the token give?"),
    404: (NotFound, ""),
    409: (Conflict, ""),
    413: (Invalid, ""),
    422: (Invalid, ""),
    424: (Invalid, "; publish the registry bundle that has this type"),
    429: (Throttled, "; try again later"),
    501: (Unsupported, ""),
}
_NOT_REACHED: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_KEY: Final = re.compile(r"\bkey\b")  # what an append in conflict may be about, beside the head that moved
# The protocol's words for what was not found, at the beginning of its text.
_ABOUT: Final = re.compile(r"(?:base |parent |before |head |first )?turn|context|blob|fs root tree blob|no fs snapshot")
_CHANGES: Final = (CreateContext, ForkContext, AppendTurn, AttachFs, PutBlob)


class Lost(StrEnum):
    """How an answer was lost; ``detail["reason"]`` of the error that says so.

    ``CLOSED`` without one byte of an answer is how servers refuse most of what is invalid, and what a crash looks like.
    """

    CLOSED = "closed"
    CUT = "cut"
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    TIMED_OUT = "timed_out"


_SAID: Final = {
    Lost.CLOSED: "the server closed the connection instead of answering",
    Lost.CUT: "the connection ended within the answer",
    Lost.MALFORMED: "the answer is not of the protocol",
    Lost.OVERSIZE: "the answer is larger than may be held",
    Lost.TIMED_OUT: "no answer came in time",
}


def is_change(request: Request) -> bool:
    """Whether a request changes something, so that it matters if it was done."""
    return isinstance(request, _CHANGES)


def lost_answer(reason: Lost, request: Request) -> PerdureError:
    """What to raise when a request was sent and its answer lost."""
    name, said = request.message_type.name, _SAID[reason]
    if is_change(request):
        return OutcomeUnknown(f"{name}: {said}, so it may be done", reason=str(reason))
    if reason is Lost.TIMED_OUT:
        return TimedOut(f"{name}: {said}; try again with more time", reason=str(reason))
    return BackendDown(f"{name}: {said}; is this the binary port of a CXDB server?", reason=str(reason))


def was_lost(exc: PerdureError, *reasons: Lost) -> bool:
    """Whether an error says that the answer was lost in one of these ways."""
    return exc.detail.get("reason") in reasons


def refusal(failure: Failure, request: Request, *, redact: Redact) -> PerdureError:
    """What an ERROR frame means: the request was not done."""
    said = f"{request.message_type.name}: the server answered {failure.code} ({snippet(failure.detail, redact=redact)})"
    if failure.code == HTTPStatus.CONFLICT and isinstance(request, AppendTurn) and _KEY.search(failure.detail):
        return KeyReused(f"{said}; the key was used for another turn of this context", status=failure.code)
    if failure.code == HTTPStatus.GATEWAY_TIMEOUT and is_change(request):
        return OutcomeUnknown(f"{said}, so it may be done", status=failure.code)
    error = from_status(failure.code, said, sent=False)
    about = _ABOUT.match(failure.detail)
    if about is not None:
        error.detail["about"] = about[0]
    return error


def from_status(status: int, said: str, *, sent: bool) -> PerdureError:
    """The error of a status, which both protocols have; ``sent``: a gateway said so, to whom a change was sent."""
    if status in _NOT_REACHED:
        if sent:
            return OutcomeUnknown(f"{said}, so it may be done", status=status)
        return BackendDown(f"{said}; try again later", status=status)
    kind, advice = _MEANINGS.get(status, (PersistenceError, "; the server's own log says more"))
    return kind(said + advice, status=status)


def snippet(text: str, *, redact: Redact) -> str:
    """The beginning of a server's text, on one line and without what is secret."""
    shown = "".join(letter if letter.isprintable() else " " for letter in redact(text))
    return " ".join(shown.split())[:SNIPPET_CHARS_MAX] or "no text"


def missing(resource: str, identity: int | str) -> NotFound:
    """What is not there."""
    return NotFound(f"resource not found: {resource} ({identity})", resource=resource, id=str(identity))
