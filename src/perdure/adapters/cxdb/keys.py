"""Which keys a context has, for servers that throw keys away: in the payloads of records, and in memory.

A record of Perdure carries its key in its payload, where any client finds it again. Other payloads carry none.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from perdure.domain.turn_records.envelope import record
from perdure.domain.turn_records.wire import Scanner
from perdure.errors import KeyReused, LegacyArtifact, LimitExceeded

CONTEXTS_REMEMBERED_MAX: Final = 1_024  # contexts whose keys are known; another one pushes out the one unused longest
PENDING_MAX: Final = 64  # appends of one context whose outcome is unknown; who leaves more of them is not repeating any

KEY_TAG: Final = record("perdure.turn.any", event_kinds=()).by_name["idempotency_key"].tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What an append says. ``parent_turn_id`` is the parent that it names, 0 if it names none."""

    type_id: str
    type_version: int
    content_hash: str
    parent_turn_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTurn:
    """A turn of a context, as found or as acknowledged; ``depth`` is the protocol's.

    ``parent_turn_id`` is None where the append named none, and the answer did not tell which it was.
    """

    turn_id: int
    parent_turn_id: int | None
    depth: int
    type_id: str
    type_version: int
    content_hash: str

    def is_said_by(self, asked: Fingerprint) -> bool:
        """Whether an append says this; one that names no parent takes it wherever it is."""
        return (
            (asked.type_id, asked.type_version, asked.content_hash)
            == (self.type_id, self.type_version, self.content_hash)
        ) and asked.parent_turn_id in {0, self.parent_turn_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An append whose outcome is unknown: what it said, and the head that it came after."""

    asked: Fingerprint
    after: int


@dataclass(slots=True, kw_only=True)
class ContextMemory:
    """What one client knows of a context. Whoever appends holds the lock."""

    base: int = 0
    """The turn that it was forked from, as far as that is known; what is older is not its own."""
    head: int | None = None
    """The newest turn that was seen in it."""
    loaded: bool = False
    """Whether the keys are all that the context has, within the limit."""
    keys: dict[str, KeptTurn] = field(default_factory=dict)
    pending: OrderedDict[str, Pending] = field(default_factory=OrderedDict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def keep(self, key: str, turn: KeptTurn, *, keys_max: int) -> None:
        """Remember a key; beyond ``keys_max`` the one that was remembered first is forgotten."""
        self.pending.pop(key, None)
        self.keys.setdefault(key, turn)
        while len(self.keys) > keys_max:
            del self.keys[next(iter(self.keys))]

    def doubt(self, key: str, pending: Pending) -> None:
        """Remember that an append may have been done."""
        self.pending[key] = pending
        while len(self.pending) > PENDING_MAX:
            self.pending.popitem(last=False)

    def replay(self, key: str, asked: Fingerprint, *, context_id: int) -> KeptTurn | None:
        """The turn that has a key. Raises ``KeyReused`` if it says something else."""
        kept = self.keys.get(key)
        if kept is not None and not kept.is_said_by(asked):
            raise KeyReused(
                f"this key of context {context_id} is that of turn {kept.turn_id}, which has another type, payload or "
                "parent; a new turn needs a new key",
                turn_id=str(kept.turn_id),
            )
        return kept


class Memories:
    """What is known of contexts; at most ``CONTEXTS_REMEMBERED_MAX`` of them, and those that are in use."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[int, ContextMemory] = OrderedDict()

    def of(self, context_id: int) -> ContextMemory:
        """What is known of a context, which is nothing the first time."""
        memory = self._contexts.get(context_id)
        if memory is None:
            memory = self.put(context_id, ContextMemory())
        self._contexts.move_to_end(context_id)
        return memory

    def put(self, context_id: int, memory: ContextMemory) -> ContextMemory:
        """Know this of a context from now on."""
        self._contexts[context_id] = memory
        excess = len(self._contexts) - CONTEXTS_REMEMBERED_MAX
        if excess > 0:
            unused = [number for number, known in self._contexts.items() if not known.lock.locked()]
            for number in unused[:excess]:
                del self._contexts[number]
        return memory

    def forget(self, context_id: int) -> None:
        """Know nothing of a context any more."""
        self._contexts.pop(context_id, None)


def key_of(payload: bytes) -> str | None:
    """The key that a record carries; None for a payload that is none, or has none."""
    try:
        scanner = Scanner(payload)
        for tag, span in scanner.pairs(0, depth=0):
            if tag == KEY_TAG:
                key = None if span.has_extension else scanner.decode(span)
                return key if isinstance(key, str) and key else None
    except (LegacyArtifact, LimitExceeded):
        return None  # any bytes are a payload
    return None
