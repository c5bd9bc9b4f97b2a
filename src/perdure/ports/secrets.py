"""Secrets: records hold references to them, and whoever is about to use one resolves it at that moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in memory. It shows itself to nobody; ``reveal`` is the one way to its text."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """The secret itself: for a header, a signature or a password, never for a log, a message or a record."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not pickled; pass its reference instead")


class Secrets(Protocol):
    """Resolves references such as ``secret://env/NAME`` and ``secret://file/path``."""

    async def resolve(self, reference: str) -> Secret:
        """The secret behind a reference, as it is now.

        Raises ``Invalid`` for what is no reference, ``Forbidden`` for one that may not be used here and ``NotFound``
        for one that leads nowhere. No message holds any part of a secret.
        """
        ...

    def redact(self, text: str) -> str:
        """The text without any secret that was resolved so far."""
        ...
