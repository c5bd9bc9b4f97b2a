SELECT perdure.sweep_rows(%(limit)s, %(patience_ms)s)
