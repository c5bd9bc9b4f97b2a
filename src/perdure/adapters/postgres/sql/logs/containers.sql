SELECT log.log_id AS container_id, log.container
FROM perdure.logs AS log
WHERE log.tenant_id = %(tenant_id)s AND log.kind = %(kind)s
    AND (%(user)s::text IS NULL OR log.user_name = %(user)s::text)
    AND (%(after)s::uuid IS NULL OR log.log_id > %(after)s::uuid)
    AND (log.ends_at IS NULL OR log.ends_at > perdure.instant())
ORDER BY log.log_id
LIMIT %(limit)s
