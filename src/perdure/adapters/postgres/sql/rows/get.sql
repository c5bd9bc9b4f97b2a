-- LIMIT keeps each key a look-up of its own, whatever the planner takes the container for.
SELECT found.*
FROM unnest(%(keys)s::text[]) AS wanted (key)
CROSS JOIN LATERAL (
    SELECT kept.key, kept.value, kept.version, kept.incarnation, kept.created_at, kept.updated_at, kept.expires_at
    FROM perdure.versioned_rows AS kept
    WHERE kept.tenant_id = %(tenant_id)s AND kept.container_id = %(container_id)s AND kept.key = wanted.key
        AND (kept.expires_at IS NULL OR kept.expires_at > perdure.instant())
    LIMIT 1
) AS found
