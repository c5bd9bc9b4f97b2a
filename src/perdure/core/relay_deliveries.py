"""The deliveries in hand: each a task, all of them bounded, their leases kept alive together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from perdure.core.relay_attempt import TIMED_OUT, delivered, delivery_of, described, error_of, failed
from perdure.core.relay_recording import DeliveryRecorder, Held
from perdure.core.relay_settings import EVERY_TYPE, RelayCounters, RelaySettings, Surroundings
from perdure.errors import PerdureError
from perdure.ports.environment import Environment
from perdure.ports.relay import Deliverer, LeasedEntry, OutboxStore, Outcome

_log: Final = logging.getLogger("perdure.relay")


class Deliveries:
    """What a relay has in hand. ``progress`` is set whenever something left it."""

    def __init__(
        self,
        store: OutboxStore,
        deliverers: Mapping[str, Deliverer],
        *,
        recorder: DeliveryRecorder,
        environment: Environment,
        settings: RelaySettings,
        counters: RelayCounters,
        surroundings: Surroundings,
        progress: asyncio.Event,
    ) -> None:
        self._store = store
        self._deliverers = deliverers
        self._recorder = recorder
        self._environment = environment
        self._settings = settings
        self._counters = counters
        self._redact = surroundings.redact
        self._progress = progress
        self._tasks: dict[asyncio.Task[None], Held] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def free(self) -> int:
        """How many more may be started."""
        return self._settings.deliveries_max - len(self._tasks)

    def start(self, leased: LeasedEntry, *, claimed_at: float) -> None:
        """Take an entry in hand. ``claimed_at`` is the monotonic time before its claim was sent."""
        held = Held(leased=leased, lease_until=claimed_at + self._settings.lease_s)
        task = asyncio.create_task(self._deliver(held), name=f"deliver {leased.entry.id}")
        self._tasks[task] = held
        task.add_done_callback(self._ended)

    async def beat(self) -> None:
        """Prolong the leases of what is being delivered, and cut off what has lost its lease."""
        started = self._environment.clock.monotonic()
        by_tenant: dict[UUID, list[Held]] = {}
        for held in self._tasks.values():
            if not held.lost:
                by_tenant.setdefault(held.leased.entry.tenant_id, []).append(held)
        for tenant_id, holding in by_tenant.items():
            leases = {held.leased.entry.id: held.leased.lock_token for held in holding}
            try:
                still = await self._store.extend(tenant_id, leases, lease_s=self._settings.lease_s)
            except PerdureError as exc:
                self._counters.errors += 1
                _log.warning("%d leases were not prolonged: %s", len(leases), exc)
                continue
            for held in holding:
                if held.leased.entry.id in still:
                    held.lease_until = started + self._settings.lease_s
                elif held.delivering:
                    # One that is being recorded meanwhile is not held any more either; the ledger answers for that.
                    held.give_up(now=asyncio.get_running_loop().time())

    async def settled(self) -> None:
        """Return when nothing is in hand."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Cut everything off. What was under way is tried again once its lease has expired."""
        for task in self._tasks:
            task.cancel()
        await self.settled()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _ended(self, task: asyncio.Task[None]) -> None:
        held = self._tasks.pop(task)
        self._progress.set()
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._counters.errors += 1
            _log.error("the delivery of %s broke; its lease will expire", held.leased.entry.id, exc_info=exc)

    async def _deliver(self, held: Held) -> None:
        # A process that was paused after the claim must not deliver what another relay has by now.
        held.lost = self._environment.clock.monotonic() >= held.lease_until
        outcome = None if held.lost else await self._attempt(held)
        if held.lost or outcome is None:
            self._counters.lost_leases += 1
            _log.warning("%s: the lease was lost before it was delivered", held.leased.entry.id)
            return
        answer = await self._recorder.record(held, outcome)
        self._progress.set()  # what waited for this one may be due now
        await self._recorder.settle(held.leased, outcome, answer)

    async def _attempt(self, held: Held) -> Outcome:
        leased, timeout_s = held.leased, self._settings.delivery_timeout_s
        deliverer = self._deliverers.get(leased.entry.event_type) or self._deliverers[EVERY_TYPE]
        started = self._environment.clock.monotonic()
        try:
            async with asyncio.timeout(timeout_s) as held.deadline:
                held.delivering = True
                result = await deliverer(delivery_of(leased, deadline_s=timeout_s))
            return delivered(leased, result, duration_ms=self._elapsed_ms(started))
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled us: the deliverer let a cancellation of its own escape.
            error = error_of(exc, redact=self._redact)
        except TimeoutError as exc:
            if held.deadline is not None and held.deadline.expired():
                error = described(
                    TIMED_OUT,
                    f"no answer within {timeout_s} s; it may have been delivered",
                    retryable=True,
                    redact=self._redact,
                )
            else:
                error = error_of(exc, redact=self._redact)
        except Exception as exc:  # noqa: BLE001 - a deliverer is not ours; whatever it raises is recorded and logged
            error = error_of(exc, redact=self._redact)
        finally:
            held.delivering = False
        return failed(leased, error, randomness=self._environment.randomness, duration_ms=self._elapsed_ms(started))

    def _elapsed_ms(self, started: float) -> float:
        return (self._environment.clock.monotonic() - started) * 1000
