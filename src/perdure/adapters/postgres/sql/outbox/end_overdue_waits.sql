SELECT perdure.end_overdue_waits(%(request)s::jsonb)
