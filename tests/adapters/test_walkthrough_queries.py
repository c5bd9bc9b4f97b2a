"""The debugging queries of the walkthrough, as they are printed there: they run for the app role within a tenant, and
what they say is what a trace says.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from perdure.core.plane import Tenant
from perdure.domain.records import OutboxEntry
from perdure.domain.trace import Trace
from tests.support.databases import DIRECT, Database, engines
from tests.support.stories import ACTOR, Story, failure, plane_on, triage

QUERIES: Final = {
    "locate signal": """
SELECT * FROM signals WHERE correlation_id = $correlation_id;
""",
    "locate run": """
SELECT * FROM runs WHERE correlation_id = $correlation_id;
""",
    "reconstruct steps": """
SELECT * FROM steps
WHERE run_id = $run_id
ORDER BY step_index ASC;
""",
    "retrieve events": """
SELECT event_type, event_data, occurred_at, actor
FROM orchestration_events
WHERE correlation_id = $correlation_id
ORDER BY sequence_number ASC;
""",
    "check effects": """
SELECT e.id, e.effect_type, e.status, e.execution_result
FROM effects e
JOIN runs r ON e.run_id = r.id
WHERE r.correlation_id = $correlation_id;
""",
    "check outbox": """
SELECT o.event_type, o.status, o.retry_count, o.error_details
FROM outbox_events o
WHERE o.correlation_id = $correlation_id;
""",
    "validate causation chain": """
WITH RECURSIVE causal_chain AS (
  SELECT id, event_type, causation_id, 0 AS depth
  FROM orchestration_events
  WHERE correlation_id = $correlation_id AND causation_id IS NULL
  
  UNION ALL
  
  SELECT e.id, e.event_type, e.causation_id, c.depth + 1
  FROM orchestration_events e
  JOIN causal_chain c ON e.causation_id = c.id
)
SELECT * FROM causal_chain ORDER BY depth ASC;
""",  # noqa: W293 - as it is printed
    "failed steps": """
SELECT id, step_type, error_details
FROM steps
WHERE run_id = $run_id AND status = 'FAILED';
""",
    "failure cause": """
SELECT event_type, event_data
FROM orchestration_events
WHERE aggregate_id = $failed_step_id AND event_type = 'STEP_FAILED';
""",
    "failed tool calls": """
SELECT tool_name, tool_args, error_details
FROM tool_calls
WHERE step_id = $failed_step_id AND status = 'FAILED';
""",
    "retry attempts": """
SELECT retry_count FROM steps WHERE id = $failed_step_id;
""",
    "effect status": """
SELECT status, retry_count, next_retry_at
FROM effects
WHERE id = $effect_id;
""",
    "outbox entry": """
SELECT status, error_details, retry_count
FROM outbox_events
WHERE aggregate_type = 'EFFECT' AND aggregate_id = $effect_id;
""",
    "dead letter reason": """
SELECT error_details FROM outbox_events WHERE id = $outbox_id;
""",
}

REQUEUE: Final = """
UPDATE outbox_events
SET status = 'PENDING', retry_count = 0, next_retry_at = NULL
WHERE id = $outbox_id;
"""


def parametrised(query: str) -> bytes:
    return re.sub(r"\$([a-z_]+)", r"%(\1)s", query).encode()


@contextmanager
def within(database: Database, role: str, tenant_id: UUID | None) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(database.direct_dsn(role), row_factory=dict_row) as connection:
        connection.execute("SET LOCAL search_path = perdure")
        if tenant_id is not None:
            connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(tenant_id),))
        yield connection
        connection.rollback()


class Walkthrough:
    """The queries with the ids of one story, in the tenant's context, as the app role."""

    def __init__(self, database: Database, story: Story, acme: Tenant) -> None:
        assert story.failed is not None
        self.database = database
        self.tenant_id = acme.scope.tenant_id
        self.ids = {
            "correlation_id": story.run.correlation_id,
            "run_id": story.run.id,
            "failed_step_id": story.failed.id,
            "effect_id": story.mail.id,
            "outbox_id": story.mail.outbox_id,
        }

    def ask(self, name: str, *, tenant_id: UUID | None = None) -> list[dict[str, Any]]:
        with within(self.database, "app", tenant_id or self.tenant_id) as connection:
            return connection.execute(parametrised(QUERIES[name]), self.ids).fetchall()


