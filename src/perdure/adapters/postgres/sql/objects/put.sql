SELECT perdure.put_object(%(tenant_id)s, %(tenant)s, %(space_id)s, %(name)s, %(digest)b, %(size_bytes)s,
    %(media_type)s, %(chunks)b::bytea[], %(patience_ms)s)
