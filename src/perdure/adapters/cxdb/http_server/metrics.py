"""What a server counted since it began. What only a walk through the whole store would tell is not here."""

from __future__ import annotations

from collections import Counter

from perdure.adapters.cxdb.http_server.answers import BAD_REQUEST, Answer, HttpRequest, json_answer
from perdure.adapters.cxdb.http_server.registry_state import RegistryState
from perdure.adapters.cxdb.http_server.serving_state import Served


class Metrics:
    """Counts answers, and shows what it counted."""

    def __init__(self, served: Served, state: RegistryState) -> None:
        self._served = served
        self._state = state
        self._began = served.clock.monotonic()
        self._statuses: Counter[int] = Counter()

    def count(self, status: int) -> None:
        """One more answer."""
        self._statuses[status] += 1

    async def get(self, request: HttpRequest) -> Answer:
        """The counts."""
        del request
        await self._state.current(self._served.deadline())
        failed = {status: count for status, count in self._statuses.items() if status >= BAD_REQUEST}
        return json_answer(
            {
                "ts": self._served.now_ms(),
                "uptime_seconds": int(self._served.clock.monotonic() - self._began),
                "objects": {
                    "registry_bundles_total": self._state.bundles_total,
                    "registry_bundles_refused_total": self._state.refused_total,
                    "registry_types_total": self._state.types_total,
                },
                "http": {"requests_total": self._statuses.total()},
                "errors": {
                    "total": sum(failed.values()),
                    "by_type": {str(status): count for status, count in failed.items()},
                },
            }
        )
