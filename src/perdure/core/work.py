"""Units of work of one tenant's scope: every transition atomic, hashed, chained to the one before, and provable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID, uuid5

from perdure.core.work_approvals import Approval, ApprovalAnswer
from perdure.core.work_asking import SCHEMA_DEFAULT, UnitRef, asked, check_host_id, unit_id_of
from perdure.core.work_guards import GUARD_TIMEOUT_S_DEFAULT
from perdure.core.work_planning import plan_create
from perdure.core.work_reads import WorkReads
from perdure.core.work_saving import Manner
from perdure.core.work_sweeping import (
    APPROVAL_S_DEFAULT,
    OLDER_THAN_S_DEFAULT,
    RETRIES_MAX_DEFAULT,
    WorkSweeper,
)
from perdure.domain.canonical import canonical_json
from perdure.domain.ids import PERDURE_NAMESPACE, check_text
from perdure.domain.typed_values import TypedValue
from perdure.domain.work import HOST_ID_CHARS_MAX, WorkStatus, WorkUnit
from perdure.domain.work_results import DriftPolicy, Swept, Work
from perdure.errors import Invalid, LeaseLost, NotFound, StaleVersion
from perdure.ports.guards import Guard
from perdure.ports.ledger import JoinedConnection


class WorkUnits(WorkReads):
    """Units of work: a status, versioned attributes, and a history in which every entry proves the one before.

    A unit is given as it was read (``Work``), or by its id. Saves say which version they have seen; of all that have
    seen the same one, one is kept.
    """

    async def create(
        self,
        *,
        instance: str,
        attributes: Mapping[str, TypedValue] | None = None,
        schema: str = SCHEMA_DEFAULT,
        unit_id: UUID | str | None = None,
        parent: UnitRef | None = None,
        interaction: str | None = None,
        actor: str | None = None,
        role: str | None = None,
        interactions_max: int | None = None,
        reasoning: str | None = None,
        metadata: Mapping[str, object] | None = None,
        request_id: str | None = None,
        connection: JoinedConnection | None = None,
        timeout_s: float | None = None,
    ) -> Work:
        """Make a unit, PENDING, with the first entry of its history.

        ``instance``, ``interaction``, ``actor`` (the scope's unless given) and ``role`` are ids of yours. ``schema``
        names the shape of the attributes and is part of their hash. With ``interactions_max`` an ACTIVE unit that comes
        to that many interactions is locked: ZOMBIED_SOFT. With a ``request_id`` the same call again gives the same
        unit.

        With ``connection`` (a psycopg AsyncConnection of your own, inside your transaction) the unit becomes part of
        that transaction: neither committed nor rolled back here.

        Raises ``Invalid``, ``LimitExceeded``, ``StaleVersion`` (the id is taken, also by a unit that was deleted),
        ``KeyReused``, ``NotFound`` (the parent), ``NoRoute``, ``Unavailable``.
        """
        wanted = asked(
            attributes=attributes,
            interaction_id=interaction,
            actor_id=actor,
            reasoning=reasoning,
            metadata=metadata,
            request_id=request_id,
        )
        if interactions_max is not None and interactions_max < 1:
            raise Invalid(f"interactions_max is {interactions_max}; at least 1 is expected, or None for any number")
        pen = await self._saving.pen()
        unit = WorkUnit(
            unit_id=self._new_id(request_id) if unit_id is None else unit_id_of(unit_id),
            instance_id=_required(instance, what="an instance"),
            schema=_required(schema, what="a schema"),
            status=WorkStatus.PENDING,
            version=0,
            created_at=pen.now,
            updated_at=pen.now,
            interaction_id=wanted.interaction_id,
            actor_id=wanted.actor_id if wanted.actor_id is not None else pen.actor_id,
            role_id=check_host_id(role, what="a role"),
            parent_id=None if parent is None else unit_id_of(parent),
            interactions_max=interactions_max,
        )
        manner = Manner(connection=connection, timeout_s=timeout_s)
        return await self._saving.done(plan_create(unit, wanted, pen=pen), "create", manner)

    async def save(
        self,
        unit: UnitRef,
        *,
        expected_version: int | None = None,
        new_status: WorkStatus | str | None = None,
        attributes: Mapping[str, TypedValue] | None = None,
        removed: Collection[str] = (),
        new_interaction_id: str | None = None,
        actor_id: str | None = None,
        reasoning: str | None = None,
        metadata: Mapping[str, object] | None = None,
        guard: Guard | None = None,
        guard_timeout_s: float = GUARD_TIMEOUT_S_DEFAULT,
        waive: str | None = None,
        on_drift: DriftPolicy = "reject",
        lease_owner: str | None = None,
        request_id: str | None = None,
        connection: JoinedConnection | None = None,
        timeout_s: float | None = None,
    ) -> Work:
        """Save a unit: status, changed ``attributes``, interaction and history in one commit, or nothing.

        ``expected_version`` is the version that was read; a unit given as it was read has it. ``attributes`` are those
        that change; one that is not named stays, one in ``removed`` goes. A change of status or interaction adds
        STATE_TRANSITION to the history, one of attributes alone ATTRIBUTES_CHANGED, with ``reasoning`` and ``metadata``
        as given; no change adds nothing. To an ACTIVE unit every save is a sign of life.

        First the stored hash is compared with the attributes. When they differ, ``on_drift`` says what to do: "reject"
        raises ``HashDrift``, "quarantine" moves the unit to FAILED_SECURITY_BREACH and raises it too. Then ``guard`` is
        asked, outside any transaction; what it denies, or fails to answer in ``guard_timeout_s``, is not saved and
        raises ``Forbidden`` (``guard_denied``); where it asks for an approval, the unit is parked and keeps what was to
        be done. ``waive`` is the reason for which
        drift, or a transition that the table does not have, is accepted; the history keeps it.

        With ``request_id`` the same call again changes nothing. ``lease_owner`` takes the lease of a unit that becomes
        ACTIVE.

        With ``connection`` (a psycopg AsyncConnection of your own, inside your transaction) the save becomes part of
        that transaction: neither committed nor rolled back here. It takes no guard and no quarantine then.

        Raises ``StaleVersion``, ``IllegalTransition``, ``HashDrift``, ``Forbidden``, ``LeaseLost``, ``KeyReused``,
        ``NotFound``, ``Invalid``, ``LimitExceeded``, ``NoRoute``, ``Unavailable``. Nothing is tried again by itself.
        """
        wanted = asked(
            new_status=new_status,
            attributes=attributes,
            removed=removed,
            interaction_id=new_interaction_id,
            actor_id=actor_id,
            reasoning=reasoning,
            metadata=metadata,
            waive=waive,
            lease_owner=lease_owner,
            request_id=request_id,
        )
        manner = Manner(
            guard=guard,
            guard_timeout_s=guard_timeout_s,
            on_drift=on_drift,
            connection=connection,
            timeout_s=timeout_s,
        )
        return await self._saving.save(unit, expected_version, wanted, manner=manner)

    async def checkout(
        self,
        unit: UnitRef,
        *,
        owner: str,
        expected_version: int | None = None,
        actor_id: str | None = None,
        guard: Guard | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Work:
        """Take a unit to work on it: ACTIVE, with a lease of ``owner`` that heartbeats and saves keep alive.

        Raises as ``save``; ``StaleVersion`` when somebody else was first, ``LeaseLost`` when it is ACTIVE already and
        another's.
        """
        wanted = asked(
            new_status=WorkStatus.ACTIVE,
            actor_id=actor_id,
            lease_owner=_required(owner, what="a lease owner"),
            request_id=request_id,
        )
        manner = Manner(guard=guard, timeout_s=timeout_s)
        return await self._saving.save(unit, expected_version, wanted, manner=manner)

    async def heartbeat(self, unit: UnitRef, *, owner: str, timeout_s: float | None = None) -> bool:
        """Say that the owner of a lease is alive: no version, and no history. False if there is no such unit.

        Raises ``LeaseLost`` if the unit is not ACTIVE, or its lease is another's.
        """
        unit_id, who = unit_id_of(unit), _required(owner, what="a lease owner")
        now = self._parts.stores.environment.clock.now()
        async with self._saving.reading(timeout_s) as (call, store):
            try:
                await store.heartbeat(self._scope.space, unit_id, owner=who, now=now, timeout_s=call.timeout_s)
            except NotFound:
                return False
            except StaleVersion as exc:
                raise LeaseLost(
                    f"unit of work {unit_id} is not ACTIVE under this owner's lease; discard the work in hand",
                    unit_id=str(unit_id),
                ) from exc
        return True

    async def approve(
        self,
        unit: UnitRef,
        *,
        actor_id: str,
        expected_version: int | None = None,
        reasoning: str | None = None,
        metadata: Mapping[str, object] | None = None,
        waive: str | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Work:
        """Let a parked unit go on: what was to be done is done now, and it goes to the status that was intended.

        The history says who approved, in a PILOT_OVERRIDE. With ``waive`` it goes on although a rule is against it, for
        that reason. Raises as ``save``, ``IllegalTransition`` for a unit that waits for no approval, and ``Forbidden``
        (``not_an_approver``).
        """
        wanted = asked(actor_id=actor_id, reasoning=reasoning, metadata=metadata, waive=waive, request_id=request_id)
        answer = ApprovalAnswer.APPROVED if waive is None else ApprovalAnswer.WAIVED
        approval = Approval(answer=answer, approver=actor_id, reason=reasoning if waive is None else waive)
        manner = Manner(timeout_s=timeout_s)
        return await self._saving.answer(unit, expected_version, wanted, approval=approval, manner=manner)

    async def reject(
        self,
        unit: UnitRef,
        *,
        actor_id: str,
        reasoning: str,
        expected_version: int | None = None,
        metadata: Mapping[str, object] | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Work:
        """Refuse what a parked unit waits for: it is FAILED, and what was to be done is not. Raises as ``approve``."""
        wanted = asked(actor_id=actor_id, reasoning=reasoning, metadata=metadata, request_id=request_id)
        approval = Approval(answer=ApprovalAnswer.REJECTED, approver=actor_id, reason=reasoning)
        manner = Manner(timeout_s=timeout_s)
        return await self._saving.answer(unit, expected_version, wanted, approval=approval, manner=manner)

    async def delete(
        self,
        unit: UnitRef,
        *,
        expected_version: int | None = None,
        actor_id: str | None = None,
        reasoning: str | None = None,
        metadata: Mapping[str, object] | None = None,
        waive: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Remove a unit and its attributes. Its history stays, ended by WORK_DELETED, and its id is not used again.

        Raises ``NotFound``, ``StaleVersion``, and ``HashDrift`` unless ``waive`` says why that may be lost.
        """
        wanted = asked(actor_id=actor_id, reasoning=reasoning, metadata=metadata, waive=waive)
        await self._saving.delete(unit, expected_version, wanted, manner=Manner(timeout_s=timeout_s))

    async def sweep(
        self,
        *,
        older_than_s: float = OLDER_THAN_S_DEFAULT,
        retries_max: int = RETRIES_MAX_DEFAULT,
        approval_s: float = APPROVAL_S_DEFAULT,
        timeout_s: float | None = None,
    ) -> Swept:
        """Take ACTIVE units without a sign of life for ``older_than_s`` from their owners: ZOMBIED_SOFT.

        Those that were tried again ``retries_max`` times are ZOMBIED_DEAD then, and parked ones without an answer for
        ``approval_s`` are ZOMBIED_SOFT. Each with its reason in the history. A heartbeat that comes between wins.
        ``timeout_s`` is for each unit. Safe to call from several processes at a time.
        """
        sweeper = WorkSweeper(
            self._saving,
            self._scope.space,
            older_than_s=older_than_s,
            approval_s=approval_s,
            retries_max=retries_max,
        )
        return await sweeper.run(timeout_s=timeout_s)

    def _new_id(self, request_id: str | None) -> UUID:
        if request_id is None:
            return self._parts.stores.environment.ids.new()
        # The same request makes the same unit, whoever sends it again.
        space = self._scope.space
        place = [space.tenant, space.mode, space.env, space.project, space.surface, space.app]
        return uuid5(PERDURE_NAMESPACE, canonical_json(["work", *place, request_id]).decode())


def _required(value: str, *, what: str) -> str:
    return check_text(
        value, what=what, limit="host_id_chars_max", chars_max=HOST_ID_CHARS_MAX, blank_edges_allowed=True
    )
