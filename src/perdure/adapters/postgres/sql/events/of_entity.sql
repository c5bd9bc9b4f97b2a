-- Everything that happened in the runs and in the steps that concern an entity, each event once, oldest first. Each
-- event of a run names it; what a step caused is found by its tool calls and effects.
WITH concerned AS MATERIALIZED (
    SELECT reference.aggregate_type, reference.aggregate_id, reference.run_id, reference.correlation_id
    FROM perdure.entity_references AS reference
    WHERE reference.tenant_id = %(tenant_id)s AND reference.entity_type = %(entity_type)s
        AND reference.entity_id = %(entity_id)s
), within_steps AS (
    SELECT 'STEP' AS aggregate_type, step.aggregate_id
    FROM concerned AS step WHERE step.aggregate_type = 'STEP'
    UNION ALL
    SELECT 'TOOL_CALL', call.id
    FROM concerned AS step
    JOIN perdure.tool_calls AS call ON call.tenant_id = %(tenant_id)s AND call.step_id = step.aggregate_id
    WHERE step.aggregate_type = 'STEP'
    UNION ALL
    SELECT 'EFFECT', effect.id
    FROM concerned AS step
    JOIN perdure.effects AS effect
        ON effect.tenant_id = %(tenant_id)s AND effect.run_id = step.run_id AND effect.step_id = step.aggregate_id
    WHERE step.aggregate_type = 'STEP'
), found AS (
    SELECT event.*
    FROM concerned AS run
    CROSS JOIN LATERAL (
        SELECT *
        FROM perdure.orchestration_events AS event
        WHERE event.tenant_id = %(tenant_id)s AND event.correlation_id = run.correlation_id
            AND event.sequence_number > %(after)s AND event.event_data ->> 'run_id' = run.run_id::text
        ORDER BY event.sequence_number
        LIMIT %(limit)s
    ) AS event
    WHERE run.aggregate_type = 'RUN'
    UNION ALL
    SELECT event.*
    FROM within_steps AS part
    CROSS JOIN LATERAL (
        SELECT *
        FROM perdure.orchestration_events AS event
        WHERE event.tenant_id = %(tenant_id)s AND event.aggregate_type = part.aggregate_type
            AND event.aggregate_id = part.aggregate_id AND event.sequence_number > %(after)s
        ORDER BY event.sequence_number
        LIMIT %(limit)s
    ) AS event
)
SELECT DISTINCT ON (event.sequence_number)
    event.tenant_id, event.id, event.sequence_number, event.event_type, event.aggregate_type, event.aggregate_id,
    event.event_data, event.schema_version, event.correlation_id, event.causation_id, event.actor, event.source,
    event.occurred_at
FROM found AS event
ORDER BY event.sequence_number
LIMIT %(limit)s
