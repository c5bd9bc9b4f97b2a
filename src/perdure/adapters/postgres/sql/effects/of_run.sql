SELECT
    effect.tenant_id, effect.id, effect.run_id, effect.step_id, effect.effect_type, effect.effect_spec,
    effect.idempotency_key, effect.requested_at, effect.executed_at, effect.status, effect.execution_result,
    effect.error_details, effect.retry_count, effect.max_retries, effect.next_retry_at, effect.metadata,
    effect.correlation_id, effect.causation_id, effect.actor, effect.last_event_id
FROM perdure.effects AS effect
WHERE effect.tenant_id = %(tenant_id)s AND effect.run_id = %(run_id)s
    AND (%(after)s::uuid IS NULL OR effect.id > %(after)s)
ORDER BY effect.id
LIMIT %(limit)s
