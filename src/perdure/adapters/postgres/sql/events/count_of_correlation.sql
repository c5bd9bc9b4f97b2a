SELECT count(*) AS events
FROM perdure.orchestration_events AS event
WHERE event.tenant_id = %(tenant_id)s AND event.correlation_id = %(correlation_id)s
