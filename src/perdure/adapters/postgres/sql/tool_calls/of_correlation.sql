SELECT
    call.tenant_id, call.id, call.run_id, call.step_id, call.call_index, call.call_key, call.tool_name,
    call.tool_version, call.tool_args, call.called_at, call.completed_at, call.status, call.result,
    call.error_details, call.execution_duration_ms, call.cache_hit, call.metadata, call.correlation_id,
    call.causation_id, call.actor, call.last_event_id
FROM perdure.runs AS run
JOIN perdure.tool_calls AS call ON call.tenant_id = run.tenant_id AND call.run_id = run.id
WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND call.tenant_id = %(tenant_id)s
ORDER BY call.run_id, call.step_id, call.call_index
