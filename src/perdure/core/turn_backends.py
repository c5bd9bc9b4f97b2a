"""What one process knows of the turns on each backend that runs."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from perdure.core.stores import Stores
from perdure.core.turn_store import TurnParts
from perdure.ports.backend import Backend
from perdure.ports.patience import Sleep


class TurnBackends:
    """What this process knows of the turns on each backend that runs, for all scopes of a plane."""

    def __init__(self, stores: Stores, *, sleep: Sleep = asyncio.sleep) -> None:
        self._stores = stores
        self._sleep = sleep
        self._parts: WeakKeyDictionary[Backend, TurnParts] = WeakKeyDictionary()

    def parts(self, backend: Backend) -> TurnParts:
        """What is shared for one backend."""
        found = self._parts.get(backend)
        if found is None:
            found = TurnParts(backend.logs, backend.rows, environment=self._stores.environment, sleep=self._sleep)
            self._parts[backend] = found
        return found