@asynccontextmanager
async def a_failed_run(database: Database) -> AsyncIterator[tuple[Walkthrough, Trace]]:
    async with plane_on(database) as plane:
        acme = plane.scope("t_acme", actor=ACTOR)
        await triage(acme, 1)
        await triage(plane.scope("t_other", actor=ACTOR), 2)
        story = await failure(acme)
        yield Walkthrough(database, story, acme), await acme.trace(story.run.correlation_id)


@engines(*DIRECT)
async def test_the_printed_queries_agree_with_the_trace(database: Database):
    async with a_failed_run(database) as (walkthrough, trace):
        ask = walkthrough.ask
        [run], [signal] = trace.runs, trace.signals
        assert [row["id"] for row in ask("locate signal")] == [signal.id]
        assert [(row["id"], row["status"]) for row in ask("locate run")] == [(run.id, "FAILED")]
        assert [row["id"] for row in ask("reconstruct steps")] == [step.id for step in trace.steps_of(run.id)]
        assert [(row["event_type"], row["event_data"], row["actor"]) for row in ask("retrieve events")] == [
            (event.event_type, event.event_data, event.actor) for event in trace.events
        ]
        [effect] = trace.effects
        [entry] = trace.outbox
        assert [(row["id"], row["effect_type"], row["status"]) for row in ask("check effects")] == [
            (effect.id, effect.effect_type, effect.status)
        ]
        assert ask("check outbox") == [_outbox_row(entry)]
        depths = {node.event.id: node.depth for root in trace.tree() for node in root.walk()}
        assert {row["id"]: row["depth"] for row in ask("validate causation chain")} == depths


@engines(*DIRECT)
async def test_the_printed_queries_diagnose_the_failed_run_and_its_effect(database: Database):
    async with a_failed_run(database) as (walkthrough, trace):
        ask = walkthrough.ask
        [failed] = [step for step in trace.steps if step.status == "FAILED"]
        assert ask("failed steps") == [
            {"id": failed.id, "step_type": failed.step_type, "error_details": {"message": "the booking was refused"}}
        ]
        [cause] = ask("failure cause")
        assert cause["event_data"]["error_details"] == failed.error_details
        [call] = [call for call in trace.tool_calls if call.status == "FAILED"]
        assert ask("failed tool calls") == [
            {"tool_name": call.tool_name, "tool_args": call.tool_args, "error_details": call.error_details}
        ]
        assert ask("retry attempts") == [{"retry_count": failed.retry_count}]
        [effect], [entry] = trace.effects, trace.outbox
        assert ask("effect status") == [
            {"status": "DEAD_LETTER", "retry_count": effect.retry_count, "next_retry_at": None}
        ]
        assert ask("outbox entry") == [
            {"status": entry.status, "error_details": entry.error_details, "retry_count": entry.retry_count}
        ]
        [reason] = ask("dead letter reason")
        assert reason["error_details"]["code"] == "RUN_CANCELLED"


async def test_without_the_context_or_in_another_one_they_find_nothing(database: Database):
    async with a_failed_run(database) as (walkthrough, _):
        elsewhere = UUID("019ab000-0000-7000-8000-000000000000")
        assert {name: walkthrough.ask(name, tenant_id=elsewhere) for name in QUERIES} == {name: [] for name in QUERIES}
        with within(database, "app", None) as connection:
            for query in QUERIES.values():
                assert connection.execute(parametrised(query), walkthrough.ids).fetchall() == []


async def test_requeueing_by_hand_is_denied_to_app_and_refused_to_the_owner_with_the_command(database: Database):
    async with a_failed_run(database) as (walkthrough, _):
        with (
            within(database, "app", walkthrough.tenant_id) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(parametrised(REQUEUE), walkthrough.ids)
        for tenant_id in (walkthrough.tenant_id, None):
            with within(database, "owner", tenant_id) as connection, pytest.raises(psycopg.Error) as refused:
                connection.execute(parametrised(REQUEUE), walkthrough.ids)
            assert refused.value.sqlstate == "PD019"
            assert "perdure outbox requeue" in f"{refused.value} {refused.value.diag.message_hint}"
        status = "SELECT DISTINCT status FROM perdure.outbox_events WHERE status <> 'PENDING'"
        assert database.query(status) == [("DEAD_LETTER",)]


def _outbox_row(entry: OutboxEntry) -> dict[str, Any]:
    return {
        "event_type": entry.event_type,
        "status": entry.status,
        "retry_count": entry.retry_count,
        "error_details": entry.error_details,
    }
