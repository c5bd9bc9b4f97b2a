-- The events of a run after its latest checkpoint, all of them without one. Other runs may share the correlation.
SELECT
    event.tenant_id, event.id, event.sequence_number, event.event_type, event.aggregate_type, event.aggregate_id,
    event.event_data, event.schema_version, event.correlation_id, event.causation_id, event.actor, event.source,
    event.occurred_at
FROM perdure.orchestration_events AS event
WHERE event.tenant_id = %(tenant_id)s
    AND event.correlation_id = (
        SELECT run.correlation_id FROM perdure.runs AS run WHERE run.tenant_id = %(tenant_id)s AND run.id = %(run_id)s)
    AND event.sequence_number > coalesce((
        SELECT checkpoint.last_sequence_number FROM perdure.run_checkpoints AS checkpoint
        WHERE checkpoint.tenant_id = %(tenant_id)s AND checkpoint.run_id = %(run_id)s
        ORDER BY checkpoint.checkpoint_index DESC LIMIT 1), 0)
    AND coalesce(event.event_data ->> 'run_id', %(run_id)s::text) = %(run_id)s::text
ORDER BY event.sequence_number
LIMIT %(limit)s
