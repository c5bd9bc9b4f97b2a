"""The trace of one long run of a tenant that has had a million events before."""

from __future__ import annotations

import time
from typing import Final, LiteralString

import psycopg

from bench.report import Row, Target, progress
from bench.rounds import percentile
from bench.server import Server
from bench.settings import Settings
from bench.workload import Shape, Workload, fill, open_plane
from perdure import Trace

STEPS: Final = 200
_EVENTS_A_RUN: Final = 200
_WARM_TRACES: Final = 10

# Filler of the shape that 40 three-record changes a run leave behind, as those who wrote it would have: nothing is
# checked on the way in, and everything is indexed.
_FILLER: Final[tuple[LiteralString, ...]] = (
    "SET session_replication_role = replica",
    "SET synchronous_commit = off",
    """CREATE TEMP TABLE filler_run AS
        SELECT number, uuidv7() AS run_id, uuidv7() AS signal_id, uuidv7() AS correlation_id, uuidv7() AS event_id,
            (SELECT tenant_id FROM perdure.tenant_sequences) AS tenant_id,
            (SELECT last_number FROM perdure.tenant_sequences) AS before
        FROM generate_series(1, current_setting('bench.runs')::integer) AS number""",
    """CREATE TEMP TABLE filler_step AS
        SELECT filler_run.*, ordinal, uuidv7() AS step_id, uuidv7() AS call_id, uuidv7() AS effect_id,
            uuidv7() AS started, uuidv7() AS called, uuidv7() AS answered, uuidv7() AS ended, uuidv7() AS requested
        FROM filler_run, generate_series(0, 39) AS ordinal""",
    """INSERT INTO perdure.signals (tenant_id, id, signal_type, source_channel, source_id, source_hash,
            normalized_payload, received_at, ingested_at, processed_at, status, correlation_id, actor, source,
            ingested_by, last_event_id)
        SELECT tenant_id, signal_id, 'API_CALL', 'filler', number::text, repeat('0', 64), '{"a": 1}', now(), now(),
            now(), 'PROCESSED', correlation_id, 'agent:filler', 'api:filler', 'agent:filler', event_id
        FROM filler_run""",
    """INSERT INTO perdure.runs (tenant_id, id, signal_id, run_type, name, started_at, completed_at, status,
            correlation_id, actor, source, total_steps, total_effects, last_event_id)
        SELECT tenant_id, run_id, signal_id, 'SIGNAL_PROCESSING', 'filler', now(), now(), 'COMPLETED', correlation_id,
            'agent:filler', 'api:filler', 40, 40, event_id
        FROM filler_run""",
    """INSERT INTO perdure.steps (tenant_id, id, run_id, step_index, step_type, name, step_key, started_at,
            completed_at, status, input_context, output_result, correlation_id, causation_id, actor, last_event_id)
        SELECT tenant_id, step_id, run_id, ordinal, 'DECISION', 'filler', 'k' || ordinal, now(), now(), 'COMPLETED',
            '{"page": 1}', '{"label": "high"}', correlation_id, started, 'agent:filler', ended
        FROM filler_step""",
    """INSERT INTO perdure.tool_calls (tenant_id, id, run_id, step_id, call_index, call_key, tool_name, tool_args,
            called_at, completed_at, status, result, execution_duration_ms, correlation_id, causation_id, actor,
            last_event_id)
        SELECT tenant_id, call_id, run_id, step_id, 0, 'ocr', 'ocr', '{"page": 1}', now(), now(), 'COMPLETED',
            '{"text": "..."}', 2, correlation_id, called, 'agent:filler', answered
        FROM filler_step""",
    """INSERT INTO perdure.effects (tenant_id, id, run_id, step_id, effect_type, effect_spec, idempotency_key,
            requested_at, executed_at, status, correlation_id, causation_id, actor, last_event_id)
        SELECT tenant_id, effect_id, run_id, step_id, 'NOTIFY_USER',
            jsonb_build_object('user_id', '7', 'idempotency_key', effect_id::text), effect_id::text, now(), now(),
            'COMPLETED', correlation_id, requested, 'agent:filler', requested
        FROM filler_step""",
    """INSERT INTO perdure.outbox_events (tenant_id, id, event_type, payload, idempotency_key, processed_at, status,
            correlation_id, causation_id, actor, aggregate_id, ordering_key, ordering_seq, last_event_id)
        SELECT tenant_id, effect_id, 'NOTIFY_USER',
            jsonb_build_object('user_id', '7', 'idempotency_key', effect_id::text), effect_id::text, now(), 'COMPLETED',
            correlation_id, requested, 'agent:filler', effect_id, run_id, ordinal, requested
        FROM filler_step""",
    """INSERT INTO perdure.orchestration_events (tenant_id, id, sequence_number, event_type, aggregate_type,
            aggregate_id, event_data, correlation_id, causation_id, actor, source, occurred_at)
        SELECT tenant_id, event.id, before + row_number() OVER (ORDER BY number, ordinal, event.place), event.type,
            event.aggregate, event.aggregate_id,
            jsonb_build_object('run_id', run_id, 'step_id', step_id, 'step_key', 'k' || ordinal), correlation_id,
            event.cause, 'agent:filler', 'api:filler', now()
        FROM filler_step CROSS JOIN LATERAL (VALUES
            (1, started, 'STEP_STARTED', 'STEP', step_id, event_id),
            (2, called, 'TOOL_CALLED', 'TOOL_CALL', call_id, started),
            (3, answered, 'TOOL_COMPLETED', 'TOOL_CALL', call_id, called),
            (4, ended, 'STEP_COMPLETED', 'STEP', step_id, answered),
            (5, requested, 'EFFECT_REQUESTED', 'EFFECT', effect_id, ended)
        ) AS event (place, id, type, aggregate, aggregate_id, cause)""",
    """UPDATE perdure.tenant_sequences SET last_number =
        (SELECT max(sequence_number) FROM perdure.orchestration_events)""",
    "VACUUM (ANALYZE)",
)


