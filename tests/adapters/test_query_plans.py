"""Every read is on an index and reads about as many rows as it gives, with statistics and without.

The plans are those of the app role under row-level security, through the session that the library uses, on one tenant
that has everything: the case in which an index that only narrows to the tenant is as bad as none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

import pytest

from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.ids import tenant_uuid
from tests.support.databases import DIRECT, Database, engines

# Below some thousand rows and without statistics the planner takes a tenant for one row and all indexes for equal; that
# costs milliseconds and ends with growth. These sizes are beyond it.
RUNS: Final = 6_000
STEPS: Final = 2  # a run
EVENTS: Final = 5  # a run
AUDITED: Final = 24_000
ROWS_MAX: Final = 400  # for lists of 10; a scan of the tenant would read at least RUNS
FILTERED_AUDIT_ROWS_MAX: Final = AUDITED // 2  # its indexes find what a filter names, and that is sorted
TENANT: Final = tenant_uuid("t_acme")
FOLDERS: Final = (
    "audit", "checkpoints", "correlations", "effects", "events", "runs", "signals", "steps", "tool_calls"
)  # fmt: skip

SEED: Final = f"""
SET session_replication_role = replica;
CREATE FUNCTION pg_temp.id(kind int, number int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$SELECT (lpad(to_hex(number), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(kind), 12, '0'))::uuid$$;
INSERT INTO perdure.tenants (tenant_id, slug) VALUES ('{TENANT}', 't_acme');
INSERT INTO perdure.tenant_sequences (tenant_id, last_number) VALUES ('{TENANT}', {RUNS * EVENTS});
INSERT INTO perdure.tenants (tenant_id, slug) SELECT pg_temp.id(12, n), 't_' || n FROM generate_series(1, 500) AS n;
INSERT INTO perdure.tenant_sequences (tenant_id) SELECT pg_temp.id(12, n) FROM generate_series(1, 500) AS n;
INSERT INTO perdure.signals (tenant_id, id, signal_type, source_channel, source_id, source_hash, normalized_payload,
    received_at, ingested_at, processed_at, status, correlation_id, actor, source, ingested_by, last_event_id)
SELECT '{TENANT}', pg_temp.id(1, n), 'API_CALL', 'billing', 'msg-' || n, repeat('0', 64), '{{}}',
    '2026-01-01Z'::timestamptz + n * interval '1 minute', now(), CASE WHEN n % 4 > 1 THEN now() END,
    (ARRAY['PENDING', 'PROCESSING', 'PROCESSED', 'FAILED'])[n % 4 + 1], pg_temp.id(9, n), 'agent:planner',
    'api:perdure', 'agent:planner', pg_temp.id(8, n * {EVENTS})
FROM generate_series(1, {RUNS}) AS n;
INSERT INTO perdure.runs (tenant_id, id, signal_id, run_type, name, started_at, completed_at, status, exit_reason,
    correlation_id, actor, source, last_event_id)
SELECT '{TENANT}', pg_temp.id(2, n), pg_temp.id(1, n), 'SIGNAL_PROCESSING', 'triage-' || n % 5,
    '2026-01-01Z'::timestamptz + n * interval '1 minute', CASE WHEN n % 4 > 0 THEN now() END,
    (ARRAY['RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED'])[n % 4 + 1], 'X', pg_temp.id(9, n), 'agent:planner',
    'api:perdure', pg_temp.id(8, n * {EVENTS})
FROM generate_series(1, {RUNS}) AS n;
INSERT INTO perdure.steps (tenant_id, id, run_id, step_index, step_type, name, step_key, started_at, completed_at,
    status, correlation_id, actor, last_event_id)
SELECT '{TENANT}', pg_temp.id(3, n), pg_temp.id(2, n / {STEPS}), n % {STEPS}, 'DECISION', 'look',
    'look#' || n % {STEPS}, now(), now(), 'COMPLETED', pg_temp.id(9, n / {STEPS}), 'agent:planner', pg_temp.id(8, n)
FROM generate_series({STEPS}, {RUNS * STEPS}) AS n;
INSERT INTO perdure.tool_calls (tenant_id, id, run_id, step_id, call_index, call_key, tool_name, tool_args, called_at,
    completed_at, status, correlation_id, actor, last_event_id)
SELECT '{TENANT}', pg_temp.id(4, n), pg_temp.id(2, n / {STEPS}), pg_temp.id(3, n), 0, 'git', 'git', '{{}}', now(),
    now(), 'COMPLETED', pg_temp.id(9, n / {STEPS}), 'agent:planner', pg_temp.id(8, n)
FROM generate_series({STEPS}, {RUNS * STEPS}) AS n;
INSERT INTO perdure.effects (tenant_id, id, run_id, step_id, effect_type, effect_spec, idempotency_key, requested_at,
    correlation_id, actor, last_event_id)
SELECT '{TENANT}', pg_temp.id(5, n), pg_temp.id(2, n), pg_temp.id(3, n * {STEPS}), 'SEND_EMAIL',
    jsonb_build_object('idempotency_key', 'k' || n), 'k' || n, now(), pg_temp.id(9, n), 'agent:planner',
    pg_temp.id(8, n)
FROM generate_series(1, {RUNS}) AS n;
INSERT INTO perdure.outbox_events (tenant_id, id, event_type, payload, idempotency_key, correlation_id, actor,
    aggregate_id, ordering_key, ordering_seq, last_event_id)
SELECT '{TENANT}', pg_temp.id(6, n), 'SEND_EMAIL', jsonb_build_object('idempotency_key', 'k' || n), 'k' || n,
    pg_temp.id(9, n), 'agent:planner', pg_temp.id(5, n), pg_temp.id(2, n), 1, pg_temp.id(8, n)
FROM generate_series(1, {RUNS}) AS n;
INSERT INTO perdure.run_checkpoints (tenant_id, id, run_id, checkpoint_index, checkpoint_data, last_sequence_number,
    expires_at, size_bytes, correlation_id, actor, last_event_id)
SELECT '{TENANT}', pg_temp.id(7, n), pg_temp.id(2, n / 2), n % 2, '{{}}', (n / 2 - 1) * {EVENTS} + 2, now(), 2,
    pg_temp.id(9, n / 2), 'agent:planner', pg_temp.id(8, n)
FROM generate_series(2, {RUNS * 2}) AS n;
INSERT INTO perdure.orchestration_events (tenant_id, id, sequence_number, event_type, aggregate_type, aggregate_id,
    event_data, correlation_id, causation_id, actor, source, occurred_at)
SELECT '{TENANT}', pg_temp.id(8, n), n, 'STEP_STARTED', 'STEP', pg_temp.id(3, n / {EVENTS}),
    jsonb_build_object('run_id', pg_temp.id(2, (n - 1) / {EVENTS} + 1)), pg_temp.id(9, (n - 1) / {EVENTS} + 1),
    CASE WHEN n % {EVENTS} <> 1 THEN pg_temp.id(8, n - 1) END, 'agent:worker-' || n % 3, 'api:perdure', now()
FROM generate_series(1, {RUNS * EVENTS}) AS n;
INSERT INTO perdure.entity_references (tenant_id, id, entity_type, entity_id, run_id, aggregate_type, aggregate_id,
    correlation_id, actor)
SELECT '{TENANT}', pg_temp.id(10, n), 'invoice', (n % 3000)::text, pg_temp.id(2, n),
    CASE WHEN n > 3000 THEN 'RUN' ELSE 'STEP' END,
    CASE WHEN n > 3000 THEN pg_temp.id(2, n) ELSE pg_temp.id(3, n * {STEPS}) END, pg_temp.id(9, n), 'agent:planner'
FROM generate_series(1, {RUNS}) AS n;
INSERT INTO perdure.audit_trail (tenant_id, id, action, resource_type, resource_id, actor)
SELECT '{TENANT}', pg_temp.id(11, n), 'ACTION_' || n % 7, 'RUN', pg_temp.id(2, n % 200), 'agent:worker-' || n % 3
FROM generate_series(1, {AUDITED}) AS n;
"""  # noqa: S608 - numbers of this file


def row_id(kind: int, number: int) -> UUID:
    return UUID(f"{number:08x}-0000-7000-8000-{kind:012x}")


EVERY_RUN_STATUS = ["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
EVERY_SIGNAL_STATUS = ["PENDING", "PROCESSING", "PROCESSED", "FAILED"]
HALF_WAY = datetime(2026, 1, 1, 16, 0, tzinfo=UTC)
FIRST: dict[str, Any] = {"after_at": None, "after_id": None, "limit": 10}
NEXT: dict[str, Any] = {"after_at": HALF_WAY, "after_id": row_id(2, 960), "limit": 10}
RUN = {"run_id": row_id(2, 700)}
CORRELATION = {"correlation_id": row_id(9, 700)}
SIGNALS = {"signal_type": None, "received_before": None}
ANY_RUN = {"run_type": None, "name": None, "started_from": None, "started_before": None}
ANY_AUDIT = {"action": None, "actor": None, "resource_id": None, "before": None, "limit": 10}
SOURCE = {"channel": "billing", "source_id": "msg-700"}
NO_PLACE = {"after_place": None, "after_position": None}

CASES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("audit/list", ANY_AUDIT),
    ("audit/list", ANY_AUDIT | {"before": row_id(11, 900), "actor": "agent:worker-1"}),
    ("audit/list", ANY_AUDIT | {"resource_id": row_id(2, 7), "limit": 3}),
    ("checkpoints/latest", RUN),
    ("checkpoints/of_correlation", CORRELATION),
    ("checkpoints/of_run", RUN | {"after": -1, "limit": 10}),
    ("correlations/find", {"id": row_id(4, 1_400)}),
    ("correlations/find", {"id": row_id(9, 700)}),
    ("correlations/find_by_source", {"channels": ["billing", "x"], "source_ids": ["msg-700", "y"]}),
    ("correlations/timeline", CORRELATION | FIRST | NO_PLACE),
    ("correlations/timeline", CORRELATION | NEXT | {"after_place": 6, "after_position": 3}),
    ("effects/of_correlation", CORRELATION),
    ("effects/of_run", RUN | {"after": None, "limit": 10}),
    ("events/after", {"after": 20_000, "limit": 10}),
    ("events/causes", {"event_id": row_id(8, 15_004), "limit": 1_000}),
    ("events/count_of_correlation", CORRELATION),
    ("events/find", {"event_id": row_id(8, 15_004)}),
    ("events/of_actor", {"actor": "agent:worker-1", "before": None, "limit": 10}),
    ("events/of_actor", {"actor": "agent:worker-1", "before": 9_000, "limit": 10}),
    ("events/of_aggregate", {"aggregate_type": "STEP", "aggregate_id": row_id(3, 300), "after": 0, "limit": 10}),
    ("events/of_correlation", CORRELATION | {"after": 0, "limit": 10}),
    ("events/of_entity", {"entity_type": "invoice", "entity_id": "70", "after": 0, "limit": 10}),
    ("events/of_run_after_checkpoint", RUN | {"limit": 100}),
    ("outbox/of_correlation", CORRELATION),
    ("outbox/of_run", RUN | {"after": None, "limit": 10}),
    ("runs/find", RUN),
    ("runs/list", ANY_RUN | FIRST | {"statuses": EVERY_RUN_STATUS}),
    ("runs/list", ANY_RUN | NEXT | {"statuses": EVERY_RUN_STATUS, "name": "triage-3"}),
    ("runs/list", ANY_RUN | NEXT | {"statuses": ["FAILED"], "started_from": datetime(2026, 1, 1, tzinfo=UTC)}),
    ("runs/of_correlation", CORRELATION),
    ("runs/of_signal", FIRST | {"signal_id": row_id(1, 700)}),
    ("runs/of_source", SOURCE | {"limit": 10}),
    ("signals/find", {"signal_id": row_id(1, 700)}),
    ("signals/find_by_source", SOURCE),
    ("signals/list", SIGNALS | FIRST | {"statuses": EVERY_SIGNAL_STATUS}),
    ("signals/list", SIGNALS | NEXT | {"statuses": ["FAILED"], "received_before": HALF_WAY}),
    ("signals/list_oldest", SIGNALS | NEXT | {"statuses": ["PENDING"]}),
    ("signals/of_correlation", CORRELATION),
    ("steps/of_correlation", CORRELATION),
    ("steps/of_run", RUN | {"after": -1, "limit": 10}),
    ("steps/recorded", RUN),
    ("tenants/sequence", {}),
    ("tool_calls/of_correlation", CORRELATION),
    ("tool_calls/of_run", RUN | {"after": None, "limit": 10}),
]


@pytest.fixture
async def session(database: Database) -> AsyncIterator[Session]:
    opened = Session(database.dsn("app"), settings=PoolSettings(connections_max=1))
    await opened.open()
    yield opened
    await opened.close()


def seed(database: Database, *, analysed: bool) -> None:
    tables = [name for (name,) in database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'perdure'")]
    for table in tables:
        database.query(f"ALTER TABLE perdure.{table} SET (autovacuum_enabled = off)")
    database.query(SEED)
    if analysed:
        database.query("VACUUM ANALYZE")


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


async def plan_of(session: Session, name: str, given: dict[str, Any]) -> dict[str, Any]:
    explained = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON) " + statement(name)
    [[row]] = await session.snapshot(TENANT, None, [(explained, {"tenant_id": TENANT, **given})])
    plan: dict[str, Any] = row["QUERY PLAN"][0]["Plan"]
    return plan


@engines(*DIRECT)
@pytest.mark.parametrize("analysed", [False, True], ids=["never-analysed", "analysed"])
async def test_every_read_is_on_an_index_and_reads_little(database: Database, session: Session, *, analysed: bool):
    seed(database, analysed=analysed)
    wrong: list[str] = []
    for name, given in CASES:
        plan = await plan_of(session, name, given)
        nodes = list(nodes_of(plan))
        wrong += [f"{name}: Seq Scan on {node['Relation Name']}" for node in nodes if node["Node Type"] == "Seq Scan"]
        read = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes
            if "Scan" in node["Node Type"] and "Relation Name" in node
        )
        filtered_audit = name == "audit/list" and (given["actor"] or given["resource_id"])
        if read > (FILTERED_AUDIT_ROWS_MAX if filtered_audit else ROWS_MAX):
            wrong.append(f"{name} {given}: reads {read:.0f} rows")
        if plan["Actual Rows"] == 0:
            wrong.append(f"{name} {given}: finds nothing, so that its plan proves nothing")
    assert not wrong, "\n".join(wrong)


def test_every_statement_has_its_plan_looked_at():
    folder = files("perdure.adapters.postgres").joinpath("sql")
    there = {f"{kind}/{file.name.removesuffix('.sql')}" for kind in FOLDERS for file in folder.joinpath(kind).iterdir()}
    assert there <= {name for name, _ in CASES}
