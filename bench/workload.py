"""The two changes that are measured, and the tenants and runs they are made in."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

import perdure
from bench.rounds import Job, Subject
from bench.server import ENV, MODE
from perdure.adapters.postgres.ledger import PostgresLedger
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.core.commit_queue import COALESCED_CHANGES_MAX, CommitQueue
from perdure.core.environment import system_environment
from perdure.domain.canonical import json_bytes
from perdure.domain.rendering import render_change
from perdure.domain.scope import Scope

SEED: Final = 20261121
TEXT_CHARS: Final = 1000
POOL_AS_SHIPPED: Final = 10  # what perdure.open() takes when nothing else is said

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz "
_TEXT: Final = "".join(random.Random(SEED).choices(_LETTERS, k=TEXT_CHARS))  # noqa: S311 - filler, not a secret

PAYLOAD: Final = {"text": _TEXT}
"""1 KB of JSON: the content of floor A's row and the input of every step."""


class Shape(StrEnum):
    """Which change. ``MINIMAL``: one row, one event. ``THREE``: four rows, five events."""

    MINIMAL = "minimal"
    THREE = "three-record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A run to change, by the tenant's slug."""

    tenant: str
    run: perdure.Run


def fill(change: perdure.Change, shape: Shape, key: str) -> None:
    """Put into ``change`` what its shape says; ``key`` is that of its step."""
    if shape is Shape.MINIMAL:
        change.step("classify", key=key, input=PAYLOAD)
        return
    step = change.step("classify", key=key, input=PAYLOAD, output={"label": "high"}, duration_ms=3.0)
    change.tool_call(step, "ocr", args={"page": 1}, result={"text": "..."}, duration_ms=2.0)
    change.effect(step, "SEND_EMAIL", {"to": "cfo@acme.test"}, key="mail")


class Workload:
    """Runs in tenants, and subjects that change them."""

    def __init__(self, plane: perdure.Plane) -> None:
        self._plane = plane
        self._keys = itertools.count()
        self._random = random.Random(SEED)  # noqa: S311 - which tenant is next
        self._new_id = system_environment().ids.new

    async def start_runs(self, prefix: str, *, tenants: int, runs: int = 1) -> list[Place]:
        """Start ``runs`` runs in each of so many new tenants."""
        places = []
        for number in range(tenants):
            slug = f"t_{prefix}_{number}"
            acme = self._plane.scope(slug, actor="agent:bench")
            for index in range(runs):
                run = await acme.runs.start("bench", signal=("bench", f"{slug}-{index}"), input={"number": index})
                places.append(Place(tenant=slug, run=run))
        return places

    def pick(self, places: Sequence[Place], count: int) -> list[Place]:
        """Places at random, the same in every run of the bench."""
        return self._random.choices(places, k=count)

    def encoded(self, shape: Shape, place: Place) -> tuple[Scope, bytes]:
        """A change as the library sends it, ready before any clock runs."""
        scope = self._plane.scope(place.tenant, actor="agent:bench").scope
        change = perdure.Change(scope, place.run, new_id=self._new_id)
        fill(change, shape, f"k{next(self._keys)}")
        return scope, json_bytes(render_change(change))

    def request(self, shape: Shape, place: Place) -> str:
        """The whole request of such a change, for floor B: the bytes that the library would send."""
        scope, change = self.encoded(shape, place)
        envelope = {"tenant_id": scope.tenant_id, "tenant": scope.tenant, "changes": [msgspec.Raw(change)]}
        return msgspec.json.encode(envelope).decode()

    def through_call(self, name: str, shape: Shape, places: Sequence[Place], queue: CommitQueue) -> Subject:
        """Rendered changes through the library's queue, session and one call."""

        def prepare(count: int) -> Sequence[Job]:
            return [self.encoded(shape, place) for place in self.pick(places, count)]

        async def perform(_worker: int, job: Job) -> None:
            await queue.commit(*job)

        return Subject(name=name, prepare=prepare, perform=perform)

    def through_api(self, name: str, shape: Shape, places: Sequence[Place], plane: perdure.Plane) -> Subject:
        """``async with acme.change(run) as change``, all of it inside the clock."""

        def prepare(count: int) -> Sequence[Job]:
            return [
                (plane.scope(place.tenant, actor="agent:bench"), place.run, f"k{next(self._keys)}")
                for place in self.pick(places, count)
            ]

        async def perform(_worker: int, job: Job) -> None:
            acme, run, key = job
            async with acme.change(run) as change:
                fill(change, shape, key)

        return Subject(name=name, prepare=prepare, perform=perform)


@asynccontextmanager
async def commit_queue(dsn: str, *, connections: int, coalesce: bool) -> AsyncIterator[CommitQueue]:
    """The library's write path below the API, with that many open connections."""
    session = Session(dsn, settings=PoolSettings(connections_min=connections, connections_max=connections))
    await session.open()
    queue = CommitQueue(PostgresLedger(session), changes_max=COALESCED_CHANGES_MAX if coalesce else 1)
    try:
        yield queue
    finally:
        await queue.close()
        await session.close()


def open_plane(dsn: str, *, connections: int, coalesce: bool) -> AbstractAsyncContextManager[perdure.Plane]:
    """A plane on the bench's database."""
    return perdure.open(dsn, mode=MODE, env=ENV, coalesce=coalesce, connections_max=connections)
