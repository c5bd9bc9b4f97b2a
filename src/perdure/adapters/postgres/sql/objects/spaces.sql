SELECT space_id, space
FROM perdure.object_spaces
WHERE tenant_id = %(tenant_id)s AND (%(after)s::uuid IS NULL OR space_id > %(after)s::uuid)
ORDER BY space_id
LIMIT %(limit)s
