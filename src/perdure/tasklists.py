"""Task lists that nodes edit offline, merge and restart from: ``async with perdure.tasklists.open("sprint") as tasks``.

What is named here is public and stays. A plane has them per tenant: ``acme.tasklists.open("sprint")``.
"""

from __future__ import annotations

from perdure.compose.tasklists import open_tasklist as open  # noqa: A004 - perdure.tasklists.open() is what people write
from perdure.compose.tasklists import stream_transport
from perdure.core.tasklist_checkpointing import CheckpointOutcome
from perdure.core.tasklist_sync import ResyncHealth
from perdure.core.tasklist_transports import Hub, HubTransport, StreamTransport
from perdure.core.tasklists import TaskList, TaskLists
from perdure.domain.tasklists.frequency import CheckpointFrequency, HostPolicyEnvelope
from perdure.domain.tasklists.health import Health, Observation
from perdure.domain.tasklists.tasks import Task, TaskListView, TaskStatus
from perdure.ports.transports import Transport

__all__ = [
    "CheckpointFrequency",
    "CheckpointOutcome",
    "Health",
    "HostPolicyEnvelope",
    "Hub",
    "HubTransport",
    "Observation",
    "ResyncHealth",
    "StreamTransport",
    "Task",
    "TaskList",
    "TaskListView",
    "TaskLists",
    "TaskStatus",
    "Transport",
    "open",
    "stream_transport",
]
