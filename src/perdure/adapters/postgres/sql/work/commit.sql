SELECT perdure.commit_work(%(tenant_id)s, %(tenant)s, %(space_id)s, %(container_id)s, %(write)s::jsonb, %(audit)s,
    %(patience_ms)s)
