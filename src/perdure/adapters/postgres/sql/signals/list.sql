-- Newest first. One range of the index a status, merged: no status is a list of its own without an index of its own.
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
        AND (%(after_at)s::timestamptz IS NULL OR (listed.received_at, listed.id) < (%(after_at)s, %(after_id)s::uuid))
    ORDER BY listed.received_at DESC, listed.id DESC
    LIMIT %(limit)s
) AS signal
ORDER BY signal.received_at DESC, signal.id DESC
LIMIT %(limit)s
