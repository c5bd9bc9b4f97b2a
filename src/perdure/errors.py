"""Every error Perdure raises, in one tree. The class answers the caller's only question: what do I do now?

::

    PerdureError               code (stable), message, detail
    ├── Refused                fix the request
    │   ├── Invalid            a value does not have the promised shape
    │   ├── LimitExceeded      a named limit (``*_max``) would be passed
    │   ├── NotFound           nothing of this tenant has that id
    │   ├── CursorInvalid      reading cannot go on from there; begin again, or where the detail says
    │   ├── NoRoute            no backend was chosen for this kind and tenant
    │   ├── Forbidden          this actor, user, role or mode may not do it
    │   └── Unsupported        this backend, platform or version cannot do it
    ├── Conflict               reload and rebuild the change
    │   ├── StaleVersion       the row moved since it was read
    │   ├── KeyReused          the same key was recorded with other content
    │   ├── IllegalTransition  the status machine has no such edge
    │   └── LeaseLost          another worker holds the lease now
    ├── Unavailable            try again later
    │   ├── BackendDown        nothing answered
    │   ├── Throttled          the backend asked for less
    │   ├── TimedOut           not done, and known not to be done
    │   ├── OutcomeUnknown     it may have been committed; repeating the same change is safe
    │   └── PersistenceError   the backend failed in a way that has no better name
    └── Corrupt                stop and look
        ├── DigestMismatch     stored bytes are not the bytes that were written
        ├── HashDrift          a row was changed from outside
        ├── ChainBroken        a history lost or gained an entry
        └── LegacyArtifact     written by a release that this one cannot read

A message says what happened, what was expected and what to do. ``detail`` holds the same facts for machines and never
a secret or a payload.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BackendDown",
    "ChainBroken",
    "Conflict",
    "Corrupt",
    "CursorInvalid",
    "DigestMismatch",
    "Forbidden",
    "HashDrift",
    "IllegalTransition",
    "Invalid",
    "KeyReused",
    "LeaseLost",
    "LegacyArtifact",
    "LimitExceeded",
    "NoRoute",
    "NotFound",
    "OutcomeUnknown",
    "PerdureError",
    "PersistenceError",
    "Refused",
    "StaleVersion",
    "Throttled",
    "TimedOut",
    "Unavailable",
    "Unsupported",
]


class PerdureError(Exception):
    """The root of every error that Perdure raises on purpose.

    ``code`` is stable across releases and safe to branch on; ``message`` is for people and may change; ``detail`` is a
    flat mapping of JSON values.
    """

    code: ClassVar[str] = "perdure_error"

    def __init__(self, message: str, *, code: str | None = None, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        if code is not None:
            self.code = code  # type: ignore[misc]  # an instance may narrow its class's code, never widen it

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.code, self.detail))


def _rebuild(kind: type[PerdureError], message: str, code: str, detail: dict[str, object]) -> PerdureError:
    return kind(message, code=code, **detail)


class Refused(PerdureError):
    """The request cannot be done as asked; fix it before trying again."""

    code = "refused"


class Invalid(Refused):
    """A value does not have the promised shape."""

    code = "invalid"


class LimitExceeded(Refused):
    """A named limit would be passed; ``detail`` names it and gives both numbers."""

    code = "limit_exceeded"


class NotFound(Refused):
    """Nothing of this tenant has that id; another tenant's rows are not found either."""

    code = "not_found"


class CursorInvalid(Refused):
    """Reading cannot go on from this cursor.

    ``detail['reason']`` is ``unknown`` (never given for this stream and tenant, or of an earlier life of the stream) or
    ``expired`` (what followed was trimmed; ``detail['earliest_cursor']`` reads from the first event that is left).
    """

    code = "cursor_invalid"


class NoRoute(Refused):
    """No backend was chosen for this kind and tenant, and none is ever assumed."""

    code = "missing_route"


class Forbidden(Refused):
    """This actor, user, role or mode may not do it."""

    code = "forbidden"


class Unsupported(Refused):
    """This backend, platform or version cannot do it."""

    code = "unsupported"


class Conflict(PerdureError):
    """Somebody else was first; reload and rebuild the change."""

    code = "conflict"


class StaleVersion(Conflict):
    """The row moved since it was read."""

    code = "stale_version"


class KeyReused(Conflict):
    """The same key was already recorded with other content."""

    code = "key_reused"


class IllegalTransition(Conflict):
    """The status machine has no edge from where the row is to where the change wants it."""

    code = "illegal_transition"


class LeaseLost(Conflict):
    """Another worker holds the lease now; discard the work in hand."""

    code = "lease_lost"


class Unavailable(PerdureError):
    """Nothing is wrong with the request; try it again later."""

    code = "unavailable"


class BackendDown(Unavailable):
    """Nothing answered, so nothing was done."""

    code = "backend_down"


class Throttled(Unavailable):
    """The backend asked for less; ``detail['retry_after_s']`` says when, if it is known."""

    code = "throttled"


class TimedOut(Unavailable):
    """The deadline passed and the work is known not to be done."""

    code = "timed_out"


class OutcomeUnknown(Unavailable):
    """The connection was lost after the change was sent: it may be committed. Repeating the same change is safe."""

    code = "outcome_unknown"


class PersistenceError(Unavailable):
    """The backend failed in a way that has no better name; ``__cause__`` is the driver's own error."""

    code = "persistence_error"


class Corrupt(PerdureError):
    """What is stored cannot be right; stop and look."""

    code = "corrupt"


class DigestMismatch(Corrupt):
    """Stored bytes are not the bytes that were written."""

    code = "digest_mismatch"


class HashDrift(Corrupt):
    """A row was changed from outside."""

    code = "hash_drift"


class ChainBroken(Corrupt):
    """A history lost or gained an entry."""

    code = "chain_broken"


class LegacyArtifact(Corrupt):
    """Written by a release, or in a format, that this one cannot read."""

    code = "legacy_artifact"
