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

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from perdure import errors

if TYPE_CHECKING:
    from perdure import tasklists
    from perdure.compose import open_plane as open  # noqa: A004 - perdure.open() is what people write
    from perdure.core.journal_links import Stage
    from perdure.core.plane import Plane, Tenant
    from perdure.core.recorder import Recorder
    from perdure.core.recorder_limits import RecorderLimits
    from perdure.core.run_journal import RunJournal
    from perdure.core.session_journal import SessionJournal
    from perdure.core.tasklists import TaskList
    from perdure.core.work_approvals import HighRiskGuard
    from perdure.core.work_guards import ReadyGuard
    from perdure.domain.change import Change
    from perdure.domain.conditions import Branch
    from perdure.domain.event import Aggregate, Event, EventType
    from perdure.domain.handles import CheckpointRef, EffectRef, Run, StepRef, ToolCallRef
    from perdure.domain.ids import PERDURE_NAMESPACE, tenant_uuid
    from perdure.domain.kinds import Kind
    from perdure.domain.memory import Blackboard, Message, Remembered, Session, Window
    from perdure.domain.object import ObjectRef
    from perdure.domain.records import Effect, OutboxEntry, Page, RunRecord, Signal, Step, ToolCall
    from perdure.domain.route import Route
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
    from perdure.domain.stream import AppendedEvent, StreamEvent, StreamHead, StreamPage
    from perdure.domain.table import Row, RowsPage, TableDelete, TablePut
    from perdure.domain.tasklists.tasks import Task, TaskListView, TaskStatus
    from perdure.domain.trace import Trace
    from perdure.domain.turn import Context, Turn, TurnRef
    from perdure.domain.work import HistoryEntry, HistoryEvent, WorkStatus, WorkUnit
    from perdure.domain.work_anchor import WorkAnchor
    from perdure.domain.work_results import Swept, Work, WorkCheck, WorkVerification
    from perdure.ports.guards import Allow, Ask, Deny, GuardRequest, Verdict
    from perdure.ports.relay import Delivery, DeliveryFailed

__version__ = "0.1.0"

__all__ = [
    "PERDURE_NAMESPACE",
    "Aggregate",
    "Allow",
    "AppendedEvent",
    "Ask",
    "Blackboard",
    "Branch",
    "Change",
    "CheckpointRef",
    "Context",
    "Delivery",
    "DeliveryFailed",
    "Deny",
    "Effect",
    "EffectRef",
    "EffectStatus",
    "Event",
    "EventType",
    "GuardRequest",
    "HighRiskGuard",
    "HistoryEntry",
    "HistoryEvent",
    "Kind",
    "Message",
    "ObjectRef",
    "OutboxEntry",
    "OutboxStatus",
    "Page",
    "Plane",
    "ReadyGuard",
    "Recorder",
    "RecorderLimits",
    "Remembered",
    "Route",
    "Row",
    "RowsPage",
    "Run",
    "RunJournal",
    "RunRecord",
    "RunStatus",
    "RunType",
    "Session",
    "SessionJournal",
    "Signal",
    "SignalStatus",
    "SignalType",
    "Stage",
    "Step",
    "StepRef",
    "StepStatus",
    "StepType",
    "StreamEvent",
    "StreamHead",
    "StreamPage",
    "Swept",
    "TableDelete",
    "TablePut",
    "Task",
    "TaskList",
    "TaskListView",
    "TaskStatus",
    "Tenant",
    "ToolCall",
    "ToolCallRef",
    "ToolCallStatus",
    "Trace",
    "Turn",
    "TurnRef",
    "Verdict",
    "Window",
    "Work",
    "WorkAnchor",
    "WorkCheck",
    "WorkStatus",
    "WorkUnit",
    "WorkVerification",
    "errors",
    "open",
    "tasklists",
    "tenant_uuid",
]

