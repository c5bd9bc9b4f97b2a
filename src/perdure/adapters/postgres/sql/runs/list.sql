-- Newest first. One range of the index a status, merged: without a status the list is as cheap as with one.
SELECT
    run.tenant_id, run.id, run.signal_id, run.run_type, run.name, run.started_at, run.completed_at,
    run.completion_requested_at, run.status, run.exit_reason, run.correlation_id, run.causation_id, run.actor,
    run.source, run.orchestrator_version, run.total_steps, run.failed_steps, run.open_steps, run.total_effects,
    run.open_effects, run.total_checkpoints, run.metadata, run.version, run.locked_by, run.locked_until,
    run.last_event_id
FROM unnest(%(statuses)s::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT *
    FROM perdure.runs AS listed
    WHERE listed.tenant_id = %(tenant_id)s AND listed.status = wanted.status AND listed.deleted_at IS NULL
        AND (%(run_type)s::text IS NULL OR listed.run_type = %(run_type)s)
        AND (%(name)s::text IS NULL OR listed.name = %(name)s)
        AND (%(started_from)s::timestamptz IS NULL OR listed.started_at >= %(started_from)s)
        AND (%(started_before)s::timestamptz IS NULL OR listed.started_at < %(started_before)s)
        AND (%(after_at)s::timestamptz IS NULL OR (listed.started_at, listed.id) < (%(after_at)s, %(after_id)s::uuid))
    ORDER BY listed.started_at DESC, listed.id DESC
    LIMIT %(limit)s
) AS run
ORDER BY run.started_at DESC, run.id DESC
LIMIT %(limit)s
