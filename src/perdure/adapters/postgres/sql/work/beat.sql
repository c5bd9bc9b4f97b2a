SELECT perdure.beat_work(%(tenant_id)s, %(space_id)s, %(unit_id)s, %(owner)s, %(now)s::timestamptz, %(patience_ms)s)
