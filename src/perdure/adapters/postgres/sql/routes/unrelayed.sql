SELECT event.record
FROM perdure.route_events AS event
WHERE event.relayed_at IS NULL
ORDER BY event.registry_version
LIMIT %(limit)s
