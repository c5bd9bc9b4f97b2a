-- The rows of a change, one function a kind of row.
--
-- A row carries ids and keys only. Its content is read from the event that announces it, so that row and event cannot
-- disagree and the content crosses the wire once. The writers loop over single-row INSERTs: a change has few rows of a
-- kind, and expanding JSON into a record set costs more than it saves there (measured). They return counts instead of
-- nothing, because an assignment is several times cheaper in PL/pgSQL than PERFORM.

-- What is recorded already under the keys that a change names, or NULL.
CREATE FUNCTION perdure.find_recorded(p_tenant uuid, p_run uuid, p_keys jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_steps jsonb;
    v_calls jsonb;
    v_effects jsonb;
BEGIN
    PERFORM FROM perdure.runs WHERE tenant_id = p_tenant AND id = p_run FOR NO KEY UPDATE;
    SELECT jsonb_agg(to_jsonb(step)) INTO v_steps FROM perdure.steps AS step
    WHERE step.tenant_id = p_tenant AND step.run_id = p_run
        AND (step.step_key, step.retry_count) IN (
            SELECT wanted.key, wanted.retry_count
            FROM jsonb_to_recordset(p_keys -> 'steps') AS wanted (key text, retry_count integer));
    SELECT jsonb_agg(to_jsonb(effect)) INTO v_effects FROM perdure.effects AS effect
    WHERE effect.tenant_id = p_tenant
        AND effect.idempotency_key = ANY (ARRAY(SELECT jsonb_array_elements_text(p_keys -> 'effects')));
    -- Calls under the keys that are named, and all calls of the steps that turned out to be recorded.
    SELECT jsonb_agg(to_jsonb(call)) INTO v_calls FROM perdure.tool_calls AS call
    WHERE call.tenant_id = p_tenant AND call.run_id = p_run AND (
        call.step_id = ANY (ARRAY(SELECT (step ->> 'id')::uuid FROM jsonb_array_elements(v_steps) AS step))
        OR (call.step_id, call.call_key) IN (
            SELECT wanted.step_id, wanted.key
            FROM jsonb_to_recordset(p_keys -> 'tool_calls') AS wanted (step_id uuid, key text)));
    IF v_steps IS NULL AND v_calls IS NULL AND v_effects IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object('steps', coalesce(v_steps, '[]'), 'tool_calls', coalesce(v_calls, '[]'),
        'effects', coalesce(v_effects, '[]'));
END
$$;

-- A signal is inserted, or taken up for a run. Returns what is recorded under its source id already, else NULL.
CREATE FUNCTION perdure.write_signal(
    p_tenant uuid, p_signal jsonb, p_content jsonb, p_change jsonb, p_now timestamptz
) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_taken_up boolean := p_signal ? 'take_up';
    v_recorded jsonb;
BEGIN
    IF v_taken_up THEN
        UPDATE perdure.signals SET status = 'PROCESSING', last_event_id = (p_signal ->> 'last_event_id')::uuid
            WHERE tenant_id = p_tenant AND id = (p_signal ->> 'id')::uuid AND status = 'PENDING';
    ELSE
        INSERT INTO perdure.signals (tenant_id, id, signal_type, source_channel, source_id, source_hash,
            normalized_payload, received_at, ingested_at, processed_at, status, correlation_id, causation_id, actor,
            source, ingested_by, last_event_id)
        VALUES (p_tenant, (p_signal ->> 'id')::uuid, p_content ->> 'signal_type', p_content ->> 'source_channel',
            p_content ->> 'source_id', p_content ->> 'source_hash', p_content -> 'normalized_payload',
            coalesce((p_content ->> 'received_at')::timestamptz, p_now), p_now,
            CASE p_signal ->> 'status' WHEN 'FAILED' THEN p_now END, p_signal ->> 'status',
            (p_change ->> 'correlation_id')::uuid, (p_signal ->> 'cause')::uuid, p_change ->> 'actor',
            p_change ->> 'source', p_change ->> 'actor', (p_signal ->> 'last_event_id')::uuid)
        ON CONFLICT (tenant_id, source_channel, source_id) DO NOTHING;
    END IF;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    SELECT jsonb_build_object('signal', to_jsonb(signal), 'run', (
            SELECT to_jsonb(run) FROM perdure.runs AS run
            WHERE run.tenant_id = p_tenant AND run.signal_id = signal.id
            ORDER BY run.started_at, run.id LIMIT 1))
        INTO v_recorded
        FROM perdure.signals AS signal
        WHERE signal.tenant_id = p_tenant AND CASE WHEN v_taken_up
            THEN signal.id = (p_signal ->> 'id')::uuid
            ELSE signal.source_channel = p_content ->> 'source_channel'
                AND signal.source_id = p_content ->> 'source_id' END;
    IF v_recorded IS NULL THEN
        RAISE EXCEPTION 'no signal %', p_signal ->> 'id' USING ERRCODE = 'PD010';
    END IF;
    RETURN v_recorded;
END
$$;

CREATE FUNCTION perdure.explain_closed_run(p_tenant uuid, p_run uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_run perdure.runs;
BEGIN
    SELECT * INTO v_run FROM perdure.runs WHERE tenant_id = p_tenant AND id = p_run;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no run %', p_run USING ERRCODE = 'PD010';
    ELSIF v_run.completion_requested_at IS NOT NULL AND v_run.status = 'COMPLETED' THEN
        RAISE EXCEPTION 'run % is COMPLETED, as it was asked to: a finished run takes nothing more', p_run
            USING ERRCODE = 'PD014';
    ELSIF v_run.status <> 'RUNNING' THEN
        RAISE EXCEPTION 'run % is %: a finished run takes nothing more', p_run, v_run.status USING ERRCODE = 'PD012';
    ELSIF v_run.completion_requested_at IS NOT NULL THEN
        RAISE EXCEPTION 'run % asked to complete and only waits for its effects', p_run USING ERRCODE = 'PD014';
    END IF;
    RAISE EXCEPTION 'another worker holds the lease of run % now', p_run USING ERRCODE = 'PD013';
END
$$;

CREATE FUNCTION perdure.insert_run(
    p_tenant uuid, p_run jsonb, p_content jsonb, p_change jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO perdure.runs (tenant_id, id, signal_id, run_type, name, started_at, correlation_id, causation_id,
        actor, source, orchestrator_version, metadata, locked_by, locked_until, lock_token, last_event_id)
    VALUES (p_tenant, (p_run ->> 'id')::uuid, (p_content ->> 'signal_id')::uuid, p_content ->> 'run_type',
        p_content ->> 'name', p_now, (p_change ->> 'correlation_id')::uuid,
        (p_content ->> 'parent_run_id')::uuid, p_change ->> 'actor', p_change ->> 'source',
        p_content ->> 'orchestrator_version', coalesce(p_content -> 'metadata', '{}'), p_run ->> 'locked_by', p_now + make_interval(secs => (p_run ->> 'lease_s')::float8),
        (p_run ->> 'lock_token')::uuid, (p_run ->> 'last_event_id')::uuid);
    RETURN 1;
END
$$;

CREATE FUNCTION perdure.insert_steps(
    p_tenant uuid, p_run uuid, p_base integer, p_change jsonb, p_events jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_steps jsonb := p_change -> 'steps';
    v_count integer := jsonb_array_length(v_steps);
    v_step jsonb;
    v_started jsonb;
    v_ended jsonb;
BEGIN
    FOR position IN 0 .. v_count - 1 LOOP
        v_step := v_steps -> position;
        v_started := p_events -> (v_step ->> 'started')::integer -> 'data';
        v_ended := p_events -> (v_step ->> 'ended')::integer -> 'data';
        INSERT INTO perdure.steps (tenant_id, id, run_id, step_index, step_type, name, step_key, retry_count, retry_of,
            started_at, completed_at, wait_until, status, input_context, output_result, specialist_id, error_details,
            metadata, correlation_id, causation_id, actor, last_event_id)
        VALUES (p_tenant, (v_step ->> 'id')::uuid, p_run, p_base + position, v_started ->> 'step_type',
            v_started ->> 'name', v_started ->> 'step_key', (v_started ->> 'retry_count')::integer,
            (v_started ->> 'retry_of')::uuid,
            p_now - make_interval(secs => coalesce((v_step ->> 'duration_ms')::float8, 0) / 1000),
            CASE WHEN v_ended IS NOT NULL THEN p_now END,
            p_now + make_interval(secs => (v_step ->> 'wait_s')::float8), v_step ->> 'status',
            v_started -> 'input_context', v_ended -> 'output_result', v_started ->> 'specialist_id',
            v_ended -> 'error_details', v_step -> 'metadata', (p_change ->> 'correlation_id')::uuid,
            (v_step ->> 'cause')::uuid, p_change ->> 'actor', (v_step ->> 'last_event_id')::uuid);
    END LOOP;
    RETURN v_count;
END
$$;

-- A status change compares, and only with the row it changes.
CREATE FUNCTION perdure.end_steps(
    p_tenant uuid, p_run uuid, p_change jsonb, p_events jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_ends jsonb := p_change -> 'step_ends';
    v_count integer := jsonb_array_length(v_ends);
    v_end jsonb;
    v_data jsonb;
    v_status text;
BEGIN
    FOR position IN 0 .. v_count - 1 LOOP
        v_end := v_ends -> position;
        v_data := p_events -> (v_end ->> 'ended')::integer -> 'data';
        UPDATE perdure.steps SET status = v_end ->> 'status', completed_at = greatest(p_now, started_at),
            output_result = v_data -> 'output_result', error_details = v_data -> 'error_details',
            last_event_id = (v_end ->> 'last_event_id')::uuid
            WHERE tenant_id = p_tenant AND id = (v_end ->> 'id')::uuid AND run_id = p_run AND status = 'RUNNING';
        IF NOT FOUND THEN
            SELECT status INTO v_status FROM perdure.steps
                WHERE tenant_id = p_tenant AND id = (v_end ->> 'id')::uuid AND run_id = p_run;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'no step % in run %', v_end ->> 'id', p_run USING ERRCODE = 'PD010';
            END IF;
            RAISE EXCEPTION 'step % is % and cannot become %', v_end ->> 'id', v_status, v_end ->> 'status'
                USING ERRCODE = 'PD003';
        END IF;
    END LOOP;
    RETURN v_count;
END
$$;

CREATE FUNCTION perdure.insert_tool_calls(
    p_tenant uuid, p_run uuid, p_change jsonb, p_events jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_calls jsonb := p_change -> 'tool_calls';
    v_count integer := jsonb_array_length(v_calls);
    v_call jsonb;
    v_called jsonb;
    v_ended jsonb;
    v_index integer;
    v_duration_ms float8;
BEGIN
    FOR position IN 0 .. v_count - 1 LOOP
        v_call := v_calls -> position;
        v_called := p_events -> (v_call ->> 'called')::integer -> 'data';
        v_ended := p_events -> (v_call ->> 'ended')::integer -> 'data';
        v_duration_ms := (v_call ->> 'duration_ms')::float8;
        v_index := (v_called ->> 'call_index')::integer;
        IF v_index IS NULL THEN
            SELECT count(*) INTO v_index FROM perdure.tool_calls
                WHERE tenant_id = p_tenant AND step_id = (v_called ->> 'step_id')::uuid;
        END IF;
        INSERT INTO perdure.tool_calls (tenant_id, id, run_id, step_id, call_index, call_key, tool_name, tool_version,
            tool_args, called_at, completed_at, status, result, error_details, execution_duration_ms, cache_hit,
            metadata, correlation_id, causation_id, actor, last_event_id)
        VALUES (p_tenant, (v_call ->> 'id')::uuid, p_run, (v_called ->> 'step_id')::uuid, v_index,
            v_called ->> 'call_key', v_called ->> 'tool_name', v_called ->> 'tool_version', v_called -> 'tool_args',
            p_now - make_interval(secs => coalesce(v_duration_ms, 0) / 1000),
            CASE WHEN v_ended IS NOT NULL THEN p_now END, v_call ->> 'status', v_ended -> 'result',
            v_ended -> 'error_details', least(round(v_duration_ms), 2147483647)::integer,
            coalesce((v_ended ->> 'cache_hit')::boolean, false), v_call -> 'metadata',
            (p_change ->> 'correlation_id')::uuid, (v_call ->> 'cause')::uuid, p_change ->> 'actor',
            (v_call ->> 'last_event_id')::uuid);
    END LOOP;
    RETURN v_count;
END
$$;

CREATE FUNCTION perdure.end_tool_calls(
    p_tenant uuid, p_run uuid, p_change jsonb, p_events jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_ends jsonb := p_change -> 'tool_call_ends';
    v_count integer := jsonb_array_length(v_ends);
    v_end jsonb;
    v_data jsonb;
BEGIN
    FOR position IN 0 .. v_count - 1 LOOP
        v_end := v_ends -> position;
        v_data := p_events -> (v_end ->> 'ended')::integer -> 'data';
        UPDATE perdure.tool_calls SET status = v_end ->> 'status', completed_at = greatest(p_now, called_at),
            result = v_data -> 'result', error_details = v_data -> 'error_details',
            -- A call may have been PENDING for longer than an integer can count: 24.8 days.
            execution_duration_ms = least(coalesce(round((v_end ->> 'duration_ms')::numeric),
                round(extract(epoch FROM greatest(p_now, called_at) - called_at) * 1000)), 2147483647)::integer,
            cache_hit = coalesce((v_data ->> 'cache_hit')::boolean, false),
            last_event_id = (v_end ->> 'last_event_id')::uuid
            WHERE tenant_id = p_tenant AND id = (v_end ->> 'id')::uuid AND run_id = p_run AND status = 'PENDING';
        IF NOT FOUND THEN
            RAISE EXCEPTION 'tool call % is not PENDING in run %', v_end ->> 'id', p_run USING ERRCODE = 'PD003';
        END IF;
    END LOOP;
    RETURN v_count;
END
$$;

CREATE FUNCTION perdure.insert_effects(
    p_tenant uuid, p_run uuid, p_base integer, p_change jsonb, p_events jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_effects jsonb := p_change -> 'effects';
    v_count integer := jsonb_array_length(v_effects);
    v_effect jsonb;
    v_requested jsonb;
BEGIN
    FOR position IN 0 .. v_count - 1 LOOP
        v_effect := v_effects -> position;
        v_requested := p_events -> (v_effect ->> 'requested')::integer -> 'data';
        INSERT INTO perdure.effects (tenant_id, id, run_id, step_id, effect_type, effect_spec, idempotency_key,
            requested_at, max_retries, metadata, correlation_id, causation_id, actor, last_event_id)
        VALUES (p_tenant, (v_effect ->> 'id')::uuid, p_run, (v_requested ->> 'step_id')::uuid,
            v_requested ->> 'effect_type', v_requested -> 'effect_spec', v_requested ->> 'idempotency_key', p_now,
            (v_requested ->> 'max_retries')::integer, v_effect -> 'metadata', (p_change ->> 'correlation_id')::uuid,
            (v_effect ->> 'cause')::uuid, p_change ->> 'actor', (v_effect ->> 'last_event_id')::uuid);
        INSERT INTO perdure.outbox_events (tenant_id, id, event_type, payload, idempotency_key, max_retries,
            correlation_id, causation_id, actor, aggregate_id, ordering_key, ordering_seq, independent, last_event_id,
            created_at)
        VALUES (p_tenant, (v_effect ->> 'outbox_id')::uuid, v_requested ->> 'effect_type',
            v_requested -> 'effect_spec', v_requested ->> 'idempotency_key', (v_requested ->> 'max_retries')::integer,
            (p_change ->> 'correlation_id')::uuid, (v_effect ->> 'cause')::uuid, p_change ->> 'actor',
            (v_effect ->> 'id')::uuid, p_run, p_base + position, v_effect ? 'independent',
            (v_effect ->> 'last_event_id')::uuid, p_now);
    END LOOP;
    RETURN v_count;
END
$$;

-- References only: which run or step concerns which domain entity.
CREATE FUNCTION perdure.insert_references(p_tenant uuid, p_run uuid, p_change jsonb) RETURNS void
    LANGUAGE sql
    AS $$
INSERT INTO perdure.entity_references (tenant_id, id, entity_type, entity_id, run_id, aggregate_type, aggregate_id,
    correlation_id, causation_id, actor)
SELECT p_tenant, entity.id, entity.type, entity.entity_id, p_run, entity.aggregate, entity.aggregate_id,
    (p_change ->> 'correlation_id')::uuid, entity.cause, p_change ->> 'actor'
FROM jsonb_to_recordset(p_change -> 'entities') AS entity (
    id uuid, type text, entity_id text, aggregate text, aggregate_id uuid, cause uuid)
ON CONFLICT (tenant_id, entity_type, entity_id, aggregate_id) DO NOTHING
$$;

CREATE FUNCTION perdure.insert_audit(p_tenant uuid, p_change jsonb, p_now timestamptz) RETURNS void
    LANGUAGE sql
    AS $$
INSERT INTO perdure.audit_trail (tenant_id, id, action, resource_type, resource_id, actor, occurred_at, context,
    correlation_id)
SELECT p_tenant, entry.id, entry.action, entry.resource_type, entry.resource_id, p_change ->> 'actor', p_now,
    coalesce(entry.context, '{}'), (p_change ->> 'correlation_id')::uuid
FROM jsonb_to_recordset(p_change -> 'audit') AS entry (
    id uuid, action text, resource_type text, resource_id uuid, context jsonb)
$$;

-- Checkpoints come after their event, because they name its number.
CREATE FUNCTION perdure.insert_checkpoints(p_tenant uuid, p_change jsonb, p_base integer, p_now timestamptz) RETURNS void
    LANGUAGE sql
    AS $$
INSERT INTO perdure.run_checkpoints (tenant_id, id, run_id, checkpoint_index, checkpoint_data, last_sequence_number,
    expires_at, size_bytes, correlation_id, causation_id, actor, last_event_id)
SELECT p_tenant, checkpoint.id, (p_change ->> 'run_id')::uuid, p_base + checkpoint.ordinal, checkpoint.content,
    event.sequence_number, p_now + make_interval(secs => checkpoint.ttl_s), checkpoint.size_bytes,
    (p_change ->> 'correlation_id')::uuid, checkpoint.cause, p_change ->> 'actor', checkpoint.last_event_id
FROM jsonb_to_recordset(p_change -> 'checkpoints') AS checkpoint (
    id uuid, ordinal integer, content jsonb, ttl_s float8, size_bytes integer, cause uuid, last_event_id uuid)
JOIN perdure.orchestration_events AS event
    ON event.tenant_id = p_tenant AND event.id = checkpoint.last_event_id
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
