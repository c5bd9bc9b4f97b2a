SELECT entry.epoch, entry.sequence
FROM perdure.log_entries AS entry
WHERE entry.tenant_id = %(tenant_id)s AND entry.log_id = %(log_id)s AND entry.entry_id = %(entry_id)s
    AND entry.epoch = (
        SELECT log.epoch FROM perdure.logs AS log
        WHERE log.tenant_id = %(tenant_id)s AND log.log_id = %(log_id)s
            AND (log.ends_at IS NULL OR log.ends_at > perdure.instant()))