async def measure(server: Server, settings: Settings) -> list[Row]:
    """Traces of a run of 200 three-record changes, once the tenant's tables are full, analysed and warm."""
    database = await server.create_database("story")
    async with open_plane(server.dsn("app", database=database), connections=1, coalesce=True) as plane:
        (place,) = await Workload(plane).start_runs("story", tenants=1)
        acme = plane.scope(place.tenant, actor="agent:bench")
        for number in range(STEPS):
            async with acme.change(place.run) as change:
                fill(change, Shape.THREE, f"k{number}")
        progress(f"trace: {settings.story_events:,} events of one tenant")
        events = _fill_up(server, database, events=settings.story_events)
        progress(f"trace: {settings.story_traces} traces of {STEPS} steps")
        taken_s: list[float] = []
        trace: Trace | None = None
        for number in range(_WARM_TRACES + settings.story_traces):
            began = time.perf_counter()
            trace = await acme.trace(place.run.correlation_id)
            if number >= _WARM_TRACES:
                taken_s.append(time.perf_counter() - began)
            if len(trace.steps) != STEPS:
                raise SystemExit(f"the trace has {len(trace.steps)} steps; expected {STEPS}")
    assert trace is not None, "there was at least one"
    return [
        Row(
            section=f"trace, one tenant with {events:,} events",
            what=f"{STEPS} steps, {len(trace.events):,} events, whole correlation",
            p50_ms=percentile(taken_s, 0.5) * 1000,
            p95_ms=percentile(taken_s, 0.95) * 1000,
            p99_ms=percentile(taken_s, 0.99) * 1000,
            rate=len(taken_s) / sum(taken_s),
            targets=(Target(quantity="p95_ms", bound=100.0),),
        )
    ]


def _fill_up(server: Server, database: str, *, events: int) -> int:
    with psycopg.connect(server.dsn("superuser", database=database), autocommit=True) as connection:
        connection.execute("SELECT set_config('bench.runs', %s, false)", (str(-(-events // _EVENTS_A_RUN)),))
        for statement in _FILLER:
            connection.execute(statement)
        row = connection.execute("SELECT count(*) FROM perdure.orchestration_events").fetchone()
    if row is None:
        raise SystemExit("counting events gave no row")
    return int(row[0])
