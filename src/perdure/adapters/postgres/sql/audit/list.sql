-- Newest first, as far as ids made at the same time can tell.
SELECT
    entry.tenant_id, entry.id, entry.action, entry.resource_type, entry.resource_id, entry.actor, entry.occurred_at,
    entry.context, entry.correlation_id, entry.pii_redacted, entry.redacted_at
FROM perdure.audit_trail AS entry
WHERE entry.tenant_id = %(tenant_id)s
    AND (%(action)s::text IS NULL OR entry.action = %(action)s)
    AND (%(actor)s::text IS NULL OR entry.actor = %(actor)s)
    AND (%(resource_id)s::uuid IS NULL OR entry.resource_id = %(resource_id)s)
    AND (%(before)s::uuid IS NULL OR entry.id < %(before)s)
ORDER BY entry.id DESC
LIMIT %(limit)s
