-- Rows at their beginning and events at their moment; at the same moment rows first, then events by number.
SELECT entry.occurred_at, entry.kind, entry.id, entry.title, entry.status, entry.actor, entry.place, entry.position
FROM (
    SELECT signal.received_at AS occurred_at, 'SIGNAL' AS kind, signal.id,
        signal.source_channel || '/' || signal.source_id AS title, signal.status::text AS status,
        signal.actor::text AS actor, 1 AS place, 0::bigint AS position
    FROM perdure.signals AS signal
    WHERE signal.tenant_id = %(tenant_id)s AND signal.correlation_id = %(correlation_id)s
    UNION ALL
    SELECT run.started_at AS occurred_at, 'RUN' AS kind, run.id,
        run.name::text AS title, run.status::text AS status,
        run.actor::text AS actor, 2 AS place, 0::bigint AS position
    FROM perdure.runs AS run
    WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s
    UNION ALL
    SELECT step.started_at AS occurred_at, 'STEP' AS kind, step.id,
        step.name::text AS title, step.status::text AS status,
        step.actor::text AS actor, 3 AS place, step.step_index::bigint AS position
    FROM perdure.runs AS run
    JOIN perdure.steps AS step ON step.tenant_id = run.tenant_id AND step.run_id = run.id
    WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND step.tenant_id = %(tenant_id)s
    UNION ALL
    SELECT call.called_at AS occurred_at, 'TOOL_CALL' AS kind, call.id,
        call.tool_name::text AS title, call.status::text AS status,
        call.actor::text AS actor, 4 AS place, call.call_index::bigint AS position
    FROM perdure.runs AS run
    JOIN perdure.tool_calls AS call ON call.tenant_id = run.tenant_id AND call.run_id = run.id
    WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND call.tenant_id = %(tenant_id)s
    UNION ALL
    SELECT effect.requested_at AS occurred_at, 'EFFECT' AS kind, effect.id,
        effect.effect_type::text AS title, effect.status::text AS status,
        effect.actor::text AS actor, 5 AS place, 0::bigint AS position
    FROM perdure.runs AS run
    JOIN perdure.effects AS effect ON effect.tenant_id = run.tenant_id AND effect.run_id = run.id
    WHERE run.tenant_id = %(tenant_id)s AND run.correlation_id = %(correlation_id)s AND effect.tenant_id = %(tenant_id)s
    UNION ALL
    SELECT event.occurred_at AS occurred_at, 'EVENT' AS kind, event.id,
        event.event_type::text AS title, NULL AS status,
        event.actor::text AS actor, 6 AS place, event.sequence_number AS position
    FROM perdure.orchestration_events AS event
    WHERE event.tenant_id = %(tenant_id)s AND event.correlation_id = %(correlation_id)s
) AS entry
WHERE %(after_at)s::timestamptz IS NULL
    OR (entry.occurred_at, entry.place, entry.position, entry.id)
        > (%(after_at)s, %(after_place)s::integer, %(after_position)s::bigint, %(after_id)s::uuid)
ORDER BY entry.occurred_at, entry.place, entry.position, entry.id
LIMIT %(limit)s