# Each public name is imported when it is first asked for: `perdure --help` needs none of them, and most of the time of
# a short command would be spent on a database driver that it does not use.
_HOMES: Final = {
    "Aggregate": ("perdure.domain.event", "Aggregate"),
    "Allow": ("perdure.ports.guards", "Allow"),
    "AppendedEvent": ("perdure.domain.stream", "AppendedEvent"),
    "Ask": ("perdure.ports.guards", "Ask"),
    "Blackboard": ("perdure.domain.memory", "Blackboard"),
    "Branch": ("perdure.domain.conditions", "Branch"),
    "Change": ("perdure.domain.change", "Change"),
    "CheckpointRef": ("perdure.domain.handles", "CheckpointRef"),
    "Context": ("perdure.domain.turn", "Context"),
    "Delivery": ("perdure.ports.relay", "Delivery"),
    "DeliveryFailed": ("perdure.ports.relay", "DeliveryFailed"),
    "Deny": ("perdure.ports.guards", "Deny"),
    "Effect": ("perdure.domain.records", "Effect"),
    "EffectRef": ("perdure.domain.handles", "EffectRef"),
    "EffectStatus": ("perdure.domain.run", "EffectStatus"),
    "Event": ("perdure.domain.event", "Event"),
    "EventType": ("perdure.domain.event", "EventType"),
    "GuardRequest": ("perdure.ports.guards", "GuardRequest"),
    "HighRiskGuard": ("perdure.core.work_approvals", "HighRiskGuard"),
    "HistoryEntry": ("perdure.domain.work", "HistoryEntry"),
    "HistoryEvent": ("perdure.domain.work", "HistoryEvent"),
    "Kind": ("perdure.domain.kinds", "Kind"),
    "Message": ("perdure.domain.memory", "Message"),
    "ObjectRef": ("perdure.domain.object", "ObjectRef"),
    "OutboxEntry": ("perdure.domain.records", "OutboxEntry"),
    "OutboxStatus": ("perdure.domain.run", "OutboxStatus"),
    "PERDURE_NAMESPACE": ("perdure.domain.ids", "PERDURE_NAMESPACE"),
    "Page": ("perdure.domain.records", "Page"),
    "Plane": ("perdure.core.plane", "Plane"),
    "ReadyGuard": ("perdure.core.work_guards", "ReadyGuard"),
    "Recorder": ("perdure.core.recorder", "Recorder"),
    "RecorderLimits": ("perdure.core.recorder_limits", "RecorderLimits"),
    "Remembered": ("perdure.domain.memory", "Remembered"),
    "Route": ("perdure.domain.route", "Route"),
    "Row": ("perdure.domain.table", "Row"),
    "RowsPage": ("perdure.domain.table", "RowsPage"),
    "Run": ("perdure.domain.handles", "Run"),
    "RunJournal": ("perdure.core.run_journal", "RunJournal"),
    "RunRecord": ("perdure.domain.records", "RunRecord"),
    "RunStatus": ("perdure.domain.run", "RunStatus"),
    "RunType": ("perdure.domain.run", "RunType"),
    "Session": ("perdure.domain.memory", "Session"),
    "SessionJournal": ("perdure.core.session_journal", "SessionJournal"),
    "Signal": ("perdure.domain.records", "Signal"),
    "SignalStatus": ("perdure.domain.run", "SignalStatus"),
    "SignalType": ("perdure.domain.run", "SignalType"),
    "Stage": ("perdure.core.journal_links", "Stage"),
    "Step": ("perdure.domain.records", "Step"),
    "StepRef": ("perdure.domain.handles", "StepRef"),
    "StepStatus": ("perdure.domain.run", "StepStatus"),
    "StepType": ("perdure.domain.run", "StepType"),
    "StreamEvent": ("perdure.domain.stream", "StreamEvent"),
    "StreamHead": ("perdure.domain.stream", "StreamHead"),
    "StreamPage": ("perdure.domain.stream", "StreamPage"),
    "Swept": ("perdure.domain.work_results", "Swept"),
    "TableDelete": ("perdure.domain.table", "TableDelete"),
    "TablePut": ("perdure.domain.table", "TablePut"),
    "Task": ("perdure.domain.tasklists.tasks", "Task"),
    "TaskList": ("perdure.core.tasklists", "TaskList"),
    "TaskListView": ("perdure.domain.tasklists.tasks", "TaskListView"),
    "TaskStatus": ("perdure.domain.tasklists.tasks", "TaskStatus"),
    "Tenant": ("perdure.core.plane", "Tenant"),
    "ToolCall": ("perdure.domain.records", "ToolCall"),
    "ToolCallRef": ("perdure.domain.handles", "ToolCallRef"),
    "ToolCallStatus": ("perdure.domain.run", "ToolCallStatus"),
    "Trace": ("perdure.domain.trace", "Trace"),
    "Turn": ("perdure.domain.turn", "Turn"),
    "TurnRef": ("perdure.domain.turn", "TurnRef"),
    "Verdict": ("perdure.ports.guards", "Verdict"),
    "Window": ("perdure.domain.memory", "Window"),
    "Work": ("perdure.domain.work_results", "Work"),
    "WorkAnchor": ("perdure.domain.work_anchor", "WorkAnchor"),
    "WorkCheck": ("perdure.domain.work_results", "WorkCheck"),
    "WorkStatus": ("perdure.domain.work", "WorkStatus"),
    "WorkUnit": ("perdure.domain.work", "WorkUnit"),
    "WorkVerification": ("perdure.domain.work_results", "WorkVerification"),
    "open": ("perdure.compose", "open_plane"),
    "tenant_uuid": ("perdure.domain.ids", "tenant_uuid"),
}


def __getattr__(name: str) -> Any:
    if name == "tasklists":
        return import_module("perdure.tasklists")
    try:
        home, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}") from None
    value = getattr(import_module(home), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
