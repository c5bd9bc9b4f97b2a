"""How a relay works, what it counts, and what it takes from its surroundings."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from perdure.domain import limits
from perdure.domain.ids import check_effect_type
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.relay import Deliverer

EVERY_TYPE: Final = "*"
"""The key of a deliverer for every effect type that has none of its own."""

DELIVERIES_MAX: Final = 1_000
"""Deliveries at once, at most: each holds a lease that heartbeats prolong one by one."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """How a relay works; times are in seconds. Raises ``Invalid`` and ``LimitExceeded`` for what cannot work.

    ``deliveries_max``: deliveries at once. ``lease_s``: how long an entry of a killed relay lies idle.
    ``delivery_timeout_s``: when a deliverer is cut off, below ``lease_s``, so that even a relay that cannot prolong its
    leases never delivers beyond them. ``poll_s``: the longest pause between two looks for due entries.
    ``reap_interval_s`` and ``waits_interval_s``: how often expired leases and overdue approvals are looked for.
    ``hook_timeout_s``: when a dead letter hook is cut off.
    """

    deliveries_max: int = 16
    lease_s: float = limits.LEASE_S_DEFAULT
    delivery_timeout_s: float = 30.0
    poll_s: float = 1.0
    poll_min_s: float = 0.05
    reap_interval_s: float = 30.0
    waits_interval_s: float = 5.0
    hook_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.deliveries_max < 1:
            raise Invalid(f"deliveries_max is {self.deliveries_max}; expected at least 1")
        if self.deliveries_max > DELIVERIES_MAX:
            raise LimitExceeded(
                f"deliveries_max is {self.deliveries_max}; at most {DELIVERIES_MAX}; start a second relay",
                limit="deliveries_max",
                allowed=DELIVERIES_MAX,
                actual=self.deliveries_max,
            )
        if not limits.LEASE_S_MIN <= self.lease_s <= limits.LEASE_S_MAX:
            raise Invalid(f"lease_s is {self.lease_s}; expected {limits.LEASE_S_MIN} to {limits.LEASE_S_MAX}")
        if not 0 < self.delivery_timeout_s < self.lease_s:
            raise Invalid(
                f"delivery_timeout_s is {self.delivery_timeout_s} and lease_s is {self.lease_s}; a delivery must end "
                "within its lease: expected 0 < delivery_timeout_s < lease_s"
            )
        for name in ("poll_s", "poll_min_s", "reap_interval_s", "waits_interval_s", "hook_timeout_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise Invalid(f"{name} is {value}; expected seconds, more than 0")


@dataclass(slots=True, kw_only=True)
class RelayCounters:
    """What a relay did since it was made. ``dead_lettered`` is the one that somebody must be told about.

    ``failed`` attempts will be tried again. ``lost_leases`` are outcomes that were discarded because another relay has
    the entry now. ``reaped`` leases had expired, of this relay or of another. ``hook_failures`` are dead letters whose
    hook failed. ``errors`` are troubles with the ledger, each of which is logged.
    """

    claimed: int = 0
    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    lost_leases: int = 0
    reaped: int = 0
    waits_ended: int = 0
    hook_failures: int = 0
    errors: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


def keep(text: str) -> str:
    """The text as it is: what a relay without secrets does to an error's message."""
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What tests replace: ``sleep`` passes time, ``redact`` cuts secrets out of what will be recorded."""

    sleep: Sleep = asyncio.sleep
    redact: Callable[[str], str] = keep


def checked_deliverers(deliverers: Mapping[str, Deliverer]) -> dict[str, Deliverer]:
    """A copy of the deliverers by effect type. Raises ``Invalid`` for what is no type or no function."""
    for effect_type, deliverer in deliverers.items():
        if effect_type != EVERY_TYPE:
            check_effect_type(effect_type)
        if not callable(deliverer):
            raise Invalid(f"the deliverer of {effect_type} is {type(deliverer).__name__}; expected an async function")
    return dict(deliverers)
