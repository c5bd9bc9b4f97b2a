"""The steps of writing one record: redact, publish the bundle, find or make the context, encode, blob, append."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache
from typing import Final, TypeVar

import msgspec

from perdure.core.recorder_limits import REPEATS_MAX, RecorderTurns
from perdure.core.recorder_lines import Draft, Track
from perdure.core.recorder_redaction import Redaction
from perdure.core.recorder_texts import Shaped, TextRules
from perdure.domain.turn import TurnRef, content_hash
from perdure.domain.turn_records import codec
from perdure.domain.turn_records.bundle import bundle, clashes
from perdure.domain.turn_records.catalog import BUNDLE_ID, BUNDLE_VERSION, RECORD_TYPES
from perdure.domain.turn_records.envelope import SCHEMA_VERSION
from perdure.errors import DigestMismatch, Invalid, KeyReused, LimitExceeded, OutcomeUnknown, Unsupported
from perdure.ports.environment import Clock

_T = TypeVar("_T")

REDACT: Final = "redact"
ENCODE: Final = "encode"
PUBLISH: Final = "publish_bundle"
CREATE: Final = "create_context"
READ: Final = "read"
BLOB: Final = "put_blob"
APPEND: Final = "append_turn"
RECORD_STEPS: Final = frozenset({REDACT, ENCODE})  # what fails there says nothing about the store
_CALL_S_MIN: Final = 0.001  # what a call is given when its time is up: the deadline around it decides


class Step:
    """Which step is being taken, for whoever has to say which one failed."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = APPEND


