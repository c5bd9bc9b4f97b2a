"""JSON that nobody vouches for: read without trusting it, and looked at for what older releases encrypted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from perdure.domain.canonical import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedObject:
    """The fields of a JSON object, and whether some object in it names one twice."""

    fields: dict[str, JsonValue]
    has_duplicates: bool


def parse_object(data: bytes) -> ParsedObject | None:
    """The one JSON object that these bytes are; None for anything else, however deep or long it is."""
    has_duplicates = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicates
        fields = dict(pairs)
        has_duplicates = has_duplicates or len(fields) != len(pairs)
        return fields

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=collect, parse_constant=_refuse)
    except (ValueError, RecursionError):  # ValueError: not UTF-8, not JSON, NaN, or a number of thousands of digits
        return None
    return ParsedObject(fields=value, has_duplicates=has_duplicates) if isinstance(value, dict) else None


def is_legacy_encrypted(fields: dict[str, JsonValue]) -> bool:
    """Whether these are the fields of an encrypted artefact of an older release; what they hold does not matter."""
    return (
        "ciphertext" in fields
        and not fields.keys().isdisjoint({"nonce", "iv"})
        and not fields.keys().isdisjoint({"key_id", "kdf", "aad", "encryption"})
    )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
