SELECT *
FROM perdure.work_units
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s AND status = 'ACTIVE'
    AND heartbeat_at IS NOT NULL AND heartbeat_at < %(before)s
ORDER BY heartbeat_at, unit_id
LIMIT %(limit)s
