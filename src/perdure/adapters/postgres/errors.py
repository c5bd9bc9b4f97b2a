"""The one place where PostgreSQL's errors become Perdure's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from perdure.errors import (
    BackendDown,
    Conflict,
    Corrupt,
    Forbidden,
    IllegalTransition,
    Invalid,
    KeyReused,
    LeaseLost,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Refused,
    Throttled,
    TimedOut,
)

# Raised by our own functions and triggers; the SQL files say where.
_OWN: Final[dict[str, type[PerdureError]]] = {
    "PD001": Forbidden,
    "PD002": Corrupt,
    "PD003": IllegalTransition,
    "PD004": Forbidden,
    "PD010": NotFound,
    "PD012": IllegalTransition,
    "PD013": LeaseLost,
    "PD014": IllegalTransition,
    "PD016": Forbidden,
    "PD017": Refused,
    "PD019": Forbidden,
    "PD020": IllegalTransition,
}
_OWN_CODES: Final = {
    "PD001": "append_only",
    "PD002": "silent_mutation",
    "PD004": "immutable",
    "PD014": "completion_requested",
    "PD016": "not_a_member",
    "PD017": "unknown_tenant",
    "PD019": "requeue_by_hand",
    "PD020": "run_not_done",
}
_UNKNOWN_TENANT_ADVICE: Final = "; add it with: perdure tenants add SLUG"

# What is over when the server says so: the transaction was rolled back and may be tried again as it is.
RETRYABLE: Final = frozenset({"40001", "40P01"})
_SCHEMA_MISSING: Final = frozenset({"3F000", "42P01", "42883", "3D000"})


def translate(exc: psycopg.Error, *, writing: bool) -> PerdureError:
    """The Perdure error that says what to do about a driver's error. ``writing``: a change had been sent."""
    sqlstate = exc.sqlstate
    if sqlstate is None or sqlstate[:2] in {"08", "57"}:
        return _connection_error(exc, sqlstate, writing=writing)
    message = exc.diag.message_primary or sqlstate
    return from_sqlstate(sqlstate, message, hint=exc.diag.message_hint, constraint=exc.diag.constraint_name)


def from_sqlstate(sqlstate: str, message: str, *, hint: str | None, constraint: str | None) -> PerdureError:  # noqa: PLR0911 - one line a class
    """The Perdure error for an SQLSTATE, from a driver's error or from the result of one change among many."""
    advice = f". {hint}" if hint else ""
    own = _OWN.get(sqlstate)
    if own is not None:
        advice = _UNKNOWN_TENANT_ADVICE if sqlstate == "PD017" else advice
        return own(message + advice, code=_OWN_CODES.get(sqlstate), sqlstate=sqlstate)
    if sqlstate == "23505":
        return KeyReused(
            f"{constraint} holds already: a key or id of this change was recorded with other content",
            constraint=constraint,
            sqlstate=sqlstate,
        )
    if sqlstate in RETRYABLE:
        return Conflict("the database ended this transaction in favour of another; try again", sqlstate=sqlstate)
    if sqlstate in {"57014", "55P03"}:
        return TimedOut("a database limit of time passed and the transaction was rolled back", sqlstate=sqlstate)
    if sqlstate == "42501":
        return Forbidden(f"{message}: this database role may not do it; which role is in the DSN?", sqlstate=sqlstate)
    if sqlstate in _SCHEMA_MISSING:
        return Refused(f"{message}: the schema is not there; create it with: perdure migrate", sqlstate=sqlstate)
    if sqlstate.startswith("53"):
        return Throttled(f"the database is out of something: {message}", sqlstate=sqlstate)
    if sqlstate.startswith(("22", "23")):
        return Invalid(f"the database refused a value: {message}", sqlstate=sqlstate, constraint=constraint)
    return PersistenceError(f"the database failed: {message}", sqlstate=sqlstate)


def _connection_error(exc: psycopg.Error, sqlstate: str | None, *, writing: bool) -> PerdureError:
    if sqlstate == "57014":
        return from_sqlstate(sqlstate, "", hint=None, constraint=None)
    # The text of a connection error may hold host names, never a password; libpq keeps those out.
    reason = (str(exc).splitlines() or ["the connection is gone"])[0]
    if writing:
        return OutcomeUnknown(
            f"the connection was lost after the change was sent ({reason}); it may be committed. "
            "Repeating the same change is safe",
            sqlstate=sqlstate,
        )
    return BackendDown(f"PostgreSQL does not answer ({reason})", sqlstate=sqlstate)


@contextmanager
def translated(*, writing: bool) -> Iterator[None]:
    """Turn driver errors that leave the block into Perdure's."""
    try:
        yield
    except PoolTimeout as exc:
        raise BackendDown(
            "no database connection came free in time: PostgreSQL does not answer, or all connections are busy "
            "(connections_max)"
        ) from exc
    except TooManyRequests as exc:
        raise Throttled("too many requests wait for a database connection (waiting_max)") from exc
    except psycopg.Error as exc:
        raise translate(exc, writing=writing) from exc
