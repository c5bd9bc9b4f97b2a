-- The newest entries of each tenant and status, each from its own index, and of these the newest.
SELECT entry.*, known.slug AS tenant
FROM perdure.tenants AS known
CROSS JOIN unnest(CASE WHEN %(status)s::text IS NULL
    THEN '{PENDING,PROCESSING,COMPLETED,FAILED,DEAD_LETTER}'::text[]
    ELSE ARRAY[%(status)s::text] END) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT listed.* FROM perdure.outbox_events AS listed
    WHERE listed.tenant_id = known.tenant_id AND listed.status = wanted.status
        AND (%(effect_type)s::text IS NULL OR listed.event_type = %(effect_type)s::text)
        AND (%(run_id)s::uuid IS NULL OR listed.ordering_key = %(run_id)s::uuid)
        AND (%(created_at)s::timestamptz IS NULL OR listed.created_at <= %(created_at)s::timestamptz
            AND (listed.created_at, listed.tenant_id, listed.id)
                < (%(created_at)s::timestamptz, %(after_tenant_id)s::uuid, %(after_id)s::uuid))
    ORDER BY listed.created_at DESC, listed.tenant_id DESC, listed.id DESC
    LIMIT %(limit)s
) AS entry
WHERE (%(tenant_id)s::uuid IS NULL OR known.tenant_id = %(tenant_id)s::uuid)
ORDER BY entry.created_at DESC, entry.tenant_id DESC, entry.id DESC
LIMIT %(limit)s
