-- Without the states, which may be megabytes each; the latest one is read by checkpoints/latest.
SELECT
    checkpoint.tenant_id, checkpoint.id, checkpoint.run_id, checkpoint.checkpoint_index,
    checkpoint.last_sequence_number, checkpoint.expires_at, checkpoint.size_bytes, checkpoint.created_at,
    checkpoint.correlation_id, checkpoint.causation_id, checkpoint.actor
FROM perdure.run_checkpoints AS checkpoint
WHERE checkpoint.tenant_id = %(tenant_id)s AND checkpoint.run_id = %(run_id)s
    AND checkpoint.checkpoint_index > %(after)s
ORDER BY checkpoint.checkpoint_index
LIMIT %(limit)s
