"""What the contract of the facade of units of work stands on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from perdure.core.work import WorkUnits
from perdure.domain.container import Space
from perdure.domain.kinds import Kind
from perdure.domain.typed_values import TypedValue, encode_value
from perdure.domain.work import AttributeVersion, StoredWork, WorkWrite
from perdure.domain.work_results import Work
from perdure.ports.work import WorkStore
from perdure.testing.contracts.routed_opening import RoutedOpening, Town
from perdure.testing.contracts.stores import TIMEOUT_S, new_id

OWNER = "worker-1"


class WorkFacadeOpening(RoutedOpening):
    """A tenant whose units of work are on the backend."""

    kinds = (Kind.WORK,)

    @pytest.fixture
    def work(self, town: Town) -> WorkUnits:
        """The tenant's units."""
        return town.acme.work

    @pytest.fixture
    def space(self, town: Town) -> Space:
        """Where they are."""
        return town.acme.scope.space

    @pytest.fixture
    def work_store(self, town: Town) -> WorkStore:
        """The store behind the facade: what goes there goes past every check."""
        store = town.backend.work
        assert store is not None, "the backend keeps units of work"
        return store


async def made(work: WorkUnits, **attributes: TypedValue) -> Work:
    """A unit that is PENDING."""
    return await work.create(instance="instance-1", interaction="intake", attributes=attributes)


async def active(work: WorkUnits, **attributes: TypedValue) -> Work:
    """A unit that is ACTIVE under the lease of ``OWNER``."""
    return await work.checkout(await made(work, **attributes), owner=OWNER)


async def seen(work: WorkUnits, unit: Work) -> tuple[object, ...]:
    """Everything that there is of a unit, to compare it with later."""
    now = await work.get(unit)
    return now.unit, dict(now.attributes), await work.get_history(unit)


async def slipped_in(
    store: WorkStore, space: Space, unit: Work, now: datetime, *, keep_hash: bool = True, **values: TypedValue
) -> StoredWork:
    """Attribute versions that somebody wrote past the library: no entry tells of them, and the hash stays."""
    stored = await store.load(space, unit.unit_id, timeout_s=TIMEOUT_S)
    assert stored is not None
    versions = tuple(
        AttributeVersion(
            key=key,
            version=stored.attributes[key].version + 1 if key in stored.attributes else 1,
            value=encode_value(value),
            sequence=stored.unit.history_sequence,
            actor_id="user:mallory",
            recorded_at=now,
        )
        for key, value in values.items()
    )
    after = replace(stored.unit, version=stored.unit.version + 1, updated_at=now)
    if not keep_hash:
        after = replace(after, content_hash="0" * 64)
    await store.commit(space, WorkWrite(unit=after, entries=(), attributes=versions), timeout_s=TIMEOUT_S)
    found = await store.load(space, unit.unit_id, timeout_s=TIMEOUT_S)
    assert found is not None
    return found


def request_id() -> str:
    """One that no test had before."""
    return f"request-{new_id()}"
