-- The key of an entry begins with its tenant: one look a tenant, never a scan of all entries.
SELECT entry.*, known.slug AS tenant
FROM perdure.tenants AS known
CROSS JOIN LATERAL (
    SELECT found.* FROM perdure.outbox_events AS found
    WHERE found.tenant_id = known.tenant_id AND found.id = %(entry_id)s
) AS entry
WHERE %(tenant_id)s::uuid IS NULL OR known.tenant_id = %(tenant_id)s::uuid
LIMIT 1
