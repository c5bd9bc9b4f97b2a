"""The two floors: what a database does at least, without anything a ledger promises.

A is a bare one-row INSERT. B writes the rows of the three-record change, events and counters included, into tables with
the same columns, CHECKs and indexes, in one call, with nothing in the way: no row-level security, triggers or foreign
keys, and nothing looked up or answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, LiteralString

import psycopg
import uuid_utils
from psycopg.conninfo import make_conninfo

from bench.rounds import Job, Subject
from bench.server import Server
from bench.workload import PAYLOAD, Place, Shape, Workload

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_INSERT_A: Final[LiteralString] = "INSERT INTO floor.bare (id, content) VALUES (%s, %s)"
_CALL_B: Final[LiteralString] = "SELECT floor.write(%s)"

_TABLES: Final = ("runs", "steps", "tool_calls", "effects", "outbox_events", "orchestration_events", "tenant_sequences")

_SCHEMA: Final[LiteralString] = """
CREATE SCHEMA floor;
CREATE TABLE floor.bare (id uuid PRIMARY KEY, content jsonb NOT NULL);
DO $$
DECLARE
    name text;
    options text;
BEGIN
    FOREACH name IN ARRAY string_to_array(current_setting('bench.tables'), ',') LOOP
        EXECUTE format('CREATE TABLE floor.%I (LIKE perdure.%I
            INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING CONSTRAINTS)', name, name);
        SELECT array_to_string(reloptions, ',') INTO options FROM pg_class
            WHERE oid = format('perdure.%I', name)::regclass;
        IF options IS NOT NULL THEN
            EXECUTE format('ALTER TABLE floor.%I SET (%s)', name, options);
        END IF;
    END LOOP;
END
$$;
CREATE FUNCTION floor.write(p_batch jsonb) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_tenant uuid := (p_batch ->> 'tenant_id')::uuid;
    v_change jsonb := p_batch -> 'changes' -> 0;
    v_run uuid := (v_change ->> 'run_id')::uuid;
    v_correlation uuid := (v_change ->> 'correlation_id')::uuid;
    v_actor text := v_change ->> 'actor';
    v_source text := v_change ->> 'source';
    v_events jsonb := v_change -> 'events';
    v_step jsonb := v_change -> 'steps' -> 0;
    v_call jsonb := v_change -> 'tool_calls' -> 0;
    v_effect jsonb := v_change -> 'effects' -> 0;
    v_started jsonb := v_events -> 0 -> 'data';
    v_called jsonb := v_events -> 1 -> 'data';
    v_requested jsonb := v_events -> 4 -> 'data';
    v_now timestamptz := clock_timestamp();
    v_index integer;
    v_ordering integer;
    v_last bigint;
