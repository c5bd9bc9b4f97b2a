"""Names that people give and names derived from them: tenants, actors, sources, keys.

Every check returns the value it was given or raises ``Invalid`` (wrong shape) or ``LimitExceeded`` (a named limit), so
that a value which went through a check needs no other.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final, Literal, get_args
from urllib.parse import quote
from uuid import UUID, uuid5

from perdure.domain import limits
from perdure.errors import Invalid, LimitExceeded

# Published: a tenant's UUID can be computed anywhere, by anyone. Recorded by the first migration and never changed.
PERDURE_NAMESPACE: Final = UUID("6f0c3c1e-5d0b-5c6e-9a51-0d7a3f2b8e44")

Mode = Literal["lab", "saas", "enterprise"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

_TENANT = re.compile(r"t_[a-z0-9_-]{1,62}")
_ENV = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ACTOR = re.compile(r"(agent|user|system|external):[A-Za-z0-9._@:/-]+")
_SOURCE = re.compile(r"(esi|api|webhook|scheduler|manual):[A-Za-z0-9._@:/-]+")
_EFFECT_TYPE = re.compile(r"[A-Z][A-Z0-9_]{1,49}")
_ACTION = re.compile(r"[A-Z][A-Z0-9_]{1,99}")
_OCCURRENCE = re.compile(r".*#[0-9]+", re.DOTALL)

# Control characters, lone surrogates and line separators: none survives a log line, a header or PostgreSQL unharmed.
_CATEGORIES_REFUSED: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_PRINTABLE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_HASH_CHARS: Final = 32  # 128 bits: enough that two keys of one tenant never meet


def tenant_uuid(slug: str) -> UUID:
    """The ledger's id of a tenant: uuid5 of its slug in ``PERDURE_NAMESPACE``. Raises ``Invalid``."""
    return uuid5(PERDURE_NAMESPACE, check_tenant(slug))


def check_tenant(value: str) -> str:
    """A tenant's slug: ``t_`` and 1 to 62 of ``a-z 0-9 _ -``."""
    return _match(value, _TENANT, "a tenant", "t_ and 1 to 62 of a-z, 0-9, _ and -, as in t_acme")


def check_env(value: str) -> str:
    """An environment: a lower-case letter and up to 62 of ``a-z 0-9 _ -``."""
    return _match(value, _ENV, "an environment", "a lower-case letter and up to 62 of a-z, 0-9, _ and -, as in prod")


def check_mode(value: str) -> Mode:
    """A mode: exactly ``lab``, ``saas`` or ``enterprise``."""
    if value not in MODES:
        raise Invalid(f"{_show(value)} is not a mode; one of: {', '.join(MODES)}", value=_show(value))
    return value


def check_actor(value: str) -> str:
    """Who does it: ``agent:``, ``user:``, ``system:`` or ``external:`` and a name, at most ``ACTOR_CHARS_MAX``."""
    _check_length(value, "an actor", limit="actor_chars_max", chars_max=limits.ACTOR_CHARS_MAX)
    return _match(value, _ACTOR, "an actor", "agent:, user:, system: or external: and a name, as in agent:planner")


def check_source(value: str) -> str:
    """Where it came from: ``esi:``, ``api:``, ``webhook:``, ``scheduler:`` or ``manual:`` and a name."""
    _check_length(value, "a source", limit="source_chars_max", chars_max=limits.SOURCE_CHARS_MAX)
    return _match(value, _SOURCE, "a source", "esi:, api:, webhook:, scheduler: or manual: and a name, as in api:erp")


def check_effect_type(value: str) -> str:
    """The type of an effect: an upper-case letter and 1 to 49 of ``A-Z 0-9 _``. The set is open."""
    return _match(value, _EFFECT_TYPE, "an effect type", "2 to 50 of A-Z, 0-9 and _, a letter first, as in SEND_EMAIL")


def check_action(value: str) -> str:
    """The action of an audit entry: an upper-case letter and 1 to 99 of ``A-Z 0-9 _``."""
    return _match(value, _ACTION, "an action", "2 to 100 of A-Z, 0-9 and _, a letter first, as in OUTBOX_REQUEUED")


def check_resource_type(value: str) -> str:
    """What an audit entry is about (``STEP``, ``invoice``): one line of at most ``RESOURCE_TYPE_CHARS_MAX``."""
    return check_text(
        value, what="a resource type", limit="resource_type_chars_max", chars_max=limits.RESOURCE_TYPE_CHARS_MAX
    )


def check_name(value: str) -> str:
    """What a person calls a run or a step: one line, not blank, at most ``NAME_CHARS_MAX``."""
    return check_text(value, what="a name", limit="name_chars_max", chars_max=limits.NAME_CHARS_MAX)


def check_key(value: str) -> str:
    """A key of a step, a tool call or an effect: one line, not blank, at most ``KEY_CHARS_MAX``."""
    return check_text(value, what="a key", limit="key_chars_max", chars_max=limits.KEY_CHARS_MAX)


