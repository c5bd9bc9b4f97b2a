INSERT INTO perdure.tenant_sequences (tenant_id) VALUES (%(tenant_id)s) ON CONFLICT DO NOTHING
