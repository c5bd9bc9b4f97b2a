SELECT event.record
FROM perdure.route_events AS event
ORDER BY event.registry_version
LIMIT %(limit)s
