SELECT
    entry.tenant_id, entry.id, entry.event_type, entry.payload, entry.idempotency_key, entry.created_at,
    entry.processed_at, entry.status, entry.retry_count, entry.max_retries, entry.next_retry_at, entry.result,
    entry.error_details, entry.correlation_id, entry.causation_id, entry.actor, entry.aggregate_type,
    entry.aggregate_id, entry.locked_by, entry.locked_until, entry.ordering_key, entry.ordering_seq,
    entry.independent, entry.last_event_id
FROM perdure.effects AS effect
JOIN perdure.outbox_events AS entry ON entry.tenant_id = effect.tenant_id AND entry.aggregate_id = effect.id
WHERE effect.tenant_id = %(tenant_id)s AND effect.run_id = %(run_id)s AND entry.tenant_id = %(tenant_id)s
    AND (%(after)s::uuid IS NULL OR effect.id > %(after)s)
ORDER BY effect.id
LIMIT %(limit)s
