SELECT perdure.clear_log(%(tenant_id)s, %(log_id)s, %(audit)s, %(patience_ms)s)
