"""The persistence plane for agent systems: everything a run does, kept once, traced, isolated and provable.

>>> import perdure
>>> async with perdure.open() as plane:
...     acme = plane.scope(tenant="t_acme", actor="agent:planner")
...     run = await acme.runs.start("invoice-triage", signal=("billing", "msg-7"), input={"invoice": 42})
...     async with acme.change(run) as change:
...         step = change.step("classify", output={"label": "high"})

What is named here is public and stays; everything else may move.
"""

from __future__ import annotations

from perdure import errors
from perdure.compose import open_plane as open  # noqa: A004 - perdure.open() is what people write
from perdure.core.plane import Plane, Tenant
from perdure.domain.change import Change
from perdure.domain.event import Aggregate, Event, EventType
from perdure.domain.handles import CheckpointRef, EffectRef, Run, StepRef, ToolCallRef
from perdure.domain.ids import PERDURE_NAMESPACE, tenant_uuid
from perdure.domain.records import Effect, OutboxEntry, Page, RunRecord, Signal, Step, ToolCall
from perdure.domain.run import (
    EffectStatus,
    OutboxStatus,
    RunStatus,
    RunType,
    SignalStatus,
    SignalType,
    StepStatus,
    StepType,
    ToolCallStatus,
)
from perdure.domain.trace import Trace
from perdure.ports.relay import Delivery, DeliveryFailed

__version__ = "0.1.0"

__all__ = [
    "PERDURE_NAMESPACE",
    "Aggregate",
    "Change",
    "CheckpointRef",
    "Delivery",
    "DeliveryFailed",
    "Effect",
    "EffectRef",
    "EffectStatus",
    "Event",
    "EventType",
    "OutboxEntry",
    "OutboxStatus",
    "Page",
    "Plane",
    "Run",
    "RunRecord",
    "RunStatus",
    "RunType",
    "Signal",
    "SignalStatus",
    "SignalType",
    "Step",
    "StepRef",
    "StepStatus",
    "StepType",
    "Tenant",
    "ToolCall",
    "ToolCallRef",
    "ToolCallStatus",
    "Trace",
    "errors",
    "open",
    "tenant_uuid",
]
