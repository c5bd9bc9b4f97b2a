SELECT
    effect.tenant_id, effect.id, effect.run_id, effect.step_id, effect.effect_type, effect.effect_spec,
    effect.idempotency_key, effect.requested_at, effect.executed_at, effect.status, effect.execution_result,
    effect.error_details, effect.retry_count, effect.max_retries, effect.next_retry_at, effect.metadata,
    effect.correlation_id, effect.causation_id, effect.actor, effect.last_event_id
FROM perdure.runs AS run
JOIN perdure.effects AS effect ON effect.tenant_id = run.tenant_id AND effect.run_id = run.id
WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND effect.tenant_id = %(tenant_id)s
ORDER BY effect.requested_at, effect.id
