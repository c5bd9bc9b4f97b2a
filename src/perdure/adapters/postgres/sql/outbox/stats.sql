SELECT moment.at, counted.event_type, counted.status, coalesce(counted.entries, 0) AS entries,
    coalesce(counted.due, 0) AS due, extract(epoch FROM moment.at - counted.oldest)::float8 AS oldest_due_s
FROM (SELECT perdure.instant() AS at) AS moment
LEFT JOIN LATERAL (
    SELECT entry.event_type, entry.status, count(*) AS entries,
        count(*) FILTER (WHERE entry.status IN ('PENDING', 'FAILED')
            AND coalesce(entry.next_retry_at, entry.created_at) <= moment.at) AS due,
        min(coalesce(entry.next_retry_at, entry.created_at)) FILTER (WHERE entry.status IN ('PENDING', 'FAILED')
            AND coalesce(entry.next_retry_at, entry.created_at) <= moment.at) AS oldest
    FROM perdure.outbox_events AS entry
    WHERE %(tenant_id)s::uuid IS NULL OR entry.tenant_id = %(tenant_id)s::uuid
    GROUP BY entry.event_type, entry.status
) AS counted ON true
ORDER BY counted.event_type, counted.status
