SELECT perdure.claim_outbox(%(request)s::jsonb)
