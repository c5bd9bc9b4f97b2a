SELECT perdure.trim_log(%(tenant_id)s, %(log_id)s, %(before)s, %(moment)s, %(limit)s, %(audit)s, %(patience_ms)s)
