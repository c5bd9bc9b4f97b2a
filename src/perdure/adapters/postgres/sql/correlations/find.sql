-- Which correlations know this id, as their own or as that of something in them.
SELECT DISTINCT found.correlation_id
FROM (
    SELECT correlation_id FROM perdure.signals WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.runs WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.steps WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.effects WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.tool_calls WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.run_checkpoints WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.outbox_events WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    SELECT correlation_id FROM perdure.orchestration_events WHERE tenant_id = %(tenant_id)s AND id = %(id)s
    UNION ALL
    (SELECT correlation_id FROM perdure.signals
     WHERE tenant_id = %(tenant_id)s AND correlation_id = %(id)s LIMIT 1)
    UNION ALL
    (SELECT correlation_id FROM perdure.orchestration_events
     WHERE tenant_id = %(tenant_id)s AND correlation_id = %(id)s ORDER BY sequence_number LIMIT 1)
) AS found
