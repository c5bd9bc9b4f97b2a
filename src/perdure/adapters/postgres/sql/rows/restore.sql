SELECT perdure.restore_rows(%(tenant_id)s, %(tenant)s, %(rows)s::jsonb, %(keys)s::text[], %(values)b::bytea[],
    %(versions)s::bigint[], %(incarnations)s::text[], %(expires)s::timestamptz[], %(created)s::timestamptz[],
    %(updated)s::timestamptz[], %(patience_ms)s)
