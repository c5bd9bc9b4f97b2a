"""What the payload of a declared signal must hold, by its type."""  # noqa: A005 - a signal is a signal; nothing here imports the other one

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from perdure.domain.run import SignalType
from perdure.domain.shape import Field, Shape, problems_of

PAYLOAD_CONTRACTS: Final[Mapping[SignalType, tuple[Field, ...]]] = MappingProxyType(
    {
        SignalType.EMAIL: (
            Field(name="from", shape=Shape.TEXT_FILLED, required=True),
            Field(name="to", shape=Shape.RECIPIENTS, required=True),
            Field(name="subject", shape=Shape.TEXT, required=True),
            Field(name="body", shape=Shape.TEXT, required=True),
            Field(name="attachments", shape=Shape.OBJECTS),
            Field(name="headers", shape=Shape.OBJECT),
        ),
        SignalType.WEBHOOK: (
            Field(name="webhook_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="event_type", shape=Shape.TEXT_FILLED, required=True),
            Field(name="payload", shape=Shape.ANY, required=True),
            Field(name="signature_valid", shape=Shape.FLAG, required=True),
        ),
        SignalType.CHAT_MESSAGE: (
            Field(name="channel_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="user_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="text", shape=Shape.TEXT, required=True),
            Field(name="thread_ts", shape=Shape.TEXT),
            Field(name="mentions", shape=Shape.TEXTS),
        ),
        SignalType.API_CALL: (
            Field(name="method", shape=Shape.TEXT_FILLED, required=True),
            Field(name="path", shape=Shape.TEXT_FILLED, required=True),
            Field(name="body", shape=Shape.ANY),
        ),
        SignalType.SCHEDULED_TASK: (
            Field(name="schedule_id", shape=Shape.TEXT_FILLED, required=True),
            Field(name="scheduled_for", shape=Shape.TEXT_FILLED, required=True),
        ),
        SignalType.HUMAN_COMMAND: (
            Field(name="command", shape=Shape.TEXT_FILLED, required=True),
            Field(name="issued_by", shape=Shape.TEXT_FILLED, required=True),
            Field(name="args", shape=Shape.ANY),
        ),
    }
)

_ATTACHMENT: Final = (
    Field(name="name", shape=Shape.TEXT_FILLED, required=True),
    Field(name="blob_id", shape=Shape.TEXT_FILLED, required=True),
)


def validate_payload(signal_type: SignalType, *, payload: object, declared: bool) -> list[str]:
    """What is wrong with a signal's payload, one sentence a problem; empty when it may be processed.

    A signal is API_CALL unless its sender declares another type, and only a declared type is held to its contract: a
    body of which nothing was promised cannot break a promise.
    """
    if not declared:
        return []
    problems = problems_of(PAYLOAD_CONTRACTS[signal_type], value=payload)
    if signal_type is SignalType.EMAIL and not problems and isinstance(payload, Mapping):
        for index, attachment in enumerate(payload.get("attachments") or ()):
            problems += [f"attachments[{index}]: {problem}" for problem in problems_of(_ATTACHMENT, value=attachment)]
    return problems
