"""Telling relays that there may be something to deliver, after the commit and at most fifty times a second.

A NOTIFY inside the commit would make every transaction of the database that requests an effect wait for one lock. This
one is a transaction of its own: the first effect after a pause is announced at once, those that follow within the pause
share the next hint. It is only a hint: a relay that misses it finds the effect when it polls.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from perdure.errors import PerdureError
from perdure.ports.ledger import Ledger

HINT_PAUSE_S: Final = 0.02

_log: Final = logging.getLogger("perdure.hints")


class EffectHints:
    """Sends hints through a ledger, one at a time, ``pause_s`` seconds apart."""

    def __init__(self, ledger: Ledger, *, pause_s: float = HINT_PAUSE_S) -> None:
        self._ledger = ledger
        self._pause_s = pause_s
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def flag(self) -> None:
        """Say that an effect was committed; returns at once."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def close(self) -> None:
        """Wait until the last hint is out."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        while self._wanted:
            # Before it is sent: an effect committed from here on may be too late for this one.
            self._wanted = False
            try:
                await self._ledger.hint_effects()
            except PerdureError as exc:
                _log.debug("a hint to the relays was not sent: %s", exc)
            await asyncio.sleep(self._pause_s)
