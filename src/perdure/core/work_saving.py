"""Saving a unit of work: loaded, verified, judged by the guard, planned, committed with the version that was read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final
from uuid import UUID

from perdure.core.stores import Call, Stores
from perdure.core.work_approvals import Approval, ApprovalAnswer, settle_approval
from perdure.core.work_asking import Asked, UnitRef, decoded, expected_of, unit_id_of
from perdure.core.work_finding import Found, drift_error, inspect
from perdure.core.work_guards import GUARD_TIMEOUT_S_DEFAULT, evaluate
from perdure.core.work_parking import parked, pending_of, question_of, resumed
from perdure.core.work_planning import (
    Pen,
    Plan,
    plan_delete,
    plan_park,
    plan_quarantine,
    plan_save,
)
from perdure.core.work_recording import Recorders, drift_of, request_of, subject_of_unit
from perdure.core.work_verifying import WorkVerifier
from perdure.domain.kinds import Kind
from perdure.domain.scope import Scope
from perdure.domain.typed_values import TypedValue
from perdure.domain.violations import Violation, zombie_violation
from perdure.domain.work import StoredWork, WorkCommitted, WorkStatus, WorkUnit, WorkWrite, unit_container
from perdure.domain.work_results import DriftPolicy, Work
from perdure.errors import Corrupt, HashDrift, IllegalTransition, Invalid, NotFound, StaleVersion, Unsupported
from perdure.ports.guards import Ask, Guard, GuardSubject
from perdure.ports.ledger import JoinedConnection
from perdure.ports.secrets import Secrets
from perdure.ports.work import WorkStore

_POLICIES: Final = ("reject", "quarantine")


class WorkParts:
    """What units of work of all scopes of a plane share.

    ``recorders`` are told of every decision, denial and exception of a guard, and of what drifted. ``key_reference``
    names the secret that hashes are keyed with; it is resolved when it is used, and never kept.
    """

    def __init__(
        self, stores: Stores, *, secrets: Secrets, recorders: Recorders, key_reference: str | None = None
    ) -> None:
        self.stores = stores
        self.recorders = recorders
        self._secrets = secrets
        self._key_reference = key_reference

    async def key(self) -> bytes | None:
        """The key of hashes as it is now, or None for plain ones."""
        if self._key_reference is None:
            return None
        return (await self._secrets.resolve(self._key_reference)).reveal().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a save is done, beside what it does."""

    guard: Guard | None = None
    guard_timeout_s: float = GUARD_TIMEOUT_S_DEFAULT
    on_drift: DriftPolicy = "reject"
    connection: JoinedConnection | None = None
    timeout_s: float | None = None


