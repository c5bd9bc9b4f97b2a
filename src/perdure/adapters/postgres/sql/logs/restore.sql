SELECT perdure.restore_log(%(tenant_id)s, %(tenant)s, %(log)s::jsonb, %(head)s::jsonb, %(sequences)s::bigint[],
    %(ids)s::text[], %(fingerprints)s::text[], %(times)s::timestamptz[], %(bodies)b::bytea[], %(patience_ms)s)
