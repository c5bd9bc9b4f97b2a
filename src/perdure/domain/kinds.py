"""What is kept: one row a kind. A kind is a port; a route chooses its backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from perdure.errors import Invalid


class Kind(StrEnum):
    """A kind of thing that Perdure keeps."""

    RUNS = "runs"
    STREAMS = "streams"
    TABLES = "tables"
    MEMORY = "memory"
    ROUTES = "routes"
    TURNS = "turns"
    OBJECTS = "objects"
    WORK = "work"
    TELEMETRY = "telemetry"
    TASKLISTS = "tasklists"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRow:
    """What a kind keeps, whether a route chooses its backend, and what older registries call it."""

    kind: Kind
    keeps: str
    routed: bool
    resource_kind: str | None


KINDS: Final[Mapping[Kind, KindRow]] = MappingProxyType(
    {
        row.kind: row
        for row in (
            KindRow(
                kind=Kind.RUNS,
                keeps="the ledger: signals, runs, steps, effects, tool calls, checkpoints, events, outbox",
                routed=False,
                resource_kind=None,
            ),
            KindRow(
                kind=Kind.STREAMS,
                keeps="timeline events with gap-free cursors",
                routed=True,
                resource_kind="event_stream",
            ),
            KindRow(
                kind=Kind.TABLES,
                keeps="JSON values under keys, with versions, prefixes and expiry",
                routed=True,
                resource_kind="tabular_store",
            ),
            KindRow(
                kind=Kind.MEMORY,
                keeps="agent sessions, one row a message, and blackboards",
                routed=True,
                resource_kind="memory_store",
            ),
            KindRow(
                kind=Kind.ROUTES,
                keeps="the routing registry itself, its history and audit",
                routed=True,
                resource_kind="routing_registry_store",
            ),
            KindRow(
                kind=Kind.TURNS,
                keeps="the conversation graph: contexts, turns, forks, typed bundles",
                routed=True,
                resource_kind="turn_store",
            ),
            KindRow(
                kind=Kind.OBJECTS,
                keeps="bytes under the address of their content: large payloads, files, snapshots",
                routed=True,
                resource_kind="object_store",
            ),
            KindRow(
                kind=Kind.WORK,
                keeps="units of work: status, versioned attributes, a history that proves itself",
                routed=True,
                resource_kind="work_store",
            ),
            KindRow(
                kind=Kind.TELEMETRY,
                keeps="what was seen on the way: entries about units and instances, buffered, written in batches",
                routed=True,
                resource_kind="telemetry_store",
            ),
            KindRow(
                kind=Kind.TASKLISTS,
                keeps="task lists that nodes edit offline and merge, in snapshots on the node",
                routed=False,
                resource_kind=None,
            ),
        )
    }
)

# What a tenant needs a route for; the registry itself is found by the plane's settings.
TENANT_KINDS: Final = tuple(row.kind for row in KINDS.values() if row.routed and row.kind is not Kind.ROUTES)


def check_routed_kind(value: str) -> Kind:
    """The routed kind of that name. Raises ``Invalid``."""
    routed = [row.kind.value for row in KINDS.values() if row.routed]
    if value not in routed:
        raise Invalid(f"{ascii(value)[:80]} is not a kind that is routed; one of: {', '.join(routed)}")
    return Kind(value)


def kind_of_resource(resource_kind: str) -> Kind:
    """The kind that an older registry's ``resource_kind`` means; our own names are fine too. Raises ``Invalid``."""
    for row in KINDS.values():
        if resource_kind == row.resource_kind:
            return row.kind
    return check_routed_kind(resource_kind)
