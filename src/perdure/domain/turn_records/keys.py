"""Idempotency keys of records, in the formats that their readers know.

Lengths count bytes of UTF-8, so that no text can be mistaken for another's separators.
"""

from __future__ import annotations

from typing import Final

from perdure.errors import Invalid

RUN_SCOPE: Final = "__run__"  # stands for node and attempt where a record is about the whole run
PARALLEL_SCOPE: Final = "__parallel__"  # the same for a parallel section


def agent_key(session_id: str, *, index: int, event_kind: str) -> str:
    """The key of a record of an agent session. ``index`` counts the session's records from 0."""
    session = _part(session_id, what="the session id")
    kind = _part(event_kind, what="the event kind")
    return f"forge-agent:v1|{session}|{_count(index, least=0, what='index')}|{kind}"


def attractor_key(run_id: str, *, node_id: str, stage_attempt_id: str, event_kind: str, sequence_no: int) -> str:
    """The key of a record of a run. ``sequence_no`` counts the run's records from 1.

    A record about the whole run has ``RUN_SCOPE`` for both node and attempt.
    """
    parts = (
        _part(run_id, what="the run id"),
        _part(node_id, what="the node id"),
        _part(stage_attempt_id, what="the stage attempt id"),
        _part(event_kind, what="the event kind"),
    )
    return f"forge-attractor:v1|{'|'.join(parts)}|{_count(sequence_no, least=1, what='sequence_no')}"


def stage_attempt_id(node_id: str, *, attempt: int) -> str:
    """The id of an attempt at a node, from 1. Later visits of the node repeat it; ``node_visit`` tells them apart."""
    _part(node_id, what="the node id")
    return f"{node_id}:attempt:{_count(attempt, least=1, what='attempt')}"


def _part(value: object, *, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid(f"{what} of an idempotency key must be text that is not empty, not {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as exc:
        raise Invalid(f"{what} of an idempotency key holds half a character (a lone surrogate) at {exc.start}") from exc
    return f"{size}:{value}"


def _count(value: object, *, least: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise Invalid(f"{what} of an idempotency key is {ascii(value)[:40]}; expected an integer from {least} on")
    return int(value)
