SELECT perdure.erase_rows(%(tenant_id)s, %(container_id)s, %(limit)s, %(patience_ms)s)
