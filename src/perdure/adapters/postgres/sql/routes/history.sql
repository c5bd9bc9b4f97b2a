SELECT past.record
FROM perdure.route_history AS past
WHERE past.tenant_id = %(tenant_id)s AND past.route_key = %(route_key)s AND past.version > %(after)s
ORDER BY past.version
LIMIT %(limit)s
