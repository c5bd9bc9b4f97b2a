WITH entered AS MATERIALIZED (
    SELECT set_config('app.current_tenant_id', %(tenant_id)s::text, true)
)
INSERT INTO perdure.tenants (tenant_id, slug)
SELECT %(tenant_id)s::uuid, %(slug)s FROM entered
ON CONFLICT DO NOTHING
RETURNING tenant_id
