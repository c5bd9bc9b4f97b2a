SELECT
    entry.tenant_id, entry.id, entry.event_type, entry.payload, entry.idempotency_key, entry.created_at,
    entry.processed_at, entry.status, entry.retry_count, entry.max_retries, entry.next_retry_at, entry.result,
    entry.error_details, entry.correlation_id, entry.causation_id, entry.actor, entry.aggregate_type,
    entry.aggregate_id, entry.locked_by, entry.locked_until, entry.ordering_key, entry.ordering_seq,
    entry.independent, entry.last_event_id
FROM perdure.outbox_events AS entry
WHERE entry.tenant_id = %(tenant_id)s AND entry.correlation_id = %(correlation_id)s
ORDER BY entry.created_at, entry.id
