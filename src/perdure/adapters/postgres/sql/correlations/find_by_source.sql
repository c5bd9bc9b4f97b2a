-- A channel and a source id may both hold the slash that joins them, so that there may be several readings.
SELECT DISTINCT signal.correlation_id
FROM unnest(%(channels)s::text[], %(source_ids)s::text[]) AS reading (channel, source_id)
CROSS JOIN LATERAL (
    SELECT found.correlation_id
    FROM perdure.signals AS found
    WHERE found.tenant_id = %(tenant_id)s AND found.source_channel = reading.channel
        AND found.source_id = reading.source_id
    LIMIT 1
) AS signal
