"""The one place where the client's errors become Perdure's.

The client's own texts hold addresses, headers and what the engine answered, so none of them becomes part of a message.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from perdure.errors import (
    BackendDown,
    Forbidden,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Refused,
    Throttled,
)

_STATUS: Final = re.compile(r"status code: (\d{3})")
_ERRNO: Final = re.compile(r"\(os error (\d+)\)")
# How the client tells of a connection that was not made, in the structure that it prints below its message.
_NOT_CONNECTED: Final = re.compile(r"kind: Connect\b")
_UNANSWERED: Final = re.compile(r"kind: (?:Request|Timeout|Interrupted|Decode|Body)\b")

_THROTTLED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_FORBIDDEN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_ALLOWED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def translate(exc: BaseError | OSError, *, doing: str, writing: bool) -> PerdureError:  # noqa: PLR0911 - one line a class
    """The Perdure error that says what to do. ``writing``: something had been sent that may have been kept."""
    text = str(exc)
    status = _number(_STATUS, text)
    if isinstance(exc, (PermissionDeniedError, UnauthenticatedError, PermissionError)) or status in _FORBIDDEN:
        return _forbidden(doing)
    if isinstance(exc, FileNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return Refused(
            f"could not {doing}: the bucket, container or directory is not there; make it, or correct its name",
            code="store_missing",
        )
    if status in _THROTTLED:
        return Throttled(f"could not {doing}: the object store asks for less; try again later", status=status)
    if status is not None:
        return PersistenceError(f"could not {doing}: the object store answered {status}", status=status)
    if _NOT_CONNECTED.search(text):
        return BackendDown(f"could not {doing}: the object store does not answer; is its endpoint right?")
    if writing and _UNANSWERED.search(text):
        return OutcomeUnknown(f"could not {doing}: no answer came, so it may be done. The same again is safe")
    if _UNANSWERED.search(text):
        return BackendDown(f"could not {doing}: the object store took the request and did not answer it")
    return _from_number(exc, text, doing)


@contextmanager
def translated(*, doing: str, writing: bool = False) -> Iterator[None]:
    """Turn the client's errors that leave the block into Perdure's."""
    try:
        yield
    except (BaseError, OSError) as exc:
        if isinstance(exc, TimeoutError):
            raise
        raise translate(exc, doing=doing, writing=writing) from exc


def _from_number(exc: BaseError | OSError, text: str, doing: str) -> PerdureError:
    number = exc.errno if isinstance(exc, OSError) else _number(_ERRNO, text)
    if number in _FULL:
        return PersistenceError(
            f"could not {doing}: the disk is full; free some space on it and try again", code="disk_full", errno=number
        )
    if number in _NOT_ALLOWED:
        return _forbidden(doing)
    return PersistenceError(f"could not {doing}: the object store failed ({type(exc).__name__})", errno=number)


def _forbidden(doing: str) -> Forbidden:
    return Forbidden(f"could not {doing}: the object store does not allow it; which rights do the credentials have?")


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return None if found is None else int(found[1])