class WorkSaving:
    """Saves of one scope."""

    def __init__(self, scope: Scope, parts: WorkParts) -> None:
        self._scope = scope
        self._parts = parts

    @asynccontextmanager
    async def reading(self, timeout_s: float | None) -> AsyncIterator[tuple[Call, WorkStore]]:
        """The store that keeps units of this scope, to read from."""
        async with self._parts.stores.reading(self._scope, Kind.WORK, timeout_s=timeout_s) as call:
            yield call, _store(call)

    async def commit(
        self,
        write: WorkWrite,
        operation: str,
        *,
        connection: JoinedConnection | None = None,
        timeout_s: float | None = None,
    ) -> WorkCommitted:
        """Keep one save."""
        space = self._scope.space
        container = unit_container(space, write.unit.unit_id)
        async with self._parts.stores.writing(self._scope, container, operation, timeout_s=timeout_s) as call:
            return await _store(call).commit(
                space, write, audit=call.audit, connection=connection, timeout_s=call.timeout_s
            )

    async def pen(self, key: bytes | None = None) -> Pen:
        """What entries are written with."""
        environment = self._parts.stores.environment
        secret = key if key is not None else await self._parts.key()
        return Pen(now=environment.clock.now(), ids=environment.ids, key=secret, actor_id=self._scope.actor)

    def violated(self, subject: GuardSubject, violation: Violation) -> None:
        """Tell of something wrong with a unit, once."""
        self._parts.recorders(self._scope).denial(subject, violation)

    def reclaimed(self, before: WorkUnit, after: WorkUnit) -> None:
        """Tell of a lease that a sweep took away."""
        violation = zombie_violation(
            before.unit_id,
            status=after.status,
            lease_owner=before.lease_owner,
            heartbeat_at=before.heartbeat_at,
            timestamp=after.updated_at,
        )
        self.violated(subject_of_unit(before, actor_id=self._scope.actor), violation)

    async def load(self, unit_id: UUID, *, manner: Manner) -> StoredWork:
        """A unit as it is kept. Raises ``NotFound``."""
        async with self.reading(manner.timeout_s) as (call, store):
            stored = await store.load(
                self._scope.space, unit_id, connection=manner.connection, timeout_s=call.timeout_s
            )
        if stored is None:
            raise not_found(unit_id)
        return stored

    async def save(self, unit: UnitRef, expected_version: int | None, asked: Asked, *, manner: Manner) -> Work:
        """One save, see ``WorkUnits.save``."""
        _check_manner(manner)
        found = await self._expected(unit, expected_version, asked, manner=manner)
        if isinstance(found, Work):
            return found
        await self._refuse_drift(found, asked, manner)
        question = await self._judged(found, asked, manner)
        pen = await self.pen()
        if question is None:
            plan = plan_save(found, asked, pen=pen)
        else:
            plan = plan_park(found, asked, question=question.reason, pending=pending_of(asked, question), pen=pen)
        return await self.done(plan, "save", manner)

    async def _judged(self, found: Found, asked: Asked, manner: Manner) -> Ask | None:
        """The question of a guard, if it asks; None if it allows. Raises ``Forbidden`` if it denies."""
        if manner.guard is None:
            return None
        outcome = await evaluate(
            manner.guard,
            request_of(found, asked, actor_id=self._scope.actor),
            recorder=self._parts.recorders(self._scope),
            clock=self._parts.stores.environment.clock,
            timeout_s=manner.guard_timeout_s,
        )
        refusal = outcome.refusal()
        if refusal is not None:
            raise refusal
        return outcome.verdict if isinstance(outcome.verdict, Ask) else None

    async def answer(
        self, unit: UnitRef, expected_version: int | None, asked: Asked, *, approval: Approval, manner: Manner
    ) -> Work:
        """What a pilot says to a parked unit."""
        found = await self._expected(unit, expected_version, asked, manner=manner)
        if isinstance(found, Work):
            return found
        waiting = found.stored.unit
        if waiting.status is not WorkStatus.PENDING_PILOT_APPROVAL:
            raise IllegalTransition(
                f"unit of work {waiting.unit_id} is {waiting.status} and waits for no approval",
                unit_id=str(waiting.unit_id),
                status=waiting.status.value,
            )
        async with self.reading(manner.timeout_s) as (call, store):
            entry = await parked(store, self._scope.space, waiting.unit_id, timeout_s=call.timeout_s)
        if entry is None:
            raise Corrupt(f"the history of unit of work {waiting.unit_id} does not say why it waits; verify it")
        rejected = approval.answer is ApprovalAnswer.REJECTED
        said = replace(asked, metadata={**(asked.metadata or {}), **approval.metadata()})
        wanted = replace(said, new_status=WorkStatus.FAILED)
        if not rejected:
            wanted = resumed(entry, target=waiting.target or WorkStatus.ACTIVE, answer=said)
        await self._refuse_drift(found, wanted, manner)
        settle_approval(
            approval,
            request_of(found, wanted, actor_id=self._scope.actor),
            recorder=self._parts.recorders(self._scope),
            clock=self._parts.stores.environment.clock,
            approvers=question_of(entry).approvers,
        )
        plan = plan_save(found, wanted, pen=await self.pen(), pilot=True)
        # The fingerprint is of what the caller said, so that saying it again is known.
        plan = replace(plan, write=replace(plan.write, fingerprint=asked.fingerprint))
        return await self.done(plan, "reject" if rejected else "approve", manner)

    async def delete(self, unit: UnitRef, expected_version: int | None, asked: Asked, *, manner: Manner) -> None:
        """Remove a unit and keep its history."""
        found = await self._expected(unit, expected_version, asked, manner=manner)
        assert isinstance(found, Found), "a deletion has no request id"
        await self._refuse_drift(found, asked, manner)
        last = plan_delete(found, asked, pen=await self.pen())
        space, unit_id = self._scope.space, last.unit.unit_id
        stores, container = self._parts.stores, unit_container(space, last.unit.unit_id)
        async with stores.writing(self._scope, container, "delete", timeout_s=manner.timeout_s) as call:
            await _store(call).delete(space, unit_id, last=last, audit=call.audit, timeout_s=call.timeout_s)

    async def _expected(
        self, unit: UnitRef, expected_version: int | None, asked: Asked, *, manner: Manner
    ) -> Found | Work:
        """The unit in the version that was expected; or what an earlier call with the same request id left."""
        expected, unit_id = expected_of(unit, expected_version), unit_id_of(unit)
        key = await self._parts.key()
        stored = await self.load(unit_id, manner=manner)
        if stored.unit.version == expected:
            found = inspect(stored, key=key)
            return await self._with_drift(found, key, manner) if found.drifted else found
        if asked.request_id is not None and expected < stored.unit.version:
            # Only asks whether it was done: versions never fall back, so this write cannot be kept.
            probe = WorkWrite(
                unit=replace(stored.unit, version=expected + 1),
                entries=(),
                attributes=(),
                request_id=asked.request_id,
                fingerprint=asked.fingerprint,
            )
            committed = await self.commit(probe, "save", connection=manner.connection, timeout_s=manner.timeout_s)
            return _work(committed, decoded(stored.attributes)[0])
        raise StaleVersion(
            f"unit of work {unit_id} has version {stored.unit.version}, and {expected} was expected; "
            "read it again and decide again",
            unit_id=str(unit_id),
            found=stored.unit.version,
        )

    async def _with_drift(self, found: Found, key: bytes | None, manner: Manner) -> Found:
        async with self.reading(manner.timeout_s) as (call, store):
            verifier = WorkVerifier(store, self._scope.space, key=key, timeout_s=call.timeout_s)
            return replace(found, attributes=await verifier.drifted(found.stored))

    async def _refuse_drift(self, found: Found, asked: Asked, manner: Manner) -> None:
        if not found.drifted or asked.waive is not None:
            return
        violation = drift_of(found, now=self._parts.stores.environment.clock.now())
        actor_id = asked.actor_id if asked.actor_id is not None else self._scope.actor
        self.violated(subject_of_unit(found.stored.unit, actor_id=actor_id), violation)
        if manner.on_drift != "quarantine":
            raise drift_error(found)
        write = plan_quarantine(found, pen=await self.pen(), actor_id=asked.actor_id)
        committed = await self.commit(write, "quarantine", timeout_s=manner.timeout_s)
        raise drift_error(found, version=committed.unit.version)

    async def done(self, plan: Plan, operation: str, manner: Manner) -> Work:
        """Keep a plan; the unit as it is then."""
        committed = await self.commit(plan.write, operation, connection=manner.connection, timeout_s=manner.timeout_s)
        if not committed.replayed:
            return _work(committed, plan.values)
        stored = await self.load(plan.write.unit.unit_id, manner=manner)
        return _work(committed, decoded(stored.attributes)[0])


