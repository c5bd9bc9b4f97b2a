-- Work in hand: RUNNING runs are leased to one worker at a time, and approval waits end when they are overdue.

-- Leases RUNNING runs that nobody holds and that have something to do: not those that only wait for their effects or for
-- an approval. Oldest first. Each comes with the steps it has recorded, so that its worker skips what is done.
CREATE FUNCTION perdure.claim_runs(p_request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_now timestamptz := perdure.instant();
    v_context text := perdure.enter_tenant(v_tenant, (p_request ->> 'user_id')::uuid);
    v_runs jsonb;
BEGIN
    WITH candidates AS (
        SELECT run.id FROM perdure.runs AS run
        WHERE run.tenant_id = v_tenant AND run.status = 'RUNNING' AND run.completion_requested_at IS NULL
            AND (run.locked_until IS NULL OR run.locked_until < v_now)
            AND (NOT p_request ? 'name' OR run.name = p_request ->> 'name')
            AND NOT EXISTS (
                SELECT FROM perdure.steps AS wait
                WHERE wait.tenant_id = v_tenant AND wait.run_id = run.id
                    AND wait.step_type = 'WAIT' AND wait.status = 'RUNNING')
        ORDER BY run.started_at, run.id
        LIMIT (p_request ->> 'limit')::integer
        FOR NO KEY UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE perdure.runs AS run SET locked_by = p_request ->> 'worker', lock_token = gen_random_uuid(),
            locked_until = v_now + make_interval(secs => (p_request ->> 'lease_s')::float8)
        FROM candidates WHERE run.tenant_id = v_tenant AND run.id = candidates.id
        RETURNING run.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('run', to_jsonb(leased), 'steps', (
            SELECT coalesce(jsonb_agg(to_jsonb(step) - '{input_context,metadata}'::text[] ORDER BY step.step_index),
                '[]')
            FROM perdure.steps AS step WHERE step.tenant_id = v_tenant AND step.run_id = leased.id))
            ORDER BY leased.started_at, leased.id), '[]')
        INTO v_runs FROM leased;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_runs;
END
$$;

-- Prolongs (lease_s > 0) or gives up (lease_s = 0) a lease that is still held; answers whether it was.
CREATE FUNCTION perdure.renew_run_lease(p_request jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_lease_s float8 := (p_request ->> 'lease_s')::float8;
    v_until timestamptz := CASE WHEN v_lease_s > 0 THEN perdure.instant() + make_interval(secs => v_lease_s) END;
    v_context text := perdure.enter_tenant(v_tenant, (p_request ->> 'user_id')::uuid);
    v_held boolean;
BEGIN
    UPDATE perdure.runs SET locked_until = v_until,
        locked_by = CASE WHEN v_until IS NOT NULL THEN locked_by END,
        lock_token = CASE WHEN v_until IS NOT NULL THEN lock_token END
        WHERE tenant_id = v_tenant AND id = (p_request ->> 'run_id')::uuid AND status = 'RUNNING'
            AND lock_token = (p_request ->> 'lock_token')::uuid;
    v_held := FOUND;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_held;
END
$$;

-- Ends the overdue approval waits of one tenant with decision TIMEOUT; the run's worker decides what that means.
CREATE FUNCTION perdure.end_overdue_waits(p_request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_now timestamptz := perdure.instant();
    v_context text := perdure.enter_tenant(v_tenant, NULL);
    v_step record;
    v_result jsonb := jsonb_build_object('decision', 'TIMEOUT', 'decided_by', p_request ->> 'actor', 'decided_at', v_now);
    v_drafts jsonb := '[]';
    v_event uuid;
    v_count integer;
BEGIN
    FOR v_step IN
        SELECT step.* FROM perdure.steps AS step
        JOIN perdure.runs AS run ON run.tenant_id = v_tenant AND run.id = step.run_id
        WHERE step.tenant_id = v_tenant AND step.step_type = 'WAIT' AND step.status = 'RUNNING'
            AND step.wait_until <= v_now
        ORDER BY step.run_id, step.step_index LIMIT (p_request ->> 'limit')::integer
        FOR NO KEY UPDATE OF run
    LOOP
        v_event := perdure.uuid7();
        UPDATE perdure.steps SET status = 'COMPLETED', completed_at = v_now, output_result = v_result,
            last_event_id = v_event
            WHERE tenant_id = v_tenant AND id = v_step.id AND status = 'RUNNING';
        CONTINUE WHEN NOT FOUND;
        UPDATE perdure.runs SET open_steps = open_steps - 1, version = version + 1
            WHERE tenant_id = v_tenant AND id = v_step.run_id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'STEP_COMPLETED', 'STEP', v_step.id,
            v_step.correlation_id, v_step.last_event_id,
            jsonb_build_object('step_id', v_step.id, 'run_id', v_step.run_id, 'step_index', v_step.step_index,
                'step_type', 'WAIT', 'output_result', v_result,
                'duration_ms', round(extract(epoch FROM v_now - v_step.started_at) * 1000, 3)));
        INSERT INTO perdure.audit_trail (tenant_id, id, action, resource_type, resource_id, actor, occurred_at, context,
            correlation_id)
        VALUES (v_tenant, perdure.uuid7(), 'APPROVAL_TIMED_OUT', 'STEP', v_step.id, p_request ->> 'actor', v_now,
            v_result, v_step.correlation_id);
    END LOOP;
    v_count := jsonb_array_length(v_drafts);
    IF v_count > 0 THEN
        v_count := perdure.insert_events(v_tenant, perdure.number_events(v_tenant, NULL, v_count) - v_count, v_drafts,
            NULL, p_request ->> 'actor', p_request ->> 'source', v_now, 0, 0);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('ended', v_count);
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.claim_runs(jsonb), perdure.renew_run_lease(jsonb) TO perdure_app;
GRANT EXECUTE ON FUNCTION perdure.end_overdue_waits(jsonb) TO perdure_relay;
