SELECT
    call.tenant_id, call.id, call.run_id, call.step_id, call.call_index, call.call_key, call.tool_name,
    call.tool_version, call.tool_args, call.called_at, call.completed_at, call.status, call.result,
    call.error_details, call.execution_duration_ms, call.cache_hit, call.metadata, call.correlation_id,
    call.causation_id, call.actor, call.last_event_id
FROM perdure.tool_calls AS call
WHERE call.tenant_id = %(tenant_id)s AND call.run_id = %(run_id)s
    AND (%(after)s::uuid IS NULL OR call.id > %(after)s)
ORDER BY call.id
LIMIT %(limit)s
