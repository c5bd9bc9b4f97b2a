SELECT log.epoch, log.sequence, log.earliest, log.version, log.created_at, log.updated_at, log.ttl_s, log.expires_at,
    log.attributes
FROM perdure.logs AS log
WHERE log.tenant_id = %(tenant_id)s AND log.log_id = %(log_id)s
    AND (log.ends_at IS NULL OR log.ends_at > perdure.instant())
