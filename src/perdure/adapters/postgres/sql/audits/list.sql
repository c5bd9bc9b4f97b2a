SELECT audit.record
FROM perdure.store_audit AS audit
WHERE audit.tenant_id = %(tenant_id)s AND audit.container_id = %(container_id)s
    AND (%(after)s::uuid IS NULL OR audit.audit_id > %(after)s::uuid)
ORDER BY audit.audit_id
LIMIT %(limit)s
