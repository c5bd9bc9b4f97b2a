"""Taking secrets out of what is recorded, before it is encoded or hashed: what is kept once is kept for ever."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from perdure.errors import Invalid

Redactor: TypeAlias = Callable[[str, dict[str, object]], Mapping[str, object]]
RedactionPolicy: TypeAlias = Literal["default", "off"] | Redactor

REDACTED: Final = "__redacted__"  # valid where a bare word is, so that a DOT text without its secrets can be read

# What a tool gave, beside what a model was shown of it: there for redaction, never a field of a record.
FULL_OUTPUT: Final = "full_output"
_SHORTENED: Final = ("output", "content")

_SECRET_WORDS: Final = (
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "private_key",
    "access_key",
    "credential",
    "credentials",
    "authorization",
    "cookie",
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# What stands before each is plain text, which the engine searches for at the speed of memory: texts have megabytes. It
# begins a word: task-list is no token.
_SHAPES: Final = tuple(
    (prefix, re.compile(f"{prefix}(?<![{before}]{prefix}){rest}"))
    for prefix, before, rest in (
        ("sk-", "A-Za-z0-9", r"[A-Za-z0-9_-]{16,512}"),
        ("sk_live_", "A-Za-z0-9", r"[A-Za-z0-9]{8,256}"),
        ("rk_live_", "A-Za-z0-9", r"[A-Za-z0-9]{8,256}"),
        *((f"gh{kind}_", "A-Za-z0-9", r"[A-Za-z0-9]{16,255}") for kind in "pousr"),
        ("github_pat_", "A-Za-z0-9", r"[A-Za-z0-9_]{16,255}"),
        ("glpat-", "A-Za-z0-9", r"[A-Za-z0-9_-]{16,255}"),
        ("npm_", "A-Za-z0-9", r"[A-Za-z0-9]{30,255}"),
        ("hf_", "A-Za-z0-9", r"[A-Za-z0-9]{20,255}"),
        *((f"xox{kind}-", "A-Za-z0-9", r"[A-Za-z0-9-]{10,512}") for kind in "abeprs"),
        ("AKIA", "A-Za-z0-9", r"[0-9A-Z]{16}"),
        ("ASIA", "A-Za-z0-9", r"[0-9A-Z]{16}"),
        ("AIza", "A-Za-z0-9", r"[0-9A-Za-z_-]{30,100}"),
        ("eyJ", "A-Za-z0-9_-", r"[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,16384}\.[A-Za-z0-9_-]{0,4096}"),
        (
            "-----BEGIN ",
            "-",
            r"[A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----END )[\s\S]){0,16384}(?:-----END [A-Z ]{0,40}-----)?",
        ),
    )
)
# What follows a word: quoted, quoted with backslashes (JSON in DOT in JSON), or bare. A quote that is never closed ends
# with the text.
_QUOTED: Final = (
    r'"(?P<double>(?:[^"\\]|\\[\s\S])*)|\'(?P<single>(?:[^\'\\]|\\[\s\S])*)'
    r'|\\{1,8}["\'](?P<escaped>(?:(?!\\{1,8}["\'])[\s\S])*)'
)
_NAMED: Final = {
    word: re.compile(
        rf"(?i:{word.replace('_', '[_. -]?')})\\{{0,8}}[\"']?\s{{0,8}}[:=]\s{{0,8}}(?:{_QUOTED}|(?!//)(?P<bare>{bare}))"
    )
    for word, bare in (
        *((word, r"[^\s\"'\\,;&<>(){}\[\]]+") for word in _SECRET_WORDS if word not in {"authorization", "cookie"}),
        # A header's value has blanks in it.
        *((word, r"[^\r\n\"'\\]+") for word in ("authorization", "cookie")),
    )
}
# With a digit, as tokens have: what a bearer brings in prose has none.
_BEARER: Final = re.compile(r"(?i:\bbearer)\s{1,8}(?P<bare>(?=[A-Za-z._~+/=-]{0,512}[0-9])[A-Za-z0-9._~+/=-]{8,8192})")
_IN_ADDRESS: Final = re.compile(r"://[^\s/:@\"']{0,256}:(?P<bare>[^\s/@\"']{1,256})@")

Spans: TypeAlias = "list[tuple[int, int]]"


# A word or a beginning of each pattern above, so that a text without any of them needs no closer look.
_HINTS: Final = tuple(
    {
        *(word.rpartition("_")[2] for word in (*_SECRET_WORDS, "bearer")),
        *(prefix.casefold() for prefix, _ in _SHAPES),
        "://",
    }
)


def may_hold_secret(text: str) -> bool:
    """Whether a text, or JSON as text, may hold what ``DefaultRedaction`` takes out: False only if it cannot."""
    folded = text.casefold()
    for hint in _HINTS:  # noqa: SIM110 - any() takes three times as long, and this is asked of every entry
        if hint in folded:
            return True
    return False


def secret_spans(text: str) -> Spans:
    """Where secrets stand in a text, in order and without overlaps."""
    lowered = text.lower()
    found = [match.span() for prefix, shape in _SHAPES if prefix in text for match in shape.finditer(text)]
    named = [pattern for word, pattern in _NAMED.items() if all(part in lowered for part in word.split("_"))]
    if "bearer" in lowered:
        named.append(_BEARER)
    if "://" in text:
        named.append(_IN_ADDRESS)
    for pattern in named:
        for match in pattern.finditer(text):
            name = match.lastgroup
            if name is not None and match.group(name) not in {"", REDACTED}:
                found.append(match.span(name))
    merged: Spans = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def names_secret(key: str) -> bool:
    """Whether a key of a mapping says that a secret stands beside it: ``access_token``, ``X-Api-Key``, ``apiKey``."""
    words = re.sub(r"[-. ]", "_", _CAMEL.sub("_", key)).casefold()
    return any(words == secret or words.endswith(f"_{secret}") for secret in _SECRET_WORDS)


class DefaultRedaction:
    """Takes out what stands beside a key that names a secret, and what is shaped as a token, anywhere in a value."""

    def __init__(self) -> None:
        self.count = 0

    def redact(self, payload: Mapping[str, object]) -> dict[str, object]:
        """The payload without secrets; ``count`` grows by what was taken out."""
        return {key: self._value(value) for key, value in self._uncut(payload).items()}

    def text(self, text: str) -> str:
        """A text without secrets."""
        return self._cut_out(text, secret_spans(text))

    def _cut_out(self, text: str, spans: Spans) -> str:
        if not spans:
            return text
        self.count += len(spans)
        kept: list[str] = []
        end = 0
        for start, following in spans:
            kept += [text[end:start], REDACTED]
            end = following
        return "".join([*kept, text[end:]])

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self._bytes(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def _bytes(self, value: bytes) -> bytes:
        # Each byte is a character, so that what is no UTF-8 is searched too and comes back as it was.
        return self.text(value.decode("latin-1")).encode("latin-1")

    def _mapping(self, value: Mapping[object, object]) -> dict[object, object]:
        cleaned: dict[object, object] = {}
        for key, item in self._uncut(value).items():
            is_secret = isinstance(key, str) and names_secret(key) and not _is_reference(item)
            name = self.text(key) if isinstance(key, str) else key
            while name != key and name in cleaned:
                name = f"{name}_"  # two secrets as keys are still two entries
            if is_secret and item not in (None, "", REDACTED):
                self.count += 1
                cleaned[name] = REDACTED
            else:
                cleaned[name] = self._value(item)
        return cleaned

    def _uncut(self, value: Mapping[Any, object]) -> Mapping[Any, object]:
        """A mapping whose shortened text has no pieces of secrets at its cut; the full text stands beside it."""
        full = value.get(FULL_OUTPUT)
        if not isinstance(full, str):
            return value
        return {
            key: self._without_cut_secrets(item, full) if key in _SHORTENED and isinstance(item, str) else item
            for key, item in value.items()
        }

    def _without_cut_secrets(self, shown: str, full: str) -> str:
        """What was shown, without the pieces of secrets that its shortening left at the cut."""
        head, tail = _common_start(shown, full), _common_start(shown[::-1], full[::-1])
        spans: Spans = []
        for start, end in secret_spans(full):
            if start < head < end:
                spans.append((start, head))
            begins = len(full) - tail
            if start < begins < end and len(shown) - tail >= head:
                spans.append((len(shown) - tail, len(shown) - tail + end - begins))
        return self._cut_out(shown, spans)


def _common_start(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _is_reference(value: object) -> bool:
    # {"secret_ref": ..., "prefix": "Bearer "}: where the secret is, and what stands before it.
    return isinstance(value, Mapping) and "secret_ref" in value and value.keys() <= {"secret_ref", "prefix"}


class Redaction:
    """One policy: nothing is taken out, the default patterns are, or what a callable decides."""

    def __init__(self, policy: RedactionPolicy) -> None:
        if not callable(policy) and policy not in ("default", "off"):
            raise Invalid(f"a redaction is {ascii(policy)[:40]}; expected default, off or a callable")
        self._policy = policy

    def apply(self, record_type: str, payload: Mapping[str, object]) -> tuple[dict[str, object], int | None]:
        """The payload without secrets, and how many passages were taken out; None if nobody looked.

        What the caller holds stays as it is. Raises whatever a callable raises, and ``Invalid`` for a result that is no
        mapping with text for keys.
        """
        if self._policy == "off":
            return dict(payload), None
        if self._policy == "default":
            default = DefaultRedaction()
            return default.redact(payload), default.count
        assert callable(self._policy)
        before = {key: _copy(value) for key, value in payload.items()}
        after: object = self._policy(record_type, before)
        if not isinstance(after, Mapping) or not all(isinstance(key, str) for key in after):
            raise Invalid(f"a redactor gave {type(after).__name__}; expected a mapping with text for keys")
        return dict(after), _changes(dict(payload), dict(after))

    def message(self, text: str) -> str:
        """A message for people without secrets; if the redactor fails, nothing of it."""
        try:
            after, _ = self.apply("message", {"message": text})
            return str(after["message"])
        except Exception as exc:  # noqa: BLE001 - whatever a callable raises, the text must not get out
            return f"(withheld: the redactor failed with {type(exc).__name__})"


def _copy(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def _changes(before: object, after: object) -> int:
    """How many values differ, each where it stands."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        missing = object()
        return sum(_changes(before.get(key, missing), after.get(key, missing)) for key in {**before, **after})
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        shared = sum(_changes(one, other) for one, other in zip(before, after, strict=False))
        return shared + abs(len(before) - len(after))
    return int(before is not after and before != after)
