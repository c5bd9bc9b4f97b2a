SELECT perdure.delete_work(%(tenant_id)s, %(space_id)s, %(container_id)s, %(unit_id)s, %(version)s, %(entries)s::jsonb,
    %(audit)s, %(patience_ms)s)
