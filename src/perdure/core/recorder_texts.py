"""Texts of records that may be large: in the record, or beside it as an object.

Size and capability decide, and nothing else, so that two runs with equal texts have equal records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from perdure.core.recorder_limits import RecorderLimits, SourceHashes
from perdure.core.recorder_redaction import FULL_OUTPUT
from perdure.domain.canonical import canonical_json
from perdure.domain.turn import content_hash
from perdure.errors import Invalid, LimitExceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """What decides about texts: the limits, and whether the backend keeps objects."""

    limits: RecorderLimits
    keeps_blobs: bool
    source_hashes: SourceHashes

    def to_blob(self, raw: bytes) -> bool:
        """Whether a text is kept as an object."""
        return self.keeps_blobs and len(raw) > self.limits.inline_text_bytes_max

    def checked(self, raw: bytes, *, what: str) -> bytes:
        """The bytes of a text. Raises ``LimitExceeded`` above ``text_bytes_max``."""
        allowed = self.limits.text_bytes_max
        if len(raw) > allowed:
            raise LimitExceeded(
                f"{what} has {len(raw)} bytes, at most {allowed} (text_bytes_max); no backend carries it in one piece",
                limit="text_bytes_max",
                allowed=allowed,
                actual=len(raw),
            )
        return raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """The fields of a record, and the bytes that are kept beside it before it is."""

    values: Mapping[str, object]
    blob: bytes | None = None


Shape: TypeAlias = Callable[[Mapping[str, object], Mapping[str, object], TextRules], Shaped]


def kept_text(name: str, *, is_json: bool = False) -> Shape:
    """How a record is made that holds one whole text, DOT or a graph as canonical JSON, under ``name``."""

    def rendered(value: object, rules: TextRules) -> bytes:
        if is_json:
            return rules.checked(canonical_json(value), what=name)
        return rules.checked(_text(value, what=name), what=name)

    def shape(source: Mapping[str, object], redacted: Mapping[str, object], rules: TextRules) -> Shaped:
        raw = rendered(_needed(redacted, name), rules)
        values = {key: value for key, value in redacted.items() if key != name}
        digest = content_hash(raw)
        values |= {"content_hash": digest, "size_bytes": len(raw)}
        if rules.source_hashes == "plain":
            values["source_hash"] = content_hash(rendered(source[name], rules))
        if rules.to_blob(raw):
            return Shaped(values=values | {"artifact_blob_hash": digest}, blob=raw)
        return Shaped(values=values | {name: raw.decode()})

    return shape


def tool_output(source: Mapping[str, object], redacted: Mapping[str, object], rules: TextRules) -> Shaped:
    """How the end of a tool call is recorded.

    ``output`` is what the model was shown. Where that was shortened, all of it is an object. An output that was shown
    whole and is large is an object too, and the record has its beginning.
    """
    del source
    values = dict(redacted)
    full = values.pop(FULL_OUTPUT, None)
    shown = _text(_needed(values, "output"), what="output")
    raw = rules.checked(shown if full is None else _text(full, what=FULL_OUTPUT), what=FULL_OUTPUT)
    values |= {"output_full_bytes": len(raw), "output_full_hash": content_hash(raw), "truncated": full is not None}
    if not rules.keeps_blobs or (full is None and not rules.to_blob(raw)):
        return Shaped(values=values)
    if full is None:
        values["output"] = raw[: rules.limits.inline_text_bytes_max].decode(errors="ignore")
    return Shaped(values=values, blob=raw)


def tool_results(source: Mapping[str, object], redacted: Mapping[str, object], rules: TextRules) -> Shaped:
    """How the results of tools are recorded: as the model got them, without what they were shortened from."""
    del source, rules
    values = dict(redacted)
    results = _needed(values, "results")
    if isinstance(results, list | tuple):
        values["results"] = [
            {key: item for key, item in result.items() if key != FULL_OUTPUT} if isinstance(result, Mapping) else result
            for result in results
        ]
    return Shaped(values=values)


def _needed(redacted: Mapping[str, object], name: str) -> object:
    if name not in redacted:
        raise Invalid(f"the redactor took {name} out, without which there is no record; it may change it", field=name)
    return redacted[name]


def _text(value: object, *, what: str) -> bytes:
    if not isinstance(value, str):
        raise Invalid(f"{what} must be text, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        raise Invalid(f"{what} holds half a character (a lone surrogate) at {exc.start}") from exc
