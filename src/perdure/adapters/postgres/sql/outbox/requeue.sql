SELECT perdure.requeue_outbox(%(request)s::jsonb)
