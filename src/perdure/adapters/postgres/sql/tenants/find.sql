-- Also enters the tenant for the rest of the transaction: the audit trail is written within it.
SELECT tenant.tenant_id, set_config('app.current_tenant_id', tenant.tenant_id::text, true) AS entered
FROM perdure.tenants AS tenant
WHERE tenant.slug = %(slug)s
