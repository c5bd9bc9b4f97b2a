SELECT encode(digest, 'hex') AS digest, size_bytes, media_type, created_at
FROM perdure.objects
WHERE tenant_id = %(tenant_id)s AND space_id = %(space_id)s
    AND (%(after)s::bytea IS NULL OR objects.digest > %(after)s::bytea)
ORDER BY objects.digest
LIMIT %(limit)s
