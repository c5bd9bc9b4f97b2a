-- Those that hold a row. LIMIT keeps each container a look-up of its own, in the order of the list.
SELECT named.container_id, named.container
FROM perdure.row_containers AS named
CROSS JOIN LATERAL (
    SELECT kept.key FROM perdure.versioned_rows AS kept
    WHERE kept.tenant_id = named.tenant_id AND kept.container_id = named.container_id
        AND (kept.expires_at IS NULL OR kept.expires_at > perdure.instant())
    LIMIT 1
) AS held
WHERE named.tenant_id = %(tenant_id)s AND named.kind = %(kind)s
    AND (%(user)s::text IS NULL OR named.user_name = %(user)s::text)
    AND (%(after)s::uuid IS NULL OR named.container_id > %(after)s::uuid)
ORDER BY named.container_id
LIMIT %(limit)s
