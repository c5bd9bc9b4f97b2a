"""Anchors: where the history of a unit of work stood, in one line that is kept somewhere else.

A chain of hashes shows what was changed in it, but not that its end was cut off together with what told of the end. An
anchor that was kept outside shows that too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from perdure.errors import Invalid

_ANCHOR: Final = re.compile(
    r"perdure-work-anchor:v1:(?P<unit>[0-9a-f-]{36}):(?P<sequence>[1-9][0-9]{0,18}):"
    r"(?P<entry>[0-9a-f]{64}):(?P<content>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkAnchor:
    """The newest history entry of a unit at some moment: its number, its hash, and the hash of the attributes then.

    ``str(anchor)`` is one line of printable ASCII, which ``parse_anchor`` reads.
    """

    unit_id: UUID
    sequence: int
    entry_hash: str
    content_hash: str

    def __str__(self) -> str:
        return f"perdure-work-anchor:v1:{self.unit_id}:{self.sequence}:{self.entry_hash}:{self.content_hash}"


def parse_anchor(text: str) -> WorkAnchor:
    """The anchor of a line that ``str`` made; blanks around it are fine. Raises ``Invalid``."""
    match = _ANCHOR.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            "that is no anchor; expected one line, perdure-work-anchor:v1:UNIT:NUMBER:ENTRY_HASH:CONTENT_HASH, "
            "as `perdure work anchor` prints it"
        )
    try:
        unit_id = UUID(match["unit"])
    except ValueError as exc:
        raise Invalid("that is no anchor: what stands where the unit's id belongs is no UUID") from exc
    return WorkAnchor(
        unit_id=unit_id, sequence=int(match["sequence"]), entry_hash=match["entry"], content_hash=match["content"]
    )
