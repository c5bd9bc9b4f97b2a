SELECT tenant_id, slug AS tenant FROM perdure.tenants
WHERE tenant_id > %(after)s
ORDER BY tenant_id
LIMIT %(limit)s
