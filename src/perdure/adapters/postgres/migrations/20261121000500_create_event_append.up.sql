-- The one place that numbers and writes events, and the one place that ends a run. Every writer hands its drafts to
-- number_events and insert_events as the last thing it does, because the tenant's counter row stays locked from there to the commit.

-- An event that is still to be numbered is a JSON object {id, type, aggregate, aggregate_id, data, cause,
-- correlation_id, ago_ms}: the form in which changes arrive.
CREATE FUNCTION perdure.draft_event(
    p_id uuid, p_type text, p_aggregate text, p_aggregate_id uuid, p_correlation uuid, p_cause uuid, p_data jsonb
) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN jsonb_build_object('id', p_id, 'type', p_type, 'aggregate', p_aggregate, 'aggregate_id', p_aggregate_id,
        'correlation_id', p_correlation, 'cause', p_cause, 'data', p_data);
END
$$;

-- Opens the tenant, checks the membership of the user when one is named, and returns the context to leave behind: each
-- function that enters a tenant ends with leave_tenant, so that no context outlives the call that chose it. (A SET
-- clause on the function would do the same, but only a superuser may declare one for a setting of our own.)
CREATE FUNCTION perdure.enter_tenant(p_tenant uuid, p_user uuid) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_before text := coalesce(current_setting('app.current_tenant_id', true), '');
    v_now text := set_config('app.current_tenant_id', p_tenant::text, true);
BEGIN
    IF p_user IS NOT NULL THEN
        PERFORM FROM perdure.user_tenants WHERE user_id = p_user AND tenant_id = p_tenant;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'user % is not a member of this tenant', p_user USING ERRCODE = 'PD016';
        END IF;
    END IF;
    RETURN v_before;
END
$$;

