"""A change: a unit of work as a value. It is built without I/O and committed as one transaction.

Additions (steps, tool calls, effects, checkpoints) compare nothing but that the run is RUNNING, so that any number of
tasks may add to one run at once. The end of a step, a tool call or the run compares, and only with the row it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from perdure.domain import limits
from perdure.domain.canonical import json_bytes
from perdure.domain.change_keys import ReservedKeys
from perdure.domain.change_values import (
    Entities,
    checked_decision,
    checked_duration,
    checked_entities,
    checked_error,
    checked_json,
    checked_object,
    checked_retries,
    checked_state,
    checked_text,
    checked_ttl,
    checked_wait,
    refuse_above,
    refuse_other_step,
)
from perdure.domain.handles import CheckpointRef, EffectRef, Run, StepRef, ToolCallRef
from perdure.domain.ids import (
    check_action,
    check_name,
    check_resource_type,
    effect_idempotency_key,
)
from perdure.domain.operation import (
    AddAudit,
    AddCheckpoint,
    AddEffect,
    AddStep,
    AddToolCall,
    Ending,
    EndRun,
    EndStep,
    EndToolCall,
    Operation,
    apply_endings,
    refuse_other_run,
    undo_endings,
)
from perdure.domain.outbox import check_effect_spec, policy_for
from perdure.domain.run import RunStatus, StepStatus, StepType, ToolCallStatus
from perdure.domain.scope import Scope
from perdure.errors import IllegalTransition, Invalid

_CHECKPOINT_TTL_S = 7 * 86_400.0
_WAIT_S = 86_400.0


class Change:
    """What will be written to one run, in one transaction; made by ``scope.change(run)``.

    Nothing is sent while it is built, and every value is copied when it is given. Methods raise ``Invalid`` and
    ``LimitExceeded`` at once; what depends on the ledger is raised by the commit.
    """

    def __init__(self, scope: Scope, run: Run, *, new_id: Callable[[], UUID]) -> None:
        self.scope = scope
        self.run = run
        self.operations: list[Operation] = []
        self.sequence: int | None = None
        self.attempted = self.uncertain = self._ends_run = False
        self._new_id = new_id
        self._keys = ReservedKeys(run)

    def __len__(self) -> int:
        return len(self.operations)

    def __repr__(self) -> str:
        return f"Change(run={self.run.id}, operations={[type(operation).__name__ for operation in self.operations]})"

    def step(
        self,
        name: str,
        *,
        step_type: StepType | str = StepType.DECISION,
        key: str | None = None,
        input: Any = None,  # noqa: A002 - the word the ledger uses
        output: Mapping[str, Any] | None = None,
        duration_ms: float | None = None,
        specialist_id: str | None = None,
        entities: Entities = (),
        metadata: Any = None,
    ) -> StepRef:
        """Add a step; with ``output`` it is COMPLETED in the same change, else it stays RUNNING.

        ``key`` is unique in the run (default: the name, ``name#2`` the second time). Recording a key again gives the
        recorded step and adds nothing; with other content the commit raises ``KeyReused``. ``duration_ms`` is how long
        it took, in milliseconds. ``entities`` are (type, id) references to what it concerns.
        """
        kind = StepType(step_type)
        if kind is StepType.SPECIALIST_CALL and specialist_id is None:
            raise Invalid(f"step {name!r} is a SPECIALIST_CALL and names no specialist; pass specialist_id=")
        ref = self._new_step(name, kind, key=key)
        self._add(
            AddStep(
                ref=ref,
                input=checked_json(input, f"the input of step {name!r}"),
                specialist_id=checked_text(specialist_id, "specialist_chars_max", limits.SPECIALIST_CHARS_MAX),
                metadata=checked_json(metadata, f"the metadata of step {name!r}"),
                duration_ms=checked_duration(duration_ms),
                ending=self._completed(ref, output),
                entities=checked_entities(entities, new_id=self._new_id),
            )
        )
        return ref

    def complete(self, step: StepRef, *, output: Mapping[str, Any] | None = None) -> None:
        """End a RUNNING step as COMPLETED."""
        recorded = checked_object(output or {}, f"the output of step {step.name!r}")
        self._end_step(step, StepStatus.COMPLETED, {"output_result": recorded})
        step.output = recorded

    def fail(self, step: StepRef, *, error: Mapping[str, Any] | str, retryable: bool = True) -> None:
        """End a RUNNING step as FAILED. ``error`` is a message or an object with at least ``message``."""
        details = checked_error(error, f"the error of step {step.name!r}")
        self._end_step(step, StepStatus.FAILED, {"error_details": details, "retryable": retryable})

    def skip(self, step: StepRef, *, reason: str) -> None:
        """End a RUNNING step as SKIPPED."""
        self._end_step(step, StepStatus.SKIPPED, {"reason": check_name(reason)})

    def retry(
        self,
        step: StepRef,
        *,
        input: Any = None,  # noqa: A002 - the word the ledger uses
        output: Mapping[str, Any] | None = None,
        duration_ms: float | None = None,
    ) -> StepRef:
        """Try a FAILED step again: a new step with the same key, the next index and ``retry_of``."""
        if step.status is not StepStatus.FAILED:
            raise IllegalTransition(f"step {step.key!r} is {step.status}; only a FAILED step is retried")
        refuse_other_step(step, self.run.id)
        ref = self._step_ref(step.name, step.step_type, key=step.key, retry_count=step.retry_count + 1)
        self._add(
            AddStep(
                ref=ref,
                retried_event_id=self._new_id(),
                retried_cause=step.ended_event_id or step.started_event_id,
                retry_of=step.id,
                input=checked_json(input, f"the input of step {step.name!r}"),
                duration_ms=checked_duration(duration_ms),
                ending=self._completed(ref, output),
            )
        )
        return ref

    def wait(
        self,
        name: str,
        *,
        request: Mapping[str, Any],
        timeout_s: float = _WAIT_S,
        key: str | None = None,
        entities: Entities = (),
    ) -> StepRef:
        """Add a WAIT step for an approval; the run is not handed to a worker until it is decided.

        ``timeout_s`` seconds later (at most ``STEP_WAIT_S_MAX``) the relay ends it with decision TIMEOUT.
        """
        wait_s = checked_wait(timeout_s)
        ref = self._new_step(name, StepType.WAIT, key=key)
        content = checked_object(request, f"the request of wait {name!r}")
        self._add(
            AddStep(ref=ref, input=content, wait_s=wait_s, entities=checked_entities(entities, new_id=self._new_id))
        )
        return ref

    def decide(self, step: StepRef, decision: str, *, reason: str | None = None) -> None:
        """End a WAIT step with ``APPROVE`` or ``DENY``; the audit trail keeps that the scope's actor decided it."""
        if step.step_type is not StepType.WAIT:
            raise Invalid(f"step {step.key!r} is a {step.step_type}, not a WAIT; only a WAIT is decided")
        result = {"decision": checked_decision(decision), "decided_by": self.scope.actor}
        result |= {"reason": reason} if reason else {}
        self.complete(step, output=result)
        self.audit("APPROVAL_DECIDED", resource_type="STEP", resource_id=step.id, context=result)

    def tool_call(
        self,
        step: StepRef,
        tool_name: str,
        *,
        args: Any = None,
        result: Any = None,
        error: Mapping[str, Any] | str | None = None,
        pending: bool = False,
        key: str | None = None,
        duration_ms: float | None = None,
        version: str | None = None,
        cache_hit: bool = False,
        metadata: Any = None,
    ) -> ToolCallRef:
        """Record a tool call of ``step``: COMPLETED with ``result``, FAILED with ``error``, or PENDING.

        ``key`` is unique in the step (default: the tool's name and occurrence). ``duration_ms`` is in milliseconds.
        """
        checked_text(tool_name, "tool_name_chars_max", limits.TOOL_NAME_CHARS_MAX)
        ref = ToolCallRef(
            id=self._new_id(),
            step=step,
            key=self._keys.of_call(step, tool_name, key=key),
            tool_name=tool_name,
            status=ToolCallStatus.PENDING,
            called_event_id=self._new_id(),
        )
        ending = None if pending else self._ending_of_call(ref, result, error, cache_hit=cache_hit)
        self._add(
            AddToolCall(
                ref=ref,
                args=checked_json(args if args is not None else {}, f"the arguments of {tool_name!r}"),
                version=checked_text(version, "version_chars_max", limits.VERSION_CHARS_MAX),
                metadata=checked_json(metadata, f"the metadata of {tool_name!r}"),
                duration_ms=checked_duration(duration_ms),
                ending=ending,
            )
        )
        return ref

    def finish_call(
        self,
        call: ToolCallRef,
        *,
        result: Any = None,
        error: Mapping[str, Any] | str | None = None,
        duration_ms: float | None = None,
        cache_hit: bool = False,
    ) -> None:
        """End a PENDING tool call of an earlier change, with ``result`` or with ``error``."""
        if call.status is not ToolCallStatus.PENDING:
            raise IllegalTransition(f"tool call {call.key!r} is {call.status}; only a PENDING one ends")
        ending = self._ending_of_call(call, result, error, cache_hit=cache_hit)
        self._add(EndToolCall(ref=call, ending=ending, duration_ms=checked_duration(duration_ms)))

    def effect(
        self,
        step: StepRef,
        effect_type: str,
        spec: Mapping[str, Any],
        *,
        key: str | None = None,
        independent: bool = False,
        max_retries: int | None = None,
        metadata: Any = None,
    ) -> EffectRef:
        """Request an effect outside: it leaves through the outbox, after this change is committed.

        ``key`` is local to the step's key (default: the type and occurrence); the library prefixes it, so that the
        receiver sees the same idempotency key after every restart, and a retried step does not send twice what its
        first attempt had requested. Effects of a run are delivered in the order they were requested unless
        ``independent``. Secrets are refused in ``spec``: pass ``secret_ref``.
        """
        content = check_effect_spec(effect_type, spec=spec)
        local = self._keys.of_effect(step, effect_type, key=key)
        full = effect_idempotency_key(self.run.id, step_key=step.key, effect_key=local)
        content["idempotency_key"] = full
        refuse_above("payload_bytes_max", limits.PAYLOAD_BYTES_MAX, len(json_bytes(content)))
        retries = checked_retries(policy_for(effect_type).max_retries if max_retries is None else max_retries)
        ref = EffectRef(
            id=self._new_id(),
            outbox_id=self._new_id(),
            step=step,
            effect_type=effect_type,
            key=local,
            idempotency_key=full,
        )
        self._add(
            AddEffect(
                ref=ref,
                event_id=self._new_id(),
                spec=content,
                max_retries=retries,
                independent=independent,
                metadata=checked_json(metadata, "the metadata of an effect"),
            )
        )
        return ref

    def checkpoint(self, state: Any, *, ttl_s: float = _CHECKPOINT_TTL_S) -> CheckpointRef:
        """Keep the run's state, so that another worker can go on from here. It expires after ``ttl_s`` seconds."""
        content, size = checked_state(state)
        ref, ttl_s = CheckpointRef(id=self._new_id()), checked_ttl(ttl_s)
        self._add(AddCheckpoint(ref=ref, event_id=self._new_id(), content=content, size_bytes=size, ttl_s=ttl_s))
        return ref

    def complete_run(self) -> None:
        """End the run as COMPLETED once its steps are done; with effects outstanding, the last delivery does it."""
        self._end_run(RunStatus.COMPLETED, None, None)

    def fail_run(self, reason: str, *, error: Mapping[str, Any] | None = None) -> None:
        """End the run as FAILED; what it has not delivered becomes a dead letter with code RUN_CANCELLED."""
        self._end_run(RunStatus.FAILED, reason, error)

    def cancel_run(self, reason: str) -> None:
        """End the run as CANCELLED; what it has not delivered becomes a dead letter with code RUN_CANCELLED."""
        self._end_run(RunStatus.CANCELLED, reason, None)

    def audit(self, action: str, *, resource_type: str, resource_id: UUID, context: Mapping[str, Any]) -> None:
        """Add an entry to the audit trail, committed with the rest."""
        self._add(
            AddAudit(
                id=self._new_id(),
                action=check_action(action),
                resource_type=check_resource_type(resource_type),
                resource_id=resource_id,
                context=checked_object(context, "the context of an audit entry"),
            )
        )

    def release(self) -> None:
        """Give back the default keys of this change, because it will not be committed."""
        self._keys.release()
        undo_endings(self.operations)

    def hold(self) -> None:
        """Take back what ``release`` gave, because the change is sent after all."""
        self._keys.hold()
        apply_endings(self.operations)

    def _refuse_late(self, *, audit: bool = False) -> None:
        if self.attempted:
            raise IllegalTransition("this change was sent already; what is added now would be lost: begin another")
        if self._ends_run and not audit:
            raise IllegalTransition("this change ends the run; nothing is added after that")

    def _add(self, operation: Operation) -> None:
        self._refuse_late(audit=isinstance(operation, AddAudit))
        refuse_other_run(operation, self.run.id)
        refuse_above("change_operations_max", limits.CHANGE_OPERATIONS_MAX, len(self.operations) + 1)
        self.operations.append(operation)
        self._ends_run = self._ends_run or isinstance(operation, EndRun)

    def _new_step(self, name: str, kind: StepType, *, key: str | None) -> StepRef:
        check_name(name)
        return self._step_ref(name, kind, key=self._keys.of_step(name, key=key), retry_count=0)

    def _step_ref(self, name: str, kind: StepType, *, key: str, retry_count: int) -> StepRef:
        return StepRef(
            id=self._new_id(),
            run_id=self.run.id,
            key=key,
            name=name,
            step_type=kind,
            retry_count=retry_count,
            status=StepStatus.RUNNING,
            started_event_id=self._new_id(),
        )

    def _completed(self, step: StepRef, output: Mapping[str, Any] | None) -> Ending | None:
        if output is None:
            return None
        step.status = StepStatus.COMPLETED
        step.output = checked_object(output, f"the output of step {step.name!r}")
        return Ending(event_id=self._new_id(), status=step.status, data={"output_result": step.output})

    def _end_step(self, step: StepRef, status: StepStatus, data: Mapping[str, Any]) -> None:
        if step.status is not StepStatus.RUNNING:
            raise IllegalTransition(f"step {step.key!r} is {step.status} and cannot become {status}")
        self._refuse_late()
        refuse_other_step(step, self.run.id)
        step.status = status
        step.ended_event_id = self._new_id()
        ending = Ending(event_id=step.ended_event_id, status=status, data=data)
        for position, operation in enumerate(self.operations):
            if isinstance(operation, AddStep) and operation.ref is step:
                # Started and ended in one change: one row, written once.
                self.operations[position] = replace(operation, ending=ending)
                return
        self._add(EndStep(ref=step, ending=ending))

    def _ending_of_call(
        self, ref: ToolCallRef, result: Any, error: Mapping[str, Any] | str | None, *, cache_hit: bool
    ) -> Ending:
        if error is None:
            ref.status = ToolCallStatus.COMPLETED
            data = {"result": checked_json(result, f"the result of {ref.tool_name!r}"), "cache_hit": cache_hit}
        else:
            ref.status = ToolCallStatus.FAILED
            data = {"error_details": checked_error(error, f"the error of {ref.tool_name!r}")}
        return Ending(event_id=self._new_id(), status=ref.status, data=data)

    def _end_run(self, status: RunStatus, reason: str | None, error: Mapping[str, Any] | None) -> None:
        checked_text(reason, "exit_reason_chars_max", limits.EXIT_REASON_CHARS_MAX)
        details = None if error is None else checked_object(error, "the error of a run")
        self._add(EndRun(event_id=self._new_id(), status=status, exit_reason=reason, error=details))
