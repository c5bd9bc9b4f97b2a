SELECT
    signal.tenant_id, signal.id, signal.signal_type, signal.source_channel, signal.source_id, signal.source_hash,
    signal.normalized_payload, signal.received_at, signal.ingested_at, signal.processed_at, signal.status,
    signal.correlation_id, signal.causation_id, signal.actor, signal.source, signal.ingested_by,
    signal.last_event_id
FROM perdure.signals AS signal
WHERE signal.tenant_id = %(tenant_id)s AND signal.source_channel = %(channel)s
    AND signal.source_id = %(source_id)s
