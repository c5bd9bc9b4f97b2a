INSERT INTO perdure.audit_trail (tenant_id, id, action, resource_type, resource_id, actor, context)
VALUES (%(tenant_id)s, perdure.uuid7(), %(action)s, %(resource_type)s, %(resource_id)s, %(actor)s, %(context)s)