BEGIN
    UPDATE floor.runs SET version = version + 1, total_steps = total_steps + 1, total_effects = total_effects + 1,
        open_effects = open_effects + 1, updated_at = v_now
        WHERE tenant_id = v_tenant AND id = v_run
        RETURNING total_steps - 1, total_effects - 1 INTO v_index, v_ordering;
    INSERT INTO floor.steps (tenant_id, id, run_id, step_index, step_type, name, step_key, retry_count, started_at,
        completed_at, status, input_context, output_result, correlation_id, causation_id, actor, last_event_id)
    VALUES (v_tenant, (v_step ->> 'id')::uuid, v_run, v_index, v_started ->> 'step_type', v_started ->> 'name',
        v_started ->> 'step_key', 0, v_now, v_now, v_step ->> 'status', v_started -> 'input_context',
        v_events -> 3 -> 'data' -> 'output_result', v_correlation, (v_step ->> 'cause')::uuid, v_actor,
        (v_step ->> 'last_event_id')::uuid);
    INSERT INTO floor.tool_calls (tenant_id, id, run_id, step_id, call_index, call_key, tool_name, tool_args, called_at,
        completed_at, status, result, execution_duration_ms, correlation_id, causation_id, actor, last_event_id)
    VALUES (v_tenant, (v_call ->> 'id')::uuid, v_run, (v_called ->> 'step_id')::uuid, 0, v_called ->> 'call_key',
        v_called ->> 'tool_name', v_called -> 'tool_args', v_now, v_now, v_call ->> 'status',
        v_events -> 2 -> 'data' -> 'result', 2, v_correlation, (v_call ->> 'cause')::uuid, v_actor,
        (v_call ->> 'last_event_id')::uuid);
    INSERT INTO floor.effects (tenant_id, id, run_id, step_id, effect_type, effect_spec, idempotency_key, requested_at,
        max_retries, correlation_id, causation_id, actor, last_event_id)
    VALUES (v_tenant, (v_effect ->> 'id')::uuid, v_run, (v_requested ->> 'step_id')::uuid,
        v_requested ->> 'effect_type', v_requested -> 'effect_spec', v_requested ->> 'idempotency_key', v_now, 3,
        v_correlation, (v_effect ->> 'cause')::uuid, v_actor, (v_effect ->> 'last_event_id')::uuid);
    INSERT INTO floor.outbox_events (tenant_id, id, event_type, payload, idempotency_key, max_retries, correlation_id,
        causation_id, actor, aggregate_id, ordering_key, ordering_seq, last_event_id, created_at)
    VALUES (v_tenant, (v_effect ->> 'outbox_id')::uuid, v_requested ->> 'effect_type', v_requested -> 'effect_spec',
        v_requested ->> 'idempotency_key', 3, v_correlation, (v_effect ->> 'cause')::uuid, v_actor,
        (v_effect ->> 'id')::uuid, v_run, v_ordering, (v_effect ->> 'last_event_id')::uuid, v_now);
    UPDATE floor.tenant_sequences SET last_number = last_number + 5 WHERE tenant_id = v_tenant
        RETURNING last_number INTO v_last;
    INSERT INTO floor.orchestration_events (tenant_id, id, sequence_number, event_type, aggregate_type, aggregate_id,
        event_data, correlation_id, causation_id, actor, source, occurred_at)
    SELECT v_tenant, (event ->> 'id')::uuid, v_last - 5 + position, event ->> 'type', event ->> 'aggregate',
        (event ->> 'aggregate_id')::uuid, event -> 'data', v_correlation, (event ->> 'cause')::uuid, v_actor, v_source,
        v_now
    FROM jsonb_array_elements(v_events) WITH ORDINALITY AS draft (event, position);
    RETURN v_last;
END
$$;
GRANT USAGE ON SCHEMA floor TO perdure_app;
GRANT ALL ON ALL TABLES IN SCHEMA floor TO perdure_app;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA floor TO perdure_app;
"""


def install(server: Server, *, database: str) -> None:
    """Make the floors' tables, with the runs and counters that the ledger has by now."""
    with psycopg.connect(server.dsn("superuser", database=database), autocommit=True) as connection:
        connection.execute("SELECT set_config('bench.tables', %s, false)", (",".join(_TABLES),))
        connection.execute(_SCHEMA)
        connection.execute("INSERT INTO floor.runs SELECT * FROM perdure.runs")
        connection.execute("INSERT INTO floor.tenant_sequences SELECT * FROM perdure.tenant_sequences")


def install_bare(server: Server, *, database: str) -> None:
    """Make the table of floor A alone."""
    with psycopg.connect(server.dsn("superuser", database=database), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA floor")
        connection.execute("CREATE TABLE floor.bare (id uuid PRIMARY KEY, content jsonb NOT NULL)")
        connection.execute("GRANT USAGE ON SCHEMA floor TO perdure_app")
        connection.execute("GRANT ALL ON floor.bare TO perdure_app")


@asynccontextmanager
async def floor_a(dsn: str, *, workers: int) -> AsyncIterator[Subject]:
    """A bare INSERT of a uuid key and 1 KB of jsonb, a connection a worker."""
    async with _connections(dsn, workers) as connections:
        content = json.dumps(PAYLOAD)

        def prepare(count: int) -> Sequence[Job]:
            return [(str(uuid_utils.uuid7()), content) for _ in range(count)]

        async def perform(worker: int, job: Job) -> None:
            await connections[worker].execute(_INSERT_A, job)

        yield Subject(name="A", prepare=prepare, perform=perform)


@asynccontextmanager
async def floor_b(dsn: str, workload: Workload, places: Sequence[Place]) -> AsyncIterator[Subject]:
    """The rows of the three-record change and nothing else, on one connection."""
    async with _connections(make_conninfo(dsn, options="-c enable_seqscan=off"), 1) as (connection,):

        def prepare(count: int) -> Sequence[Job]:
            return [(workload.request(Shape.THREE, place),) for place in workload.pick(places, count)]

        async def perform(_worker: int, job: Job) -> None:
            await connection.execute(_CALL_B, job)

        yield Subject(name="B", prepare=prepare, perform=perform)


@asynccontextmanager
async def _connections(dsn: str, count: int) -> AsyncIterator[list[Connection]]:
    """Connections as the library has them: autocommit, nothing prepared."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)
            )
            for _ in range(count)
        ]
