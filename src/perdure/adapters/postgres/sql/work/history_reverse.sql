SELECT *
FROM perdure.work_history
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s AND unit_id = %(unit_id)s
    AND (%(after)s::bigint = 0 OR sequence < %(after)s::bigint)
ORDER BY sequence DESC
LIMIT %(limit)s
