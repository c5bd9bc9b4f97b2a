SELECT *
FROM perdure.work_units
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s
    AND (%(status)s::text IS NULL OR status = %(status)s::text)
    AND (%(instance_id)s::text IS NULL OR instance_id = %(instance_id)s::text)
    AND (%(parent_id)s::uuid IS NULL OR parent_id = %(parent_id)s::uuid)
    AND (%(after_time)s::timestamptz IS NULL
        OR (created_at, unit_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid))
ORDER BY created_at, unit_id
LIMIT %(limit)s
