-- By number, which begins where the one before ended.
SELECT data
FROM perdure.object_chunks
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s AND digest = %(digest)b AND chunk_no >= %(first)s
ORDER BY chunk_no
LIMIT %(limit)s
