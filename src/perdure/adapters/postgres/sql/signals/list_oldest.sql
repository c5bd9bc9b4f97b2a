-- Oldest first: in the order in which waiting signals should be taken up.
SELECT
    signal.tenant_id, signal.id, signal.signal_type, signal.source_channel, signal.source_id, signal.source_hash,
    signal.normalized_payload, signal.received_at, signal.ingested_at, signal.processed_at, signal.status,
    signal.correlation_id, signal.causation_id, signal.actor, signal.source, signal.ingested_by,
    signal.last_event_id
FROM unnest(%(statuses)s::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT *
    FROM perdure.signals AS listed
    WHERE listed.tenant_id = %(tenant_id)s AND listed.status = wanted.status AND listed.deleted_at IS NULL
        AND (%(signal_type)s::text IS NULL OR listed.signal_type = %(signal_type)s)
        AND (%(received_before)s::timestamptz IS NULL OR listed.received_at < %(received_before)s)
        AND (%(after_at)s::timestamptz IS NULL OR (listed.received_at, listed.id) > (%(after_at)s, %(after_id)s::uuid))
    ORDER BY listed.received_at ASC, listed.id ASC
    LIMIT %(limit)s
) AS signal
ORDER BY signal.received_at ASC, signal.id ASC
LIMIT %(limit)s