class Steps:
    """Takes the steps over one set of turns; each step may raise, and taking them again is safe."""

    def __init__(self, turns: RecorderTurns, *, redaction: Redaction, rules: TextRules, clock: Clock) -> None:
        self._turns = turns
        self._redaction = redaction
        self._rules = rules
        self._clock = clock
        self._publishing = asyncio.Lock()
        self._is_published = False
        self._takes_labels = True

    async def write(self, track: Track, draft: Draft, ends_s: float, step: Step) -> TurnRef:
        """Write a record. Sending it again after any failure sends the same bytes under the same key."""
        if draft.content is None:
            self._redact(draft, step)
        await self.publish(ends_s, step)
        await self.settle(track, ends_s, step)
        if draft.payload is None:
            self._encode(track, draft, step)
        assert draft.payload is not None
        if draft.blob is not None:
            step.name = BLOB
            await self._put(draft.blob, ends_s)
        step.name = APPEND
        ref = await self._append(track, draft, draft.payload, ends_s)
        track.last_turn_id = ref.turn_id
        track.has_first = True
        return ref

    async def publish(self, ends_s: float, step: Step) -> None:
        """Publish the bundle of all records, once. Raises ``KeyReused``, naming both, if another has its id."""
        async with self._publishing:
            if self._is_published:
                return
            step.name = PUBLISH
            ours = _own_bundle()
            kept = await self._turns.find_bundle(BUNDLE_ID, timeout_s=self._left_s(ends_s))
            if kept is None:
                try:
                    await self._sure(
                        lambda: self._turns.publish_bundle(BUNDLE_ID, ours, timeout_s=self._left_s(ends_s))
                    )
                except KeyReused:
                    kept = await self._turns.find_bundle(BUNDLE_ID, timeout_s=self._left_s(ends_s))
                    if kept is None:
                        raise
            if kept not in (None, ours):
                raise _bundle_conflict(kept, ours)
            self._is_published = True

    async def settle(self, track: Track, ends_s: float, step: Step) -> None:
        """Find out where a track goes on, and find or make its context."""
        if track.context_id is not None:
            return
        if track.parent is not None and track.parent.locate is not None:
            async with track.parent.lock:
                await self.settle(track.parent, ends_s, step)
        track.follow_parent()
        if track.locate is not None:
            step.name = READ
            track.settle(await track.locate(self._turns, self._left_s(ends_s)))
        step.name = CREATE
        for _ in range(REPEATS_MAX):
            try:
                await self._open(track, ends_s)
            except OutcomeUnknown:
                track.may_exist = True  # it may have been made: look before making another one
            else:
                return
        await self._open(track, ends_s)

    async def _open(self, track: Track, ends_s: float) -> None:
        if track.context_id is not None or (track.may_exist and await self._find(track, ends_s)):
            return
        if self._takes_labels:
            try:
                track.context_id = await self._make(track, track.labels(), ends_s)
            except Unsupported:
                self._takes_labels = False  # it takes them from the first record alone, or makes no contexts at all
            else:
                return
        track.context_id = await self._make(track, (), ends_s)

    async def _make(self, track: Track, labels: tuple[str, ...], ends_s: float) -> str:
        left_s = self._left_s(ends_s)
        if track.fork_from is None:
            return (await self._turns.create(labels=labels, timeout_s=left_s)).context_id
        return (await self._turns.fork(track.fork_from, labels=labels, timeout_s=left_s)).context_id

    async def _find(self, track: Track, ends_s: float) -> bool:
        own = track.labels()[0]
        try:
            page = await self._turns.contexts(label=own, limit=1, timeout_s=self._left_s(ends_s))
        except Unsupported:
            return False  # nothing can be found there by a label, so nothing that was made before is looked for
        for context in page:
            track.context_id, track.was_found = context.context_id, True
        return track.context_id is not None

    def _redact(self, draft: Draft, step: Step) -> None:
        step.name = ENCODE
        if draft.sequence_no is not None:
            draft.idempotency_key = draft.key(draft.sequence_no)
        allowed = self._rules.limits.text_bytes_max
        for name, value in draft.values.items():
            if isinstance(value, str) and len(value) > allowed:  # before anything is searched in it
                raise LimitExceeded(
                    f"{name} has {len(value)} characters, at most {allowed} bytes (text_bytes_max)",
                    limit="text_bytes_max",
                    allowed=allowed,
                    actual=len(value),
                )
        step.name = REDACT
        given = {name: value for name, value in draft.values.items() if value is not None}
        redacted, draft.redacted = self._redaction.apply(draft.record_type.type_id, given)
        step.name = ENCODE
        shaped = Shaped(values=redacted)
        if draft.shape is not None:
            shaped = draft.shape(given, redacted, self._rules)
        draft.content, draft.blob = shaped.values, shaped.blob

    def _encode(self, track: Track, draft: Draft, step: Step) -> None:
        assert draft.content is not None
        values, redacted = dict(draft.content), draft.redacted
        if not track.has_first:
            step.name = REDACT
            metadata = {name: value for name, value in track.metadata().items() if value is not None}
            metadata, more = self._redaction.apply(draft.record_type.type_id, metadata)
            values |= track.labelled(metadata)
            redacted = None if redacted is None else redacted + (more or 0)
        step.name = ENCODE
        if draft.sequence_no is None:
            draft.sequence_no = track.line.reserve()
        values |= {name: value for name, value in draft.envelope(draft).items() if value is not None}
        if draft.stamps_context is not None:
            values[draft.stamps_context] = track.context_id
        assert draft.sequence_no is not None, "a settled track has a positioned line"
        draft.idempotency_key = draft.key(draft.sequence_no)
        draft.gap = draft.gap or track.line.take_gap()
        values |= {
            "event_kind": draft.event_kind,
            "idempotency_key": draft.idempotency_key,
            "timestamp": unix_ms(draft.at),
            "sequence_no": draft.sequence_no,
            "schema_version": SCHEMA_VERSION,
            "redacted": redacted,
            "gap": None if draft.gap is None else draft.gap.as_values(),
        }
        draft.payload = codec.encode(draft.record_type, values)

    async def _append(self, track: Track, draft: Draft, payload: bytes, ends_s: float) -> TurnRef:
        context_id = track.context_id
        assert context_id is not None, "a settled track has a context"
        return await self._sure(
            lambda: self._turns.append(
                context_id,
                payload,
                type_id=draft.record_type.type_id,
                type_version=draft.record_type.version,
                idempotency_key=draft.idempotency_key,
                timeout_s=self._left_s(ends_s),
            )
        )

    async def _put(self, blob: bytes, ends_s: float) -> None:
        expected = content_hash(blob)
        digest = await self._sure(lambda: self._turns.put_blob(blob, timeout_s=self._left_s(ends_s)))
        if digest != expected:
            raise DigestMismatch(
                f"an object was kept under {ascii(digest)[:80]} and hashes to {expected}; the store damaged it",
                expected=expected,
            )

    async def _sure(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """What a call answers; made again where its answer was lost, which by its key or address happens once."""
        for _ in range(REPEATS_MAX):
            try:
                return await call()
            except OutcomeUnknown:
                continue
        return await call()

    def _left_s(self, ends_s: float) -> float:
        return max(ends_s - self._clock.monotonic(), _CALL_S_MIN)


@cache
def _own_bundle() -> bytes:
    return bundle(RECORD_TYPES, bundle_id=BUNDLE_ID, version=BUNDLE_VERSION)


def unix_ms(at: datetime) -> int:
    """A time as records have it. Raises ``Invalid`` for one without a zone."""
    if at.tzinfo is None:
        raise Invalid("a record's time has no zone; give one as in datetime.now(UTC)")
    return int(at.timestamp() * 1000)


def _bundle_conflict(kept: bytes | None, ours: bytes) -> KeyReused:
    kept = kept or b""
    try:
        found = msgspec.json.decode(kept)
        version = found.get("registry_version") if isinstance(found, dict) else None
        differences = "; ".join(clash.message for clash in clashes(kept, ours)[:3])
    except (msgspec.MsgspecError, Invalid, LimitExceeded):
        version, differences = None, "it is no bundle"
    return KeyReused(
        f"bundle {BUNDLE_ID} is published with registry_version {ascii(version)[:20]} ({content_hash(kept)}), and this "
        f"release has registry_version {BUNDLE_VERSION} ({content_hash(ours)})"
        f"{': ' + differences if differences else ''}; use the release that published it, or a space without it",
        bundle_id=BUNDLE_ID,
        kept_version=ascii(version)[:20],
        own_version=BUNDLE_VERSION,
    )
