SELECT entry.*, (SELECT known.slug FROM perdure.tenants AS known WHERE known.tenant_id = entry.tenant_id) AS tenant
FROM perdure.outbox_events AS entry
WHERE entry.status = 'PROCESSING' AND entry.locked_until < (SELECT perdure.instant())
ORDER BY entry.locked_until
LIMIT %(limit)s
