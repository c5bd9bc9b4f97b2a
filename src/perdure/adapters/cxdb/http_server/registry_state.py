"""The registry of a served store: read from its bundles when it is needed, and checked before a bundle is kept."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from perdure.adapters.cxdb.http_server.descriptors import Bundle, TypeVersion, parse_bundle
from perdure.adapters.cxdb.http_server.limits import (
    REFRESH_INTERVAL_S,
    REGISTRY_BUNDLES_MAX,
    RELOAD_INTERVAL_S,
)
from perdure.adapters.cxdb.http_server.registry import EMPTY, Registry
from perdure.adapters.cxdb.http_server.serving_state import Deadline, Served
from perdure.domain.turn import BUNDLE_ID_CHARS_MAX, content_hash
from perdure.errors import Conflict, Invalid, LimitExceeded

_log = logging.getLogger(__name__)
_PAGE: Final = 100
_FETCHES_AT_ONCE: Final = 8
_KEPT_AS_IS: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_HASHED: Final = "cxdb-id."


def kept_bundle_id(bundle_id: str) -> str:
    """Under which id a store keeps a bundle: its own, or a hash where a store does not take it."""
    fits = len(bundle_id) <= BUNDLE_ID_CHARS_MAX and not bundle_id.startswith(_HASHED)
    if fits and _KEPT_AS_IS.fullmatch(bundle_id) is not None:
        return bundle_id
    return _HASHED + content_hash(bundle_id.encode("utf-8", "surrogatepass"))


class RegistryState:
    """What this process knows of a store's bundles. Others may publish: an unknown type is looked for again."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._registry = EMPTY
        self._known: set[str] = set()
        self._refused = 0
        self._loaded_at: float | None = None
        self._changing = asyncio.Lock()

    @property
    def bundles_total(self) -> int:
        """How many bundles were read."""
        return len(self._known)

    @property
    def refused_total(self) -> int:
        """How many of them are no bundles, or contradict one that was read before."""
        return self._refused

    @property
    def types_total(self) -> int:
        """How many types they describe."""
        return len(self._registry.types)

    async def current(self, deadline: Deadline) -> Registry:
        """What is known, and was not longer ago than ``RELOAD_INTERVAL_S``."""
        if self._loaded_at is None or self._served.clock.monotonic() - self._loaded_at >= RELOAD_INTERVAL_S:
            return await self.refreshed(deadline)
        return self._registry

    async def refreshed(self, deadline: Deadline) -> Registry:
        """What is known with what others published, unless that was asked a moment ago."""
        async with self._changing:
            now = self._served.clock.monotonic()
            if self._loaded_at is None or now - self._loaded_at >= REFRESH_INTERVAL_S:
                await self._load(deadline)
            return self._registry

    async def knowing(self, types: set[tuple[str, int | None]], deadline: Deadline) -> Registry:
        """A registry that has these types, if there are any such; None stands for any version."""
        registry = await self.current(deadline)
        if all(_knows(registry, type_id, version) for type_id, version in types):
            return registry
        return await self.refreshed(deadline)

    async def find(self, type_id: str, version: int, deadline: Deadline) -> TypeVersion | None:
        """One version of a type."""
        return (await self.knowing({(type_id, version)}, deadline)).find(type_id, version)

    async def publish(self, raw: bytes, bundle: Bundle, deadline: Deadline) -> bool:
        """Keep a bundle that fits all others; False if it is there. Raises ``Conflict``, ``Invalid``."""
        async with self._changing:
            await self._load(deadline)
            registry = self._registry.plus(bundle)
            kept_id = kept_bundle_id(bundle.bundle_id)
            if kept_id not in self._known and len(self._known) >= REGISTRY_BUNDLES_MAX:
                raise LimitExceeded(
                    f"there are {len(self._known)} bundles, at most {REGISTRY_BUNDLES_MAX} (registry_bundles_max)",
                    limit="registry_bundles_max",
                    allowed=REGISTRY_BUNDLES_MAX,
                    actual=len(self._known) + 1,
                )
            is_new = await self._served.store.publish_bundle(
                self._served.space, kept_id, raw, timeout_s=deadline.left_s
            )
            if kept_id not in self._known:
                self._known.add(kept_id)
                self._registry = registry
            return is_new

    async def raw(self, bundle_id: str, deadline: Deadline) -> bytes | None:
        """A bundle as it was sent."""
        store, space = self._served.store, self._served.space
        return await store.find_bundle(space, kept_bundle_id(bundle_id), timeout_s=deadline.left_s)

    async def _load(self, deadline: Deadline) -> None:
        cursor: str | None = None
        added: list[str] = []
        while True:
            page = await self._served.store.bundles(
                self._served.space, after=cursor, limit=_PAGE, timeout_s=deadline.left_s
            )
            added += [bundle_id for bundle_id in page.items if bundle_id not in self._known]
            cursor = page.next_cursor
            if cursor is None:
                break
        for start in range(0, len(added), _FETCHES_AT_ONCE):
            some = added[start : start + _FETCHES_AT_ONCE]
            store, space = self._served.store, self._served.space
            fetched = await asyncio.gather(
                *(store.find_bundle(space, bundle_id, timeout_s=deadline.left_s) for bundle_id in some)
            )
            for bundle_id, raw in zip(some, fetched, strict=True):
                if raw is not None:
                    self._add(bundle_id, raw)
        self._loaded_at = self._served.clock.monotonic()

    def _add(self, bundle_id: str, raw: bytes) -> None:
        self._known.add(bundle_id)
        try:
            self._registry = self._registry.plus(parse_bundle(raw))
        except (Invalid, LimitExceeded, Conflict) as exc:
            # Whoever has the store may keep any bytes there; the types of the others are served all the same.
            self._refused += 1
            _log.warning("bundle %s is not used: %s", bundle_id, exc.message)


def _knows(registry: Registry, type_id: str, version: int | None) -> bool:
    if version is None:
        return registry.latest(type_id) is not None
    return registry.find(type_id, version) is not None
