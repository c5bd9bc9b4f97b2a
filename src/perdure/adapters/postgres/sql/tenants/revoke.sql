DELETE FROM perdure.user_tenants AS member
WHERE member.user_id = %(user_id)s AND member.tenant_id = %(tenant_id)s
RETURNING member.user_id, member.role