def check_channel(value: str) -> str:
    """The integration a signal came through, at most ``CHANNEL_CHARS_MAX``."""
    return check_text(value, what="a channel", limit="channel_chars_max", chars_max=limits.CHANNEL_CHARS_MAX)


def check_source_id(value: str) -> str:
    """The sender's own id of a signal: one line of at most ``SOURCE_ID_CHARS_MAX``, kept exactly as it was sent."""
    return check_text(
        value,
        what="a source id",
        limit="source_id_chars_max",
        chars_max=limits.SOURCE_ID_CHARS_MAX,
        blank_edges_allowed=True,
    )


def check_entity(entity_type: str, *, entity_id: str) -> tuple[str, str]:
    """A reference to a domain entity: its type and its id in the system that owns it."""
    return (
        check_text(
            entity_type, what="an entity type", limit="entity_type_chars_max", chars_max=limits.ENTITY_TYPE_CHARS_MAX
        ),
        check_text(
            entity_id,
            what="an entity id",
            limit="entity_id_chars_max",
            chars_max=limits.ENTITY_ID_CHARS_MAX,
            blank_edges_allowed=True,
        ),
    )


def check_text(value: str, *, what: str, limit: str, chars_max: int, blank_edges_allowed: bool = False) -> str:
    """One line of text, not empty, of at most ``chars_max`` characters.

    ``what`` names it in messages with its article, ``limit`` is the name of the limit. Raises ``Invalid`` for text that
    is blank, begins or ends with a blank (unless those belong to somebody else's id) or holds a control character, a
    lone surrogate or a line separator; ``LimitExceeded`` for text that is too long.
    """
    _check_length(value, what, limit=limit, chars_max=chars_max)
    if not value or (not blank_edges_allowed and value != value.strip()):
        raise Invalid(f"{_show(value)} is not {what}: it must not be empty, nor begin or end with a blank")
    for position, character in enumerate(value):
        if unicodedata.category(character) in _CATEGORIES_REFUSED:
            raise Invalid(
                f"{_show(value)} is not {what}: character {position} (U+{ord(character):04X}) is not text of one line",
                position=position,
            )
    return value


def effect_idempotency_key(run_id: UUID, *, step_key: str, effect_key: str) -> str:
    """The key under which an effect is known everywhere: the same after every restart, printable ASCII, bounded.

    ``run_id/step_key/effect_key``, with ``%``, other alphabets and the slashes of ``step_key`` percent-encoded, so that
    no two pairs of keys give the same text and the result can travel in a header. What would pass
    ``IDEMPOTENCY_KEY_CHARS_MAX`` ends in ``~`` and a hash of the whole instead.
    """
    step_part = quote(check_key(step_key), safe=_PRINTABLE.replace("/", ""))
    return _shorten(
        f"{run_id}/{step_part}/{quote(check_key(effect_key), safe=_PRINTABLE)}",
        chars_max=limits.IDEMPOTENCY_KEY_CHARS_MAX,
    )


def default_key(name: str, *, occurrence: int) -> str:
    """The key of a step, call or effect that was given none: its name, and ``#n`` from its second occurrence on.

    ``occurrence`` counts from 1. A name that itself ends like an occurrence (``a#2``) always gets its number, so that
    no two (name, occurrence) give the same key. Longer than ``KEY_CHARS_MAX``, it ends in ``~`` and a hash instead.
    """
    if occurrence < 1:
        raise Invalid(f"occurrence {occurrence} of {_show(name)}: occurrences count from 1")
    check_name(name)
    numbered = occurrence > 1 or _OCCURRENCE.fullmatch(name) is not None
    return _shorten(f"{name}#{occurrence}" if numbered else name, chars_max=limits.KEY_CHARS_MAX)


def _shorten(text: str, *, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
    # A cut may leave a blank before the mark, which is fine: only the edges of a key must not be blank.
    return f"{text[: chars_max - len(digest) - 1]}~{digest}"


def _match(value: object, pattern: re.Pattern[str], what: str, expected: str) -> str:
    # fullmatch: with match and "$" a trailing newline would pass.
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise Invalid(f"{_show(value)} is not {what}; expected {expected}", value=_show(value))
    return value


def _check_length(value: object, what: str, *, limit: str, chars_max: int) -> None:
    if not isinstance(value, str):
        raise Invalid(f"{what} is text, not {type(value).__name__}")
    if len(value) > chars_max:
        raise LimitExceeded(
            f"{_show(value)} is too long for {what}: {len(value)} characters, at most {chars_max} ({limit})",
            limit=limit,
            allowed=chars_max,
            actual=len(value),
        )


def _show(value: object) -> str:
    # Bounded, and escaped by repr: a hostile value must not break the log line that quotes it.
    shown = ascii(value)
    return shown if len(shown) <= 80 else f"{shown[:76]}...'"  # noqa: PLR2004 - a line of a message
