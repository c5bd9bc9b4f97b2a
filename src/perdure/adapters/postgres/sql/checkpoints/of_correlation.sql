SELECT
    checkpoint.tenant_id, checkpoint.id, checkpoint.run_id, checkpoint.checkpoint_index,
    checkpoint.last_sequence_number, checkpoint.expires_at, checkpoint.size_bytes, checkpoint.created_at,
    checkpoint.correlation_id, checkpoint.causation_id, checkpoint.actor
FROM perdure.runs AS run
JOIN perdure.run_checkpoints AS checkpoint ON checkpoint.tenant_id = run.tenant_id AND checkpoint.run_id = run.id
WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND checkpoint.tenant_id = %(tenant_id)s
ORDER BY checkpoint.created_at, checkpoint.id
