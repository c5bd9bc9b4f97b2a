"""The one place where the engine's errors become ours.

What decides is whether the work may have been done. The engine's own words are left out of messages: they quote
partitions and requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import ClientConnectorError
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.cosmos.exceptions import CosmosClientTimeoutError

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

NOT_FOUND: Final = 404
EXPECTATIONS: Final = frozenset({NOT_FOUND, 409, 412})  # of an operation in a batch: not there, there, or moved

_FAILED: Final = 400
_SERVER_FAILED: Final = 500
_GAVE_UP: Final = 408
_TOO_MUCH: Final = frozenset({429, 449})
_NO_SUB_STATUS: Final = frozenset({None, 0})
_NO_WRITES_HERE: Final = "the endpoint takes no writes now, as while a region fails over; nothing was done, try again"
_MEANING: Final[Mapping[tuple[int, int | None], tuple[type[PerdureError], str]]] = {
    # By status and sub-status; without a sub-status, what the status means otherwise.
    (400, None): (Invalid, "it refuses the request as it is; if it refuses reads too, check the consistency asked for"),
    (401, None): (Forbidden, "the key is not one of the account's; check the key, and this machine's clock"),
    (403, None): (Forbidden, "the key or this machine may not do it; check the key's rights and the firewall"),
    (403, 3): (BackendDown, _NO_WRITES_HERE),
    (403, 1008): (BackendDown, _NO_WRITES_HERE),
    (403, 1014): (LimitExceeded, "the partition is full (20 GB); remove something from it"),
    (404, None): (Invalid, "the database or the container is not there; create it, or open with its right name"),
    (404, 1002): (BackendDown, "the replica has not seen this client's last write yet; ask again"),
    (408, None): (TimedOut, "it gave up; ask again"),
    (410, None): (BackendDown, "the partition is moving; nothing was done, try again"),
    (413, None): (LimitExceeded, "the request is over 2 MB; write less at once"),
    (500, None): (PersistenceError, "it failed by itself; ask again"),
    (503, None): (BackendDown, "it is not available; ask again"),
}
_RETRY_AFTER: Final = "x-ms-retry-after-ms"


def is_absent(error: HttpResponseError) -> bool:
    """Whether an item is not there: the engine answers 404 to several other things too."""
    return error.status_code == NOT_FOUND and _sub_status(error) in _NO_SUB_STATUS


def translate(error: AzureError, *, writes: bool) -> PerdureError:
    """Our error for the engine's, to raise from it. ``writes``: the request may have changed something."""
    # Below 400 the answer was good and could not be read to its end, which is as good as lost.
    if isinstance(error, HttpResponseError) and error.status_code and error.status_code >= _FAILED:
        return _of_status(error, error.status_code, writes=writes)
    if isinstance(error, ServiceRequestTimeoutError) or isinstance(error.inner_exception, ClientConnectorError):
        return BackendDown("no connection to the account's endpoint; nothing was sent. See that it can be reached")
    # The client says "request error" for connections that broke after sending too, so nothing else is believed.
    if writes:
        return _outcome_unknown(f"the connection broke before the answer ({type(error).__name__})")
    if isinstance(error, ServiceResponseTimeoutError | CosmosClientTimeoutError):
        return late(writes=False)
    return BackendDown(f"the connection broke before the answer ({type(error).__name__}); ask again")


def late(*, writes: bool) -> PerdureError:
    """Our error for a deadline that passed while a request was under way."""
    if writes:
        return _outcome_unknown("the deadline passed before the answer")
    return TimedOut("the account did not answer in time; ask again, or allow more time")


def _of_status(error: HttpResponseError, status: int, *, writes: bool) -> PerdureError:
    sub_status = _sub_status(error)
    said = f"the account answered {status}" + (f" ({sub_status})" if sub_status else "")
    if status in _TOO_MUCH:
        return _throttled(error, said)
    if writes and (status == _GAVE_UP or status >= _SERVER_FAILED):
        return _outcome_unknown(said)
    unexpected = (PersistenceError, "which was not expected here; the cause holds its words")
    kind, advice = _MEANING.get((status, sub_status)) or _MEANING.get((status, None)) or unexpected
    return kind(f"{said}: {advice}")


def _throttled(error: HttpResponseError, said: str) -> Throttled:
    retry_after_s = _retry_after_s(error)
    if retry_after_s is None:
        return Throttled(f"{said}: too much at once; try again later, or provision more")
    return Throttled(
        f"{said}: too much at once; try again in {retry_after_s} s, or provision more", retry_after_s=retry_after_s
    )


def _outcome_unknown(what: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"{what}; the commit may have happened. Repeating it is safe")


def _sub_status(error: HttpResponseError) -> int | None:
    found: object = getattr(error, "sub_status", None)
    return found if isinstance(found, int) else None


def _retry_after_s(error: HttpResponseError) -> float | None:
    headers = getattr(error, "headers", None) or {}
    try:
        return float(headers[_RETRY_AFTER]) / 1_000
    except (KeyError, ValueError):
        return None
