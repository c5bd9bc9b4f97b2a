INSERT INTO perdure.user_tenants AS member (user_id, tenant_id, role)
VALUES (%(user_id)s, %(tenant_id)s, %(role)s)
ON CONFLICT ON CONSTRAINT pk_user_tenants DO UPDATE SET role = excluded.role, updated_at = now()
WHERE member.role <> excluded.role
RETURNING member.user_id
