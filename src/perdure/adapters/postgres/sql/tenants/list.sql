SELECT tenant.tenant_id, tenant.slug, tenant.created_at, coalesce((
    SELECT jsonb_agg(jsonb_build_object('user_id', member.user_id, 'role', member.role,
        'created_at', member.created_at) ORDER BY member.created_at, member.user_id)
    FROM perdure.user_tenants AS member
    WHERE member.tenant_id = tenant.tenant_id), '[]') AS members
FROM perdure.tenants AS tenant
WHERE tenant.slug > %(after)s
ORDER BY tenant.slug
LIMIT %(limit)s