def work_of(stored: StoredWork) -> Work:
    """A unit with its values. Raises ``HashDrift`` for one that cannot be read."""
    values, unreadable = decoded(stored.attributes)
    if unreadable:
        raise HashDrift(
            f"unit of work {stored.unit.unit_id} has attributes that cannot be read ({', '.join(unreadable)[:200]}): "
            "they were changed from outside; verify it",
            unit_id=str(stored.unit.unit_id),
            unreadable=list(unreadable),
        )
    return Work(unit=stored.unit, attributes=_in_order(values))


def not_found(unit_id: UUID) -> NotFound:
    """What to raise for a unit that is not there."""
    return NotFound(f"there is no unit of work {unit_id} in this scope", unit_id=str(unit_id))


def _work(committed: WorkCommitted, values: dict[str, TypedValue]) -> Work:
    return Work(unit=committed.unit, attributes=_in_order(values), replayed=committed.replayed)


def _in_order(values: Mapping[str, TypedValue]) -> Mapping[str, TypedValue]:
    # By key, so that what is seen does not depend on the backend.
    return MappingProxyType(dict(sorted(values.items())))


def _check_manner(manner: Manner) -> None:
    if manner.on_drift not in _POLICIES:
        given = str(manner.on_drift)[:40]
        raise Invalid(f"on_drift is {given!r}; one of: {', '.join(_POLICIES)}, or waive= and a reason")
    if manner.connection is not None and manner.guard is not None:
        raise Invalid(
            "a guard may take long, and the transaction behind connection= would wait for it; save with the guard "
            "alone, or ask it before the transaction begins"
        )
    if manner.connection is not None and manner.on_drift == "quarantine":
        raise Invalid("a quarantine must outlast the error it is told by; use it without connection=")


def _store(call: Call) -> WorkStore:
    work = call.backend.work
    if work is None:
        backend = call.resolved.route.backend
        raise Unsupported(
            f"backend {backend} keeps no units of work; route them to another", code="work.unsupported_backend"
        )
    return work
