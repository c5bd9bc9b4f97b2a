SELECT perdure.erase_log(%(tenant_id)s, %(log_id)s, %(limit)s, %(patience_ms)s)
