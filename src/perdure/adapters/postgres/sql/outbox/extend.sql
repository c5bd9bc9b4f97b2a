SELECT perdure.extend_outbox(%(request)s::jsonb)
