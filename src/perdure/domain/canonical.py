"""JSON values: what may be kept, and the one form in which values are compared and hashed (RFC 8785).

Values with more types than JSON has are in ``typed_values``, the hashes of work units in ``work_hash``.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Final, TypeAlias

import msgspec
import rfc8785

from perdure.domain import limits
from perdure.errors import Corrupt, Invalid, LimitExceeded

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

_ENCODER: Final = msgspec.json.Encoder()
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SECRET_WORDS: Final = ("password", "secret", "token", "api_key", "apikey", "authorization", "cookie")
_EXACT_INTEGER_END: Final = 10**limits.EXACT_DIGITS_MAX
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def canonical_json(value: object) -> bytes:
    """The canonical bytes of a JSON value (RFC 8785): equal values give equal bytes on every machine.

    Raises ``Invalid`` naming the place of what JSON or PostgreSQL cannot keep: see ``check_json``.
    """
    return rfc8785.dumps(snapshot(value, what="the value"))


def body_digest(signal_type: str, *, payload: object) -> str:
    """SHA-256, in hex, of a signal's type and body in canonical form. Two signals of one source id must agree on it."""
    body = {"payload": payload, "signal_type": str(signal_type)}
    return hashlib.sha256(canonical_json(body)).hexdigest()


def content_digest(value: object) -> str:
    """SHA-256, in hex, of a JSON value in canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def json_bytes(value: object) -> bytes:
    """Compact JSON of a value that ``check_json`` returned, or of our own ids and times; it checks nothing again."""
    return _ENCODER.encode(value)


def check_json(value: object, *, what: str, bytes_max: int, limit: str = "payload_bytes_max") -> JsonValue:
    """A plain copy of a JSON value, so that whoever still holds the original cannot change what is kept.

    ``what`` names the value in messages (``the output of step 'classify'``), ``limit`` the limit that ``bytes_max`` is.
    Tuples become lists. Raises ``Invalid``, naming the place, for a number that is not finite or beyond
    ``INTEGER_MAX`` either way, a key that is not text, text with U+0000 or a lone surrogate (jsonb cannot keep either)
    and any type that JSON does not have; ``LimitExceeded`` for more than ``bytes_max`` bytes or ``JSON_DEPTH_MAX``
    levels.
    """
    copy = snapshot(value, what=what)
    refuse_large(len(_ENCODER.encode(copy)), what=what, bytes_max=bytes_max, limit=limit)
    return copy


def check_json_object(value: object, *, what: str, bytes_max: int, limit: str = "payload_bytes_max") -> JsonObject:
    """As ``check_json``, for values that must be JSON objects."""
    copy = check_json(value, what=what, bytes_max=bytes_max, limit=limit)
    if not isinstance(copy, dict):
        raise Invalid(f"{what} must be a JSON object, not {type(value).__name__}")
    return copy


def exact_json(value: object, *, what: str, bytes_max: int, limit: str) -> bytes:
    """Compact JSON of a value that is kept as text and so comes back exactly: integers of any size, floats, U+0000.

    Raises ``Invalid`` for a number that is not finite or has more than ``EXACT_DIGITS_MAX`` digits, a key that is not
    text, a lone surrogate and any type that JSON does not have; ``LimitExceeded`` as ``check_json``.
    """
    body = _ENCODER.encode(_copy(value, _Place(what, exact=True)))
    refuse_large(len(body), what=what, bytes_max=bytes_max, limit=limit)
    return body


def exact_value(body: bytes) -> JsonValue:
    """The value of a text that ``exact_json`` made. Raises ``Corrupt`` for what is no JSON."""
    try:
        value: JsonValue = msgspec.json.decode(body)
    except msgspec.MsgspecError as exc:
        raise Corrupt("a stored value is not JSON; it was changed from outside") from exc
    return value


def refuse_large(size: int, *, what: str, bytes_max: int, limit: str) -> None:
    """Raise ``LimitExceeded`` if ``size`` bytes are more than ``bytes_max``, which ``limit`` names."""
    if size > bytes_max:
        raise LimitExceeded(
            f"{what} is too large: {size} bytes of JSON, at most {bytes_max} ({limit}); "
            "keep it elsewhere and record a reference",
            limit=limit,
            allowed=bytes_max,
            actual=size,
        )


def snapshot(value: object, *, what: str) -> JsonValue:
    """The copy that ``check_json`` makes, whatever its size."""
    return _copy(value, _Place(what))


def refuse_secret_keys(value: JsonValue, *, what: str) -> None:
    """Raise ``Invalid`` if some key anywhere in ``value`` says that a secret stands beside it.

    Refused, in any case and with any separators: ``password``, ``secret``, ``token``, ``api_key``, ``authorization``
    and ``cookie``, alone or at the end of a name (``access_token``, ``X-Api-Key``). A secret is meant by reference:
    ``{"Authorization": {"secret_ref": "secret://env/NAME", "prefix": "Bearer "}}``.
    """
    _refuse_secrets(value, _Place(what))


class _Place:
    """Where a value stands, as a chain to the top: read only when something is wrong there, so it must cost little."""

    __slots__ = ("depth", "exact", "key", "parent", "what")

    def __init__(self, what: str, key: object = None, parent: _Place | None = None, *, exact: bool = False) -> None:
        self.what = what
        self.exact = exact
        self.key = key
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1

    def below(self, key: object) -> _Place:
        return _Place(self.what, key, self, exact=self.exact)

    def __str__(self) -> str:
        if self.parent is None:
            return "$"
        return f"{self.parent}[{self.key}]" if isinstance(self.key, int) else f"{self.parent}.{ascii(self.key)[1:-1]}"

    def holds(self, found: str) -> Invalid:
        return Invalid(f"{self.what} cannot be kept: at {self} it holds {found}", path=str(self))


def _copy(value: object, place: _Place) -> JsonValue:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _copy_text(value, place)
    if isinstance(value, int | float):
        return _copy_number(value, place)
    if place.depth >= limits.JSON_DEPTH_MAX:
        raise LimitExceeded(
            f"{place.what} is nested deeper than {limits.JSON_DEPTH_MAX} levels (json_depth_max), or contains itself",
            limit="json_depth_max",
            allowed=limits.JSON_DEPTH_MAX,
            actual=place.depth + 1,
        )
    if isinstance(value, dict):
        return {_copy_key(key, place): _copy(item, place.below(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item, place.below(index)) for index, item in enumerate(value)]
    raise place.holds(f"{type(value).__name__}, which JSON does not have; convert it, for instance to text")


def _copy_number(value: float, place: _Place) -> int | float:
    if not math.isfinite(value):
        raise place.holds(f"{float(value)}, which JSON does not have; send null or text")
    if place.exact:
        if isinstance(value, int) and abs(value) >= _EXACT_INTEGER_END:
            raise place.holds(f"an integer of more than {limits.EXACT_DIGITS_MAX} digits (exact_digits_max)")
        return int(value) if isinstance(value, int) else float(value)
    # Floats too: jsonb writes 1e30 out in full, so that it would come back as an integer and be refused then.
    if abs(value) > limits.INTEGER_MAX:
        raise place.holds("a number beyond 2^53-1, which JSON readers would change; send it as text")
    return int(value) if isinstance(value, int) else float(value)


def _copy_key(key: object, place: _Place) -> str:
    if not isinstance(key, str):
        raise place.holds(f"a key of type {type(key).__name__}; keys of JSON objects are text")
    return _copy_text(key, place)


def _copy_text(value: str, place: _Place) -> str:
    # str.__str__ gives the plain text of an enumeration's member too; str() may give its Python name.
    text = str.__str__(value)
    if "\x00" in text and not place.exact:
        raise place.holds("text with U+0000, which PostgreSQL cannot keep; remove it")
    if not text.isascii() and _SURROGATE.search(text) is not None:
        raise place.holds("text with a lone surrogate, which is not Unicode; decode it properly first")
    return text


def _refuse_secrets(value: JsonValue, place: _Place) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if _names_secret(key) and not _is_reference(item):
                raise Invalid(
                    f"{place.what} carries a secret at {place.below(key)}: what is recorded is read by people; "
                    "keep the secret outside and record secret_ref, as in secret://env/NAME",
                    path=str(place.below(key)),
                )
            _refuse_secrets(item, place.below(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_secrets(item, place.below(index))


def _is_reference(value: JsonValue) -> bool:
    # {"secret_ref": ..., "prefix": "Bearer "}: where the secret is, and what stands before it.
    return isinstance(value, dict) and "secret_ref" in value and value.keys() <= {"secret_ref", "prefix"}


def _names_secret(key: str) -> bool:
    words = re.sub(r"[-. ]", "_", _CAMEL.sub("_", key)).casefold()
    return any(words == secret or words.endswith(f"_{secret}") for secret in _SECRET_WORDS)
