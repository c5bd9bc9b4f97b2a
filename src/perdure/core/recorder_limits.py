"""What a recorder needs of turns, and how long it may take, wait and hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, Protocol, TypeAlias

from perdure.domain.records import Page
from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX, Context, Turn, TurnRef
from perdure.errors import Invalid

RecorderMode: TypeAlias = Literal["required", "best_effort", "off"]
SourceHashes: TypeAlias = Literal["plain", "omitted"]

MODES: Final[tuple[RecorderMode, ...]] = ("required", "best_effort", "off")
SOURCE_HASHES: Final[tuple[SourceHashes, ...]] = ("plain", "omitted")

RECORD_BUDGET_S: Final = 2.0  # one record may hold a run up for this long, and a person does not notice
OUTAGE_BUDGET_S: Final = 10.0  # all records of one outage together, until nobody waits for it any more
TRIAL_BUDGET_S: Final = 0.05  # what a trial may take when the budget of its outage is used up
FAILURES_MAX: Final = 3  # in a row; one may be chance, three are an outage
RETRY_AFTER_S: Final = 5.0  # before the first trial in an outage; each later one waits twice as long
RETRY_AFTER_S_MAX: Final = 300.0  # so that a long outage is noticed to be over within minutes
REQUIRED_TIMEOUT_S: Final = 30.0  # longer than any restart of a server that is looked after
REPEATS_MAX: Final = 2  # of a request whose answer was lost; its key makes that safe
INLINE_TEXT_BYTES_MAX: Final = (
    32_768  # larger texts are objects: a page of turns stays light, equal texts are kept once
)
TEXT_BYTES_MAX: Final = TURN_PAYLOAD_BYTES_MAX  # what every backend carries in one piece


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderLimits:
    """How long records may take and how large their texts may be.

    ``best_effort``: a record waits ``record_budget_s`` at most. After ``failures_max`` failures in a row, or
    ``outage_budget_s`` of waiting, nothing is tried for ``retry_after_s``, then one record is; each further trial waits
    twice as long, ``retry_after_s_max`` at most, and takes what is left of the outage's budget, at least 0.05 s.
    ``required``: a record waits ``required_timeout_s`` at most.

    Texts above ``inline_text_bytes_max`` are kept as objects, those above ``text_bytes_max`` are refused.
    """

    record_budget_s: float = RECORD_BUDGET_S
    outage_budget_s: float = OUTAGE_BUDGET_S
    failures_max: int = FAILURES_MAX
    retry_after_s: float = RETRY_AFTER_S
    retry_after_s_max: float = RETRY_AFTER_S_MAX
    required_timeout_s: float = REQUIRED_TIMEOUT_S
    inline_text_bytes_max: int = INLINE_TEXT_BYTES_MAX
    text_bytes_max: int = TEXT_BYTES_MAX

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value > 0):
                raise Invalid(f"{item.name} of a recorder is {ascii(value)[:40]}; expected a finite number above 0")
        if self.text_bytes_max > TEXT_BYTES_MAX:
            raise Invalid(f"text_bytes_max of a recorder is {self.text_bytes_max}; expected {TEXT_BYTES_MAX} at most")


class RecorderTurns(Protocol):
    """The calls of ``perdure.core.turns.Turns`` that recording makes."""

    async def create(self, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Make a context without turns."""
        ...

    async def fork(self, turn_id: str, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Make a context whose history is that of a turn."""
        ...

    async def append(
        self,
        context_id: str,
        payload: bytes,
        *,
        type_id: str,
        type_version: int = 1,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> TurnRef:
        """Append a turn; again with the same key gives the first one."""
        ...

    async def list(
        self, context_id: str, *, before: str | None = None, limit: int = 64, timeout_s: float | None = None
    ) -> Sequence[Turn]:
        """The newest turns that are older than ``before``, oldest first."""
        ...

    async def contexts(
        self, *, label: str | None = None, cursor: str | None = None, limit: int = 50, timeout_s: float | None = None
    ) -> Page[Context]:
        """Contexts with a label, in the order in which they were made."""
        ...

    async def publish_bundle(self, bundle_id: str, bundle: bytes, *, timeout_s: float | None = None) -> bool:
        """Keep a registry bundle; other bytes under its id are ``KeyReused``."""
        ...

    async def find_bundle(self, bundle_id: str, *, timeout_s: float | None = None) -> bytes | None:
        """A registry bundle, or None."""
        ...

    async def put_blob(self, payload: bytes, *, timeout_s: float | None = None) -> str:
        """Keep bytes by their address."""
        ...
