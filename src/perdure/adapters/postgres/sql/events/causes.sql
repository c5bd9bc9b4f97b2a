-- The chain of causes of an event. UNION ends a cycle, which only a damaged history can have, and depth ends the rest.
WITH RECURSIVE chain AS (
    SELECT event.id, event.causation_id
    FROM perdure.orchestration_events AS event
    WHERE event.tenant_id = %(tenant_id)s AND event.id = %(event_id)s
    UNION
    SELECT cause.id, cause.causation_id
    FROM chain
    CROSS JOIN LATERAL (
        SELECT event.id, event.causation_id
        FROM perdure.orchestration_events AS event
        WHERE event.tenant_id = %(tenant_id)s AND event.id = chain.causation_id
        LIMIT 1
    ) AS cause
), bounded AS (
    SELECT chain.id FROM chain LIMIT %(limit)s
)
SELECT
    event.tenant_id, event.id, event.sequence_number, event.event_type, event.aggregate_type, event.aggregate_id,
    event.event_data, event.schema_version, event.correlation_id, event.causation_id, event.actor, event.source,
    event.occurred_at
FROM bounded
CROSS JOIN LATERAL (
    SELECT *
    FROM perdure.orchestration_events AS found
    WHERE found.tenant_id = %(tenant_id)s AND found.id = bounded.id
    LIMIT 1
) AS event
