SELECT
    run.tenant_id, run.id, run.signal_id, run.run_type, run.name, run.started_at, run.completed_at,
    run.completion_requested_at, run.status, run.exit_reason, run.correlation_id, run.causation_id, run.actor,
    run.source, run.orchestrator_version, run.total_steps, run.failed_steps, run.open_steps, run.total_effects,
    run.open_effects, run.total_checkpoints, run.metadata, run.version, run.locked_by, run.locked_until,
    run.last_event_id
FROM perdure.runs AS run
WHERE run.tenant_id = %(tenant_id)s AND run.signal_id = %(signal_id)s
    AND (%(after_at)s::timestamptz IS NULL OR (run.started_at, run.id) > (%(after_at)s, %(after_id)s::uuid))
ORDER BY run.started_at, run.id
LIMIT %(limit)s
