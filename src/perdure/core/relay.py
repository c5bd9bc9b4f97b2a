"""The relay: the one place where anything outside is called.

It claims due entries under lease, has them delivered outside any transaction, and records what came of them fenced by
the lease. Polling finds what is due; hints only shorten the pause between two looks. Any number of relays may work on
one ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from perdure.core.relay_attempt import failed, lease_expired
from perdure.core.relay_deliveries import Deliveries
from perdure.core.relay_recording import BACKOFF_S_MIN, DeliveryRecorder, backoff_after
from perdure.core.relay_settings import (
    EVERY_TYPE,
    RelayCounters,
    RelaySettings,
    Surroundings,
    checked_deliverers,
)
from perdure.domain import limits
from perdure.domain.ids import check_text
from perdure.errors import PerdureError, Unavailable
from perdure.ports.environment import Environment
from perdure.ports.relay import DeadLetterHook, Deliverer, DueTenant, LeasedEntry, OutboxStore

__all__ = ["EVERY_TYPE", "Relay", "RelayCounters", "RelaySettings", "Surroundings"]

Result = TypeVar("Result")

DRAIN_ATTEMPTS_MAX: Final = 6  # of one look, when the ledger does not answer: about ten seconds

_log: Final = logging.getLogger("perdure.relay")


class Relay:
    """Delivers effects; an async context manager.

    ``deliverers`` maps effect types to async functions, ``"*"`` to the one for all other types. What has no deliverer
    is never claimed, and holds up the ordered effects of its run that come after it. Leaving the context finishes what
    is in hand; leaving it by an exception cuts that off, to be tried again when its leases have expired.
    """

    def __init__(
        self,
        store: OutboxStore,
        deliverers: Mapping[str, Deliverer],
        *,
        environment: Environment,
        worker: str | None = None,
        settings: RelaySettings | None = None,
        on_dead_letter: DeadLetterHook | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.counters = RelayCounters()
        self.settings = settings or RelaySettings()
        self.worker = check_text(
            worker or f"relay:{environment.ids.new()}",
            what="a worker",
            limit="worker_chars_max",
            chars_max=limits.WORKER_CHARS_MAX,
        )
        self._store = store
        self._environment = environment
        self._surroundings = surroundings or Surroundings()
        deliverers = checked_deliverers(deliverers)
        self._claims = bool(deliverers)
        self._effect_types = () if EVERY_TYPE in deliverers else tuple(sorted(deliverers))
        self._wake = asyncio.Event()
        self._recorder = DeliveryRecorder(
            store,
            environment=environment,
            counters=self.counters,
            sleep=self._surroundings.sleep,
            on_dead_letter=on_dead_letter,
            hook_timeout_s=self.settings.hook_timeout_s,
        )
        self._deliveries = Deliveries(
            store,
            deliverers,
            recorder=self._recorder,
            environment=environment,
            settings=self.settings,
            counters=self.counters,
            surroundings=self._surroundings,
            progress=self._wake,
        )
        self._heart: asyncio.Task[None] | None = None
        self._stopping = False
        self._behind: UUID | None = None
        self._reap_at = self._waits_at = float("-inf")

    def __repr__(self) -> str:
        return f"Relay(worker={self.worker!r}, in_hand={len(self._deliveries)})"

    async def __aenter__(self) -> Self:
        self._heart = asyncio.create_task(self._keep_alive(), name="relay heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._heart is not None, "entered before left"
        try:
            if kind is None:
                await self._deliveries.settled()
        finally:
            await self._deliveries.cancel()
            await _ended(self._heart)

    @property
    def in_hand(self) -> int:
        """How many entries are being delivered or recorded."""
        return len(self._deliveries)

    def stop(self) -> None:
        """Let ``run`` and ``drain`` return once what is in hand is finished. Safe in a signal handler of the loop."""
        self._stopping = True
        self._wake.set()

    async def drain(self) -> RelayCounters:
        """Deliver until nothing is due and nothing is in hand. What is to be retried later is left for later.

        Raises ``Unavailable`` when the ledger does not answer for ``DRAIN_ATTEMPTS_MAX`` tries.
        """
        self._entered()
        while not self._stopping:
            self._wake.clear()
            claimed = await self._patiently(self.tick)
            if not self._deliveries:
                # What ended during the look may have made the next of its run due after that was looked for.
                if not claimed and not self._wake.is_set():
                    break
            elif not claimed or not self._deliveries.free:
                await self._wake.wait()
        await self._deliveries.settled()
        return self.counters

    async def run(self) -> None:
        """Deliver until ``stop`` is called or the task is cancelled. A ledger that is away is waited for.

        Raises ``Refused`` when the hints come through a pooler, and what looking for work raises but ``Unavailable``.
        """
        self._entered()
        listener = asyncio.create_task(self._listen(), name="relay hints")
        listener.add_done_callback(lambda _: self._wake.set())
        pause_s = self.settings.poll_min_s
        try:
            while not self._stopping:
                self._wake.clear()
                if listener.done():
                    listener.result()
                try:
                    worked = await self.tick() > 0
                except Unavailable as exc:
                    self.counters.errors += 1
                    _log.warning("the ledger does not answer (%s); again in %.1f s", exc, pause_s)
                    pause_s = backoff_after(pause_s, random=self._environment.randomness.random())
                    await self._pause(pause_s)
                    continue
                # After work, look again soon: what was requested meanwhile may have gone without its hint.
                pause_s = self.settings.poll_min_s if worked else min(2 * pause_s, self.settings.poll_s)
                if not worked or not self._deliveries.free:
                    await self._pause(pause_s if self._deliveries.free else self.settings.poll_s)
            await self._deliveries.settled()
        finally:
            await _ended(listener)

    async def tick(self) -> int:
        """One look: reap, end overdue approvals, and claim what is due as far as there is room.

        Returns how many entries were claimed; their deliveries go on by themselves. Raises ``Unavailable``.
        """
        self._entered()
        now = self._environment.clock.monotonic()
        if now >= self._reap_at:
            await self._reap()
            self._reap_at = now + self.settings.reap_interval_s
        if now >= self._waits_at:
            await self._end_waits()
            self._waits_at = now + self.settings.waits_interval_s
        return await self._claim_due()

    async def beat(self) -> None:
        """Prolong the leases of what is in hand; done by itself every third of ``lease_s``."""
        await self._deliveries.beat()

    # --- one look -------------------------------------------------------------------------------------------------

    async def _claim_due(self) -> int:
        if not self._claims or not self._deliveries.free:
            return 0
        tenants = await self._due_tenants(limit=min(self._deliveries.free, limits.CLAIM_MAX))
        claimed = 0
        for position, tenant in enumerate(tenants):
            free = self._deliveries.free
            if not free or self._stopping:
                break
            # Each tenant has its share, and the next look goes on behind the last: nobody is starved by a neighbour.
            share = -(-free // (len(tenants) - position))
            claimed += await self._of_tenant(tenant, partial(self._claim, tenant, limit=share)) or 0
            self._behind = tenant.tenant_id
        return claimed

    async def _due_tenants(self, *, limit: int) -> Sequence[DueTenant]:
        found = await self._store.due_tenants(limit=limit, effect_types=self._effect_types, after=self._behind)
        if not found and self._behind is not None:
            self._behind = None
            found = await self._store.due_tenants(limit=limit, effect_types=self._effect_types)
        return found

    async def _claim(self, tenant: DueTenant, *, limit: int) -> int:
        claimed_at = self._environment.clock.monotonic()
        entries = await self._store.claim(
            tenant,
            worker=self.worker,
            limit=min(limit, limits.CLAIM_MAX),
            lease_s=self.settings.lease_s,
            effect_types=self._effect_types,
        )
        self.counters.claimed += len(entries)
        for leased in entries:
            self._deliveries.start(leased, claimed_at=claimed_at)
        return len(entries)

    async def _reap(self) -> None:
        """Expired leases count as failed attempts, whoever held them."""
        by_tenant: dict[UUID, list[LeasedEntry]] = {}
        for leased in await self._store.expired(limit=limits.CLAIM_MAX):
            by_tenant.setdefault(leased.entry.tenant_id, []).append(leased)
        for tenant_id, expired in by_tenant.items():
            tenant = DueTenant(tenant_id=tenant_id, tenant=expired[0].tenant)
            await self._of_tenant(tenant, partial(self._reap_tenant, expired))

    async def _reap_tenant(self, expired: list[LeasedEntry]) -> None:
        outcomes = {
            leased.entry.id: failed(
                leased, lease_expired(leased), randomness=self._environment.randomness, duration_ms=None
            )
            for leased in expired
        }
        answers = await self._store.finish(expired[0].entry.tenant_id, list(outcomes.values()))
        of = {leased.entry.id: leased for leased in expired}
        for answer in answers:
            if answer.outcome != "lost":  # else another relay was first, or its holder came back
                self.counters.reaped += 1
                await self._recorder.settle(of[answer.entry_id], outcomes[answer.entry_id], answer)

    async def _end_waits(self) -> None:
        for tenant in await self._store.overdue_wait_tenants(limit=limits.CLAIM_MAX):
            ended = await self._of_tenant(
                tenant, partial(self._store.end_overdue_waits, tenant.tenant_id, limit=limits.CLAIM_MAX)
            )
            self.counters.waits_ended += ended or 0

    async def _of_tenant(self, tenant: DueTenant, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """The trouble of one tenant is not that of the others; a ledger that is away is everybody's."""
        try:
            return await work()
        except Unavailable:
            raise
        except PerdureError:
            self.counters.errors += 1
            _log.exception("nothing was done for %s at this look", tenant.tenant)
            return None

    # --- time -----------------------------------------------------------------------------------------------------

    def _entered(self) -> None:
        assert self._heart is not None, "a relay works inside `async with`, where its leases are kept alive"

    async def _patiently(self, work: Callable[[], Awaitable[Result]]) -> Result:
        delay_s = BACKOFF_S_MIN
        for _ in range(DRAIN_ATTEMPTS_MAX - 1):
            try:
                return await work()
            except Unavailable as exc:
                self.counters.errors += 1
                _log.warning("the ledger does not answer (%s); again in %.1f s", exc, delay_s)
            await self._surroundings.sleep(delay_s)
            delay_s = backoff_after(delay_s, random=self._environment.randomness.random())
        return await work()

    async def _pause(self, longest_s: float) -> None:
        """Until something happens, or for so long."""
        sleeping = asyncio.ensure_future(self._surroundings.sleep(longest_s))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _ended(sleeping)
            await _ended(waking)

    async def _keep_alive(self) -> None:
        while True:
            await self._surroundings.sleep(self.settings.lease_s / 3)
            try:
                await self.beat()
            except Exception:  # noqa: BLE001 - whatever it was, the other leases need the next beat
                self.counters.errors += 1
                _log.exception("a heartbeat failed; the next one follows")

    async def _listen(self) -> None:
        delay_s = BACKOFF_S_MIN
        while True:
            try:
                async with contextlib.aclosing(self._store.hints()) as hints:
                    async for _ in hints:
                        self._wake.set()
                        delay_s = BACKOFF_S_MIN
            except Unavailable as exc:
                _log.warning("no hints for now, polling goes on (%s)", exc)
            else:
                return
            await self._surroundings.sleep(delay_s)
            delay_s = backoff_after(delay_s, random=self._environment.randomness.random())


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end. Its errors were somebody's who waited for it, or are nobody's any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
