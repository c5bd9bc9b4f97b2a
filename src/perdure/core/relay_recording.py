"""Outcomes on their way into the ledger: in batches of a tenant, again while it is away, never past the lease."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from perdure.core.relay_settings import RelayCounters, Sleep
from perdure.domain import limits
from perdure.domain.run import OutboxStatus
from perdure.errors import OutcomeUnknown, Unavailable
from perdure.ports.environment import Environment
from perdure.ports.relay import Answer, DeadLetterHook, LeasedEntry, OutboxStore, Outcome

_log: Final = logging.getLogger("perdure.relay")

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 5.0


def backoff_after(delay_s: float, *, random: float) -> float:
    """The pause after a pause: doubled, bounded, and not the same for all who wait."""
    return min(delay_s * (1.5 + random), BACKOFF_S_MAX)


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """An entry in hand. ``lease_until`` is by this process's monotonic clock, and never later than the ledger's."""

    leased: LeasedEntry
    lease_until: float
    delivering: bool = False
    lost: bool = False
    deadline: asyncio.Timeout | None = None

    def give_up(self, *, now: float) -> None:
        """Cut the delivery off: its lease is lost, and with it the right to go on."""
        self.lost = True
        if self.deadline is not None and not self.deadline.expired():
            self.deadline.reschedule(now)


@dataclass(slots=True, eq=False)
class _Waiting:
    held: Held
    outcome: Outcome
    answer: asyncio.Future[Answer | None]


class DeliveryRecorder:
    """Writes outcomes and tells what follows: counts, log lines, and the hook of dead letters."""

    def __init__(
        self,
        store: OutboxStore,
        *,
        environment: Environment,
        counters: RelayCounters,
        sleep: Sleep,
        on_dead_letter: DeadLetterHook | None,
        hook_timeout_s: float,
    ) -> None:
        self._store = store
        self._environment = environment
        self._counters = counters
        self._sleep = sleep
        self._on_dead_letter = on_dead_letter
        self._hook_timeout_s = hook_timeout_s
        self._waiting: dict[UUID, list[_Waiting]] = {}
        self._writing: set[UUID] = set()

    async def record(self, held: Held, outcome: Outcome) -> Answer | None:
        """Write an outcome, together with those of the tenant that wait; None if the ledger did not take it in time.

        Whoever comes first writes; those who come while it does are written together next. Nobody is kept waiting.
        """
        tenant_id = held.leased.entry.tenant_id
        waiting = _Waiting(held, outcome, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(tenant_id, []).append(waiting)
        if tenant_id not in self._writing:
            self._writing.add(tenant_id)
            try:
                while batch := self._waiting.pop(tenant_id, None):
                    for start in range(0, len(batch), limits.CLAIM_MAX):
                        await self._write(tenant_id, batch[start : start + limits.CLAIM_MAX])
            finally:
                self._writing.discard(tenant_id)
        return await waiting.answer

    async def settle(self, leased: LeasedEntry, outcome: Outcome, answer: Answer | None) -> None:
        """Count and tell what was recorded of an outcome."""
        entry, error = leased.entry, outcome.error or {}
        what = f"{entry.event_type} {entry.id} of {leased.tenant}"
        if answer is None or answer.outcome == "lost":
            self._counters.lost_leases += 1
            _log.warning("%s: the lease was lost, so its outcome (%s) is discarded", what, outcome.outcome)
        elif answer.outcome == "delivered":
            self._counters.delivered += 1
            _log.debug("%s delivered at attempt %d", what, entry.retry_count + 1)
        elif answer.outcome == "failed":
            self._counters.failed += 1
            _log.warning("%s failed (%s), again in %.1f s", what, error.get("code"), outcome.retry_in_s or 0.0)
        else:
            self._counters.dead_lettered += 1
            _log.error(
                "%s is a dead letter (%s); once its cause is gone: perdure outbox requeue %s",
                what,
                error.get("code"),
                entry.id,
            )
            await self._tell(leased, outcome)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _write(self, tenant_id: UUID, batch: list[_Waiting]) -> None:
        try:
            answers = await self._finish(tenant_id, batch)
        except Exception:  # noqa: BLE001 - whatever it was, the others of the batch must hear of it
            if len(batch) > 1:
                # One that the ledger refuses must not take the others with it.
                for one in batch:
                    await self._write(tenant_id, [one])
                return
            self._counters.errors += 1
            _log.exception("outcome of %s was not recorded; its lease will expire", batch[0].outcome.entry_id)
            answers = {}
        for one in batch:
            if not one.answer.done():
                one.answer.set_result(answers.get(one.outcome.entry_id))

    async def _finish(self, tenant_id: UUID, batch: list[_Waiting]) -> dict[UUID, Answer]:
        """Try until the ledger answers or the last lease of the batch is over."""
        outcomes = [one.outcome for one in batch]
        delay_s, unsure = BACKOFF_S_MIN, False
        while True:
            try:
                answers = {answer.entry_id: answer for answer in await self._store.finish(tenant_id, outcomes)}
                return await self._resolve(tenant_id, outcomes, answers) if unsure else answers
            except Unavailable as exc:
                unsure = unsure or isinstance(exc, OutcomeUnknown)
                if self._environment.clock.monotonic() + delay_s >= max(one.held.lease_until for one in batch):
                    raise
                self._counters.errors += 1
                _log.warning("the ledger did not take %d outcomes (%s); again in %.1f s", len(batch), exc, delay_s)
            await self._sleep(delay_s)
            delay_s = backoff_after(delay_s, random=self._environment.randomness.random())

    async def _resolve(
        self, tenant_id: UUID, outcomes: list[Outcome], answers: dict[UUID, Answer]
    ) -> dict[UUID, Answer]:
        """After a lost acknowledgement, 'lost' may mean that the first try was recorded: the entry says."""
        recorded = {
            OutboxStatus.COMPLETED: "delivered",
            OutboxStatus.FAILED: "failed",
            OutboxStatus.DEAD_LETTER: "dead",
        }
        for outcome in outcomes:
            if answers[outcome.entry_id].outcome == "lost":
                found = await self._store.find(outcome.entry_id, tenant_id=tenant_id)
                status = None if found is None else recorded.get(found.entry.status)
                if status == outcome.outcome:
                    answers[outcome.entry_id] = Answer(entry_id=outcome.entry_id, outcome=outcome.outcome)
        return answers

    async def _tell(self, leased: LeasedEntry, outcome: Outcome) -> None:
        if self._on_dead_letter is None:
            return
        entry = replace(
            leased.entry,
            status=OutboxStatus.DEAD_LETTER,
            retry_count=leased.entry.retry_count + 1,
            next_retry_at=None,
            error_details=dict(outcome.error or {}),
            locked_by=None,
            locked_until=None,
        )
        try:
            async with asyncio.timeout(self._hook_timeout_s):
                await self._on_dead_letter(entry)
        except Exception:  # noqa: BLE001 - the hook is not ours
            self._counters.hook_failures += 1
            _log.exception("the dead letter hook failed for %s", entry.id)
