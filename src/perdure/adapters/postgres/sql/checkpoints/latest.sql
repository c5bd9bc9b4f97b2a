SELECT
    checkpoint.tenant_id, checkpoint.id, checkpoint.run_id, checkpoint.checkpoint_index, checkpoint.checkpoint_data,
    checkpoint.last_sequence_number, checkpoint.expires_at, checkpoint.size_bytes, checkpoint.created_at,
    checkpoint.correlation_id, checkpoint.causation_id, checkpoint.actor,
    checkpoint.expires_at <= perdure.instant() AS expired
FROM perdure.run_checkpoints AS checkpoint
WHERE checkpoint.tenant_id = %(tenant_id)s AND checkpoint.run_id = %(run_id)s
ORDER BY checkpoint.checkpoint_index DESC
LIMIT 1
