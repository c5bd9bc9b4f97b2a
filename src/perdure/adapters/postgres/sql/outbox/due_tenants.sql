-- Hops from tenant to tenant through those that have something unfinished, so that one tenant's backlog hides no other.
WITH RECURSIVE unfinished (tenant_id) AS (
    SELECT (
        SELECT entry.tenant_id FROM perdure.outbox_events AS entry
        WHERE entry.status IN ('PENDING', 'FAILED') AND entry.tenant_id > %(after)s
        ORDER BY entry.tenant_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT entry.tenant_id FROM perdure.outbox_events AS entry
        WHERE entry.status IN ('PENDING', 'FAILED') AND entry.tenant_id > unfinished.tenant_id
        ORDER BY entry.tenant_id LIMIT 1)
    FROM unfinished WHERE unfinished.tenant_id IS NOT NULL
)
SELECT unfinished.tenant_id, (
        SELECT known.slug FROM perdure.tenants AS known WHERE known.tenant_id = unfinished.tenant_id) AS tenant
FROM unfinished
WHERE unfinished.tenant_id IS NOT NULL AND EXISTS (
    SELECT FROM perdure.outbox_events AS entry
    WHERE entry.tenant_id = unfinished.tenant_id AND entry.status IN ('PENDING', 'FAILED')
        AND coalesce(entry.next_retry_at, entry.created_at) <= (SELECT perdure.instant())
        AND (cardinality(%(effect_types)s::text[]) = 0 OR entry.event_type = ANY (%(effect_types)s::text[]))
        AND (entry.independent OR NOT EXISTS (
            SELECT FROM perdure.outbox_events AS earlier
            WHERE earlier.tenant_id = unfinished.tenant_id AND earlier.ordering_key = entry.ordering_key
                AND earlier.ordering_seq < entry.ordering_seq AND NOT earlier.independent
                AND earlier.status IN ('PENDING', 'PROCESSING', 'FAILED'))))
LIMIT %(limit)s
