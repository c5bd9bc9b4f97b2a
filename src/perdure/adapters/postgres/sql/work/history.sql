SELECT *
FROM perdure.work_history
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s AND unit_id = %(unit_id)s AND sequence > %(after)s
ORDER BY sequence
LIMIT %(limit)s
