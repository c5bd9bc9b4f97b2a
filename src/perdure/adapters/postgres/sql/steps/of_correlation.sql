SELECT
    step.tenant_id, step.id, step.run_id, step.step_index, step.step_type, step.name, step.step_key,
    step.retry_count, step.retry_of, step.started_at, step.completed_at, step.wait_until, step.status,
    step.input_context, step.output_result, step.specialist_id, step.error_details, step.metadata,
    step.correlation_id, step.causation_id, step.actor, step.last_event_id
FROM perdure.runs AS run
JOIN perdure.steps AS step ON step.tenant_id = run.tenant_id AND step.run_id = run.id
WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND step.tenant_id = %(tenant_id)s
ORDER BY run.started_at, run.id, step.step_index
