SELECT perdure.write_rows(%(tenant_id)s, %(tenant)s, %(rows)s::jsonb, %(keys)s::text[], %(values)b::bytea[],
    %(expires)s::timestamptz[], %(versions)s::bigint[], %(incarnations)s::text[], %(audit)s, %(patience_ms)s)
