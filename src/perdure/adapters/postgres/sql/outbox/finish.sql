SELECT perdure.finish_outbox(%(request)s::jsonb)
