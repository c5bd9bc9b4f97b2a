SELECT sequence.last_number
FROM perdure.tenant_sequences AS sequence
WHERE sequence.tenant_id = %(tenant_id)s
