SELECT perdure.commit_route(%(tenant_id)s, %(tenant)s, %(change)s::jsonb, %(route)s, %(history)s, %(event)s,
    %(patience_ms)s)
