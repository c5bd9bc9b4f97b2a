-- One range of an index for each type, merged: a page costs what it returns, for each type.
SELECT found.*
FROM unnest(%(types)s::text[]) AS wanted (log_type)
CROSS JOIN LATERAL (
    SELECT entry_id, log_type::text, occurred_at, instance_id::text, unit_id::text, actor_id::text, role_id::text,
        interaction_id::text, event_details::text, error_metadata::text
    FROM perdure.telemetry_entries
    WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s
        AND unit_id = %(unit_id)s
        AND telemetry_entries.log_type = wanted.log_type
        AND (%(after)s::uuid IS NULL OR entry_id < %(after)s::uuid)
    ORDER BY entry_id DESC
    LIMIT %(limit)s
) AS found
ORDER BY found.entry_id DESC
LIMIT %(limit)s
