SELECT perdure.write_telemetry(%(tenant_id)s, %(tenant)s, %(space_id)s, %(name)s, %(ids)b::uuid[], %(types)b::text[],
    %(times)b::timestamptz[], %(instances)b::text[], %(units)b::text[], %(actors)b::text[], %(roles)b::text[],
    %(interactions)b::text[], %(details)b::text[], %(errors)b::text[], %(patience_ms)s)
