"""A small vocabulary for the contracts of payloads: which fields, of which shape. More fields are always welcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit


class Shape(Enum):
    """What a field may hold, as it reads in a message."""

    ANY = "a value"
    TEXT = "text"
    TEXT_FILLED = "text that is not empty"
    TEXTS = "a list of texts"
    RECIPIENTS = "an address or a list of at least one address"
    FLAG = "true or false"
    OBJECT = "an object"
    OBJECTS = "a list of objects"
    URL = "an http or https address without a password in it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a contract. An optional field may be missing or null."""

    name: str
    shape: Shape
    required: bool = False


def problems_of(fields: tuple[Field, ...], *, value: object) -> list[str]:
    """What is wrong with ``value``, one sentence a field; empty when it fits. Never quotes what the fields hold."""
    if not isinstance(value, Mapping):
        return [f"expected an object, found {type(value).__name__}"]
    problems: list[str] = []
    for field in fields:
        found = value.get(field.name)
        if found is None and not (field.required and field.shape is Shape.ANY and field.name in value):
            if field.required:
                problems.append(f"{field.name} is missing; expected {field.shape.value}")
        elif not _FITS[field.shape](found):
            problems.append(f"{field.name} must be {field.shape.value}")
    return problems


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_recipients(value: object) -> bool:
    items = [value] if isinstance(value, str) else value
    return isinstance(items, list | tuple) and bool(items) and all(isinstance(item, str) and item for item in items)


def _is_objects(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value)


def _is_url(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:  # a malformed bracketed host; any other text parses to something
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.password is None


_FITS: Final[Mapping[Shape, Callable[[object], bool]]] = {
    Shape.ANY: lambda _: True,
    Shape.TEXT: lambda value: isinstance(value, str),
    Shape.TEXT_FILLED: lambda value: isinstance(value, str) and bool(value),
    Shape.TEXTS: _is_texts,
    Shape.RECIPIENTS: _is_recipients,
    Shape.FLAG: lambda value: isinstance(value, bool),
    Shape.OBJECT: lambda value: isinstance(value, Mapping),
    Shape.OBJECTS: _is_objects,
    Shape.URL: _is_url,
}
