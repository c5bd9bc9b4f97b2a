SELECT perdure.prune_outbox(%(request)s::jsonb)
