SELECT
    event.tenant_id, event.id, event.sequence_number, event.event_type, event.aggregate_type, event.aggregate_id,
    event.event_data, event.schema_version, event.correlation_id, event.causation_id, event.actor, event.source,
    event.occurred_at
FROM perdure.orchestration_events AS event
WHERE event.tenant_id = %(tenant_id)s AND event.aggregate_type = %(aggregate_type)s
    AND event.aggregate_id = %(aggregate_id)s
    AND event.sequence_number > %(after)s
ORDER BY event.sequence_number
LIMIT %(limit)s
