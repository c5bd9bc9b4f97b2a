SELECT perdure.sweep_logs(%(limit)s, %(entries)s, %(patience_ms)s)
