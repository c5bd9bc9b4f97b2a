DROP FUNCTION perdure.prune_outbox(jsonb);
DROP FUNCTION perdure.requeue_outbox(jsonb);
DROP FUNCTION perdure.finish_outbox(jsonb);
DROP FUNCTION perdure.finish_entry(uuid, jsonb, text, timestamptz);
DROP FUNCTION perdure.extend_outbox(jsonb);
DROP FUNCTION perdure.claim_outbox(jsonb);
