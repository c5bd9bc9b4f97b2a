SELECT perdure.add_object_chunks(%(tenant_id)s, %(space_id)s, %(digest)b, %(first)s, %(chunks)b::bytea[],
    %(patience_ms)s)
