SELECT perdure.append_log(%(tenant_id)s, %(tenant)s, %(log)s::jsonb, %(ids)s::text[], %(fingerprints)s::text[],
    %(bodies)b::bytea[], %(expected)s, %(settings)s::jsonb, %(audit)s, %(patience_ms)s)
