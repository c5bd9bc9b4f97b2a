SELECT *
FROM perdure.work_attributes
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s AND unit_id = %(unit_id)s
    AND (%(after_key)s::text IS NULL
        OR (key, version) > (%(after_key)s::text COLLATE "C", %(after_version)s::bigint))
ORDER BY key, version
LIMIT %(limit)s
