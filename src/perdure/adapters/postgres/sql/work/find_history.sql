SELECT *
FROM perdure.work_history
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s
    AND (%(instance_id)s::text IS NULL OR instance_id = %(instance_id)s::text)
    AND (%(actor_id)s::text IS NULL OR actor_id = %(actor_id)s::text)
    AND (%(since)s::timestamptz IS NULL OR transition_timestamp >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR transition_timestamp < %(until)s::timestamptz)
    AND (%(after_time)s::timestamptz IS NULL
        OR (transition_timestamp, history_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid))
ORDER BY transition_timestamp, history_id
LIMIT %(limit)s
