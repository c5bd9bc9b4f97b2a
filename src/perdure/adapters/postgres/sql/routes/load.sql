SELECT route.tenant_id, route.route_key, route.version, route.record
FROM perdure.routes AS route
ORDER BY route.tenant_id, route.route_key
