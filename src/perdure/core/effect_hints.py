"""Telling relays that there may be something to deliver, after the commit and at most a few hundred times a second.

A NOTIFY inside the commit would make every transaction of the database that requests an effect wait for one lock. This
one is a transaction of its own, shared by all commits of the last moment. It is only a hint: a relay that misses it
finds the effect when it polls.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from perdure.errors import PerdureError
from perdure.ports.ledger import Ledger

HINT_PAUSE_S: Final = 0.002

_log: Final = logging.getLogger("perdure.hints")


class EffectHints:
    """Sends hints through a ledger, one at a time."""

    def __init__(self, ledger: Ledger, *, pause_s: float = HINT_PAUSE_S) -> None:
        self._ledger = ledger
        self._pause_s = pause_s
        self._gathering = False
        self._tasks: set[asyncio.Task[None]] = set()

    def flag(self) -> None:
        """Say that an effect was committed; returns at once."""
        if self._gathering:
            return
        self._gathering = True
        task = asyncio.get_running_loop().create_task(self._send())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until the last hint is out."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        try:
            await asyncio.sleep(self._pause_s)
        finally:
            # From here on a new effect needs a new hint: this one may be answered before it is visible.
            self._gathering = False
        try:
            await self._ledger.hint_effects()
        except PerdureError as exc:
            _log.debug("a hint to the relays was not sent: %s", exc)
