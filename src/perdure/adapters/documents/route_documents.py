"""Routes, their history and their events as documents. Fields that a newer release wrote are passed over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from perdure.adapters.documents import keys
from perdure.adapters.documents.decoding import decoded
from perdure.domain.route import Quarantined, Route, RouteChange, RouteEvent, RouteHistory
from perdure.ports.documents import Document, Expect, Put


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHistory:
    """A history entry, and which version of the registry it made: what a change that comes again is answered with."""

    registry_version: int
    entry: RouteHistory


_ROUTE: Final = msgspec.json.Decoder(Route)
_HISTORY: Final = msgspec.json.Decoder(KeptHistory)
_EVENT: Final = msgspec.json.Decoder(RouteEvent)
_PLACE: Final = re.compile(r" - at `([^`]*)`\Z")


def change_puts(change: RouteChange, *, route: Document | None, registry: Document | None) -> list[Put]:
    """The four puts of a change, over the route and the registry's version as they were found."""
    route_version = change.route.version
    registry_version = 1 + (0 if registry is None else registry.version)
    history = KeptHistory(registry_version=registry_version, entry=change.history)
    key = change.route.key
    return [
        _put(keys.route_sort(key), route_version, change.route, over=route),
        _put(keys.REGISTRY_VERSION, registry_version, {}, over=registry),
        _put(keys.history_sort(key, route_version), 1, history, over=None),
        _put(keys.outbox_sort(registry_version), 1, change.event, over=None),
    ]


def kept_route(document: Document) -> Route | Quarantined:
    """The route of a document, or what is wrong with it, without a word of its content."""
    try:
        route = _ROUTE.decode(document.body)
    except msgspec.ValidationError as exc:
        # The message may show a value; the place is made of our own field names.
        place = _PLACE.search(str(exc))
        where = f" at {place.group(1)}" if place else ""
        return Quarantined(
            where=document.sort,
            problem=f"it is not a route that this release knows: a field is missing or wrong{where}",
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Quarantined(where=document.sort, problem="it is not JSON")
    if keys.route_sort(route.key) != document.sort:
        return Quarantined(where=document.sort, problem="it is the route of something else than its place says")
    if route.version != document.version:
        return Quarantined(where=document.sort, problem="its version is not that of its document")
    return route


def kept_history(document: Document) -> KeptHistory:
    """The history entry of a document. Raises ``Corrupt``."""
    return decoded(_HISTORY, document, what="a route's history")


def kept_event(document: Document) -> RouteEvent:
    """The event of a document. Raises ``Corrupt``."""
    return decoded(_EVENT, document, what="a route's event")


def _put(sort: str, version: int, content: object, *, over: Document | None) -> Put:
    return Put(
        sort=sort,
        version=version,
        body=msgspec.json.encode(content),
        expect=Expect.ABSENT if over is None else over.version,
        token=None if over is None else over.token,
    )
