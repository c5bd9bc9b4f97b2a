"""A store of turns whose calls go wrong when a test says so: before they are done, or after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.ports.turns import TurnStore


class Interrupted:
    """Stands before a store. ``fail["append"] = error`` lets the next call fail before it is done."""

    def __init__(self, store: TurnStore) -> None:
        self._store = store
        self.fail: dict[str, Exception] = {}
        self.fail_after: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            """The call, and what goes wrong with it, once."""
            self.calls[name] += 1
            if name in self.fail:
                raise self.fail.pop(name)
            result = await getattr(self._store, name)(*args, **kwargs)
            if name in self.fail_after:
                raise self.fail_after.pop(name)
            return result

        return call