CREATE FUNCTION perdure.leave_tenant(p_context text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN set_config('app.current_tenant_id', p_context, true);
END
$$;

-- In lab a tenant is made on first use; elsewhere an unknown one is refused.
CREATE FUNCTION perdure.admit_tenant(p_tenant uuid, p_slug text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF p_slug IS NULL OR (SELECT mode FROM perdure.plane_settings) <> 'lab' THEN
        RAISE EXCEPTION 'unknown tenant %', coalesce(p_slug, p_tenant::text) USING ERRCODE = 'PD017';
    END IF;
    INSERT INTO perdure.tenants (tenant_id, slug) VALUES (p_tenant, p_slug) ON CONFLICT DO NOTHING;
    INSERT INTO perdure.tenant_sequences (tenant_id) VALUES (p_tenant) ON CONFLICT DO NOTHING;
END
$$;

-- Takes the next numbers of the tenant and returns the last of them. The counter row is locked from here to the commit.
CREATE FUNCTION perdure.number_events(p_tenant uuid, p_slug text, p_count integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_last bigint;
BEGIN
    IF p_count = 0 THEN
        SELECT last_number INTO v_last FROM perdure.tenant_sequences WHERE tenant_id = p_tenant;
        RETURN coalesce(v_last, 0);
    END IF;
    UPDATE perdure.tenant_sequences SET last_number = last_number + p_count
        WHERE tenant_id = p_tenant RETURNING last_number INTO v_last;
    IF NOT FOUND THEN
        PERFORM perdure.admit_tenant(p_tenant, p_slug);
        UPDATE perdure.tenant_sequences SET last_number = last_number + p_count
            WHERE tenant_id = p_tenant RETURNING last_number INTO v_last;
    END IF;
    RETURN v_last;
END
$$;

-- Writes drafts under the numbers after p_before, in their order, and returns how many. The indexes that only the
-- commit knows are put into their data here.
CREATE FUNCTION perdure.insert_events(
    p_tenant uuid, p_before bigint, p_events jsonb, p_correlation uuid, p_actor text, p_source text,
    p_now timestamptz, p_step_base integer, p_checkpoint_base integer
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO perdure.orchestration_events (
        tenant_id, id, sequence_number, event_type, aggregate_type, aggregate_id, event_data,
        correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT p_tenant, (event ->> 'id')::uuid, p_before + position, event ->> 'type', event ->> 'aggregate',
        (event ->> 'aggregate_id')::uuid,
        CASE
            WHEN event ? 'new_step' THEN (event -> 'data')
                || jsonb_build_object('step_index', p_step_base + (event ->> 'new_step')::integer)
            WHEN event ? 'new_checkpoint' THEN (event -> 'data') || jsonb_build_object(
                'checkpoint_index', p_checkpoint_base + (event ->> 'new_checkpoint')::integer,
                'last_sequence_number', p_before + position)
            WHEN event ? 'late_call' THEN (event -> 'data') || jsonb_build_object('call_index', (
                SELECT call.call_index FROM perdure.tool_calls AS call
                WHERE call.tenant_id = p_tenant AND call.id = (event ->> 'aggregate_id')::uuid))
            WHEN event ? 'late_end' THEN (event -> 'data') || (
                SELECT jsonb_build_object('step_index', step.step_index,
                    'duration_ms',
                    round(extract(epoch FROM greatest(p_now, step.started_at) - step.started_at) * 1000, 3))
                FROM perdure.steps AS step
                WHERE step.tenant_id = p_tenant AND step.id = (event ->> 'aggregate_id')::uuid)
            WHEN event ? 'late_call_end' THEN (event -> 'data') || (
                SELECT jsonb_build_object('execution_duration_ms', call.execution_duration_ms)
                FROM perdure.tool_calls AS call
                WHERE call.tenant_id = p_tenant AND call.id = (event ->> 'aggregate_id')::uuid)
            ELSE event -> 'data'
        END,
        coalesce((event ->> 'correlation_id')::uuid, p_correlation), (event ->> 'cause')::uuid, p_actor, p_source,
        CASE WHEN event ? 'ago_ms' THEN p_now - make_interval(secs => (event ->> 'ago_ms')::float8 / 1000)
            ELSE p_now END
    FROM jsonb_array_elements(p_events) WITH ORDINALITY AS draft (event, position);
    RETURN jsonb_array_length(p_events);
END
$$;

-- Moves what a failed or cancelled run has not delivered to DEAD_LETTER. An effect in the hands of a deliverer is left
-- to it: its outcome is a fact that will be recorded. The outbox row is locked before the effect row, as the relay does.
CREATE FUNCTION perdure.bury_undelivered(
    p_tenant uuid, p_run uuid, p_cause uuid, p_now timestamptz
) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_drafts jsonb := '[]';
    v_effect record;
    v_event uuid;
BEGIN
    FOR v_effect IN
        SELECT effect.id, effect.retry_count, effect.correlation_id, entry.id AS outbox_id
        FROM perdure.effects AS effect
        JOIN perdure.outbox_events AS entry
            ON entry.tenant_id = effect.tenant_id AND entry.idempotency_key = effect.idempotency_key
        WHERE effect.tenant_id = p_tenant AND effect.run_id = p_run AND entry.status IN ('PENDING', 'FAILED')
        ORDER BY entry.ordering_seq
        FOR UPDATE OF entry
    LOOP
        v_event := perdure.uuid7();
        UPDATE perdure.outbox_events SET status = 'DEAD_LETTER', next_retry_at = NULL, processed_at = p_now,
            last_event_id = v_event,
            error_details = '{"code": "RUN_CANCELLED", "message": "the run ended before this was delivered"}'
            WHERE tenant_id = p_tenant AND id = v_effect.outbox_id;
        UPDATE perdure.effects SET status = 'DEAD_LETTER', next_retry_at = NULL, last_event_id = v_event,
            error_details = '{"code": "RUN_CANCELLED", "message": "the run ended before this was delivered"}'
            WHERE tenant_id = p_tenant AND id = v_effect.id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'EFFECT_DEAD_LETTERED', 'EFFECT', v_effect.id,
            v_effect.correlation_id, p_cause,
            jsonb_build_object('effect_id', v_effect.id, 'run_id', p_run, 'outbox_id', v_effect.outbox_id,
                'retry_count', v_effect.retry_count, 'error_code', 'RUN_CANCELLED',
                'error_message', 'the run ended before this was delivered'));
    END LOOP;
    RETURN v_drafts;
END
$$;

-- Closes what a failed or cancelled run left open: running steps are skipped, pending tool calls fail. What the caller
-- waited to lock may have begun after p_now was read, so no end is earlier than its beginning.
CREATE FUNCTION perdure.close_open_work(
    p_tenant uuid, p_run uuid, p_status text, p_cause uuid, p_now timestamptz
) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_drafts jsonb := '[]';
    v_error jsonb := jsonb_build_object('code', 'RUN_' || p_status, 'message', 'the run ended first');
    v_row record;
    v_event uuid;
BEGIN
    FOR v_row IN
        SELECT id, step_id, correlation_id FROM perdure.tool_calls
        WHERE tenant_id = p_tenant AND run_id = p_run AND status = 'PENDING' ORDER BY id FOR UPDATE
    LOOP
        v_event := perdure.uuid7();
        UPDATE perdure.tool_calls SET status = 'FAILED', completed_at = greatest(p_now, called_at),
            error_details = v_error, last_event_id = v_event WHERE tenant_id = p_tenant AND id = v_row.id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'TOOL_FAILED', 'TOOL_CALL', v_row.id,
            v_row.correlation_id, p_cause,
            jsonb_build_object('tool_call_id', v_row.id, 'step_id', v_row.step_id, 'run_id', p_run,
                'error_details', v_error, 'execution_duration_ms', NULL));
    END LOOP;
    FOR v_row IN
        SELECT id, step_index, correlation_id FROM perdure.steps
        WHERE tenant_id = p_tenant AND run_id = p_run AND status = 'RUNNING' ORDER BY step_index FOR UPDATE
    LOOP
        v_event := perdure.uuid7();
        UPDATE perdure.steps SET status = 'SKIPPED', completed_at = greatest(p_now, started_at), last_event_id = v_event
            WHERE tenant_id = p_tenant AND id = v_row.id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'STEP_SKIPPED', 'STEP', v_row.id,
            v_row.correlation_id, p_cause,
            jsonb_build_object('step_id', v_row.id, 'run_id', p_run, 'step_index', v_row.step_index,
                'reason', 'RUN_' || p_status));
    END LOOP;
    RETURN v_drafts;
END
$$;

-- Ends a RUNNING run that the caller has locked, and with it the signal it was processing.
CREATE FUNCTION perdure.end_run(
    p_tenant uuid, p_run uuid, p_status text, p_reason text, p_error jsonb, p_event uuid, p_cause uuid,
    p_actor text, p_now timestamptz
) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_run perdure.runs;
    v_drafts jsonb := '[]';
    v_data jsonb;
    v_event uuid;
BEGIN
    SELECT * INTO STRICT v_run FROM perdure.runs WHERE tenant_id = p_tenant AND id = p_run;
    v_data := CASE p_status
        WHEN 'COMPLETED' THEN jsonb_build_object('run_id', p_run, 'total_steps', v_run.total_steps,
            'failed_steps', v_run.failed_steps,
            'duration_ms', round(extract(epoch FROM greatest(p_now, v_run.started_at) - v_run.started_at) * 1000, 3))
        WHEN 'FAILED' THEN jsonb_build_object('run_id', p_run, 'exit_reason', p_reason,
            'error', coalesce(p_error, jsonb_build_object('code', p_reason)))
        ELSE jsonb_build_object('run_id', p_run, 'exit_reason', p_reason, 'requested_by', p_actor)
    END;
    v_drafts := v_drafts || perdure.draft_event(p_event, 'RUN_' || p_status, 'RUN', p_run, v_run.correlation_id,
        p_cause, v_data);
    IF p_status <> 'COMPLETED' THEN
        v_drafts := v_drafts
            || perdure.close_open_work(p_tenant, p_run, p_status, p_event, p_now)
            || perdure.bury_undelivered(p_tenant, p_run, p_event, p_now);
    END IF;
    UPDATE perdure.runs SET status = p_status, completed_at = greatest(p_now, started_at), exit_reason = p_reason,
        open_steps = 0, last_event_id = p_event, version = version + 1,
        open_effects = CASE WHEN p_status = 'COMPLETED' THEN open_effects ELSE
            (SELECT count(*) FROM perdure.effects
             WHERE tenant_id = p_tenant AND run_id = p_run AND status = 'EXECUTING') END,
        locked_by = NULL, locked_until = NULL, lock_token = NULL
        WHERE tenant_id = p_tenant AND id = p_run;
    v_event := perdure.uuid7();
    UPDATE perdure.signals SET status = CASE p_status WHEN 'COMPLETED' THEN 'PROCESSED' ELSE 'FAILED' END,
        processed_at = p_now, last_event_id = v_event
        WHERE tenant_id = p_tenant AND id = v_run.signal_id AND status = 'PROCESSING';
    IF FOUND THEN
        v_drafts := v_drafts || perdure.draft_event(v_event,
            CASE p_status WHEN 'COMPLETED' THEN 'SIGNAL_PROCESSED' ELSE 'SIGNAL_PROCESSING_FAILED' END,
            'SIGNAL', v_run.signal_id, v_run.correlation_id, p_event,
            CASE p_status
                WHEN 'COMPLETED' THEN jsonb_build_object('signal_id', v_run.signal_id, 'run_id', p_run,
                    'processed_at', p_now)
                ELSE jsonb_build_object('signal_id', v_run.signal_id, 'run_id', p_run,
                    'reason', CASE p_status WHEN 'CANCELLED' THEN 'RUN_CANCELLED' ELSE p_reason END)
            END);
    END IF;
    RETURN v_drafts;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
