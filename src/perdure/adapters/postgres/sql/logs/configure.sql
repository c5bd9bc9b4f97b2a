SELECT perdure.configure_log(%(tenant_id)s, %(tenant)s, %(log)s::jsonb, %(settings)s::jsonb, %(if_version)s, %(audit)s,
    %(patience_ms)s)
