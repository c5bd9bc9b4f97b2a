-- A whole change is one call and one transaction. write_change writes the rows of one change; commit_changes runs one or
-- many of them for one tenant, takes the tenant's counter last, writes the events, and the transaction commits.
--
-- Result of a change: {"ok": ...}, or {"recorded": ...} when what it names exists already (nothing was written), or
-- inside a batch {"error": ...}. All changes lock in one order (runs by id, then rows, then the counter), so that two
-- batches cannot wait for each other.

-- Ends the run that a change asks to end. Completion waits for outstanding effects; failing and cancelling do not.
CREATE FUNCTION perdure.settle_run(
    p_tenant uuid, p_run uuid, p_change jsonb, p_now timestamptz
) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_end jsonb := p_change -> 'run_end';
    v_run perdure.runs;
BEGIN
    SELECT * INTO STRICT v_run FROM perdure.runs WHERE tenant_id = p_tenant AND id = p_run;
    IF v_end ->> 'status' = 'COMPLETED' THEN
        IF v_run.open_steps > 0 THEN
            RAISE EXCEPTION 'run % has % steps still RUNNING and cannot complete', p_run, v_run.open_steps
                USING ERRCODE = 'PD020', HINT = 'Complete, fail or skip them in this change.';
        END IF;
        IF EXISTS (SELECT FROM perdure.tool_calls WHERE tenant_id = p_tenant AND run_id = p_run AND status = 'PENDING') THEN
            RAISE EXCEPTION 'run % has tool calls still PENDING and cannot complete', p_run
                USING ERRCODE = 'PD020', HINT = 'Record their results or errors in this change.';
        END IF;
        IF v_run.failed_steps > 0 AND EXISTS (
            SELECT FROM perdure.steps AS failed
            WHERE failed.tenant_id = p_tenant AND failed.run_id = p_run AND failed.status = 'FAILED'
                AND NOT EXISTS (
                    SELECT FROM perdure.steps AS later
                    WHERE later.tenant_id = p_tenant AND later.run_id = p_run AND later.step_key = failed.step_key
                        AND later.retry_count > failed.retry_count AND later.status IN ('COMPLETED', 'SKIPPED'))
        ) THEN
            RAISE EXCEPTION 'run % has a failed step that no retry made good and cannot complete', p_run
                USING ERRCODE = 'PD020', HINT = 'Retry the step, or fail the run.';
        END IF;
        IF v_run.open_effects > 0 THEN
            UPDATE perdure.runs SET completion_requested_at = p_now
                WHERE tenant_id = p_tenant AND id = p_run;
            RETURN '[]';
        END IF;
    END IF;
    RETURN perdure.end_run(p_tenant, p_run, v_end ->> 'status', v_end ->> 'exit_reason', v_end -> 'error',
        (v_end ->> 'event_id')::uuid, (v_end ->> 'cause')::uuid, p_change ->> 'actor', p_now);
END
$$;

-- Writes the rows of one change. A PL/pgSQL expression is set up anew in each transaction, so this path has few of them:
-- rare kinds of rows are asked for together, and what an UPDATE can compute is left to it.
CREATE FUNCTION perdure.write_change(p_tenant uuid, p_change jsonb, p_now timestamptz) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_events jsonb := p_change -> 'events';
    v_counts jsonb := p_change -> 'counts';
    v_run uuid := (p_change ->> 'run_id')::uuid;
    v_lease uuid := (p_change ->> 'lock_token')::uuid;
    v_step_base integer := 0;
    v_effect_base integer := 0;
    v_checkpoint_base integer := 0;
    v_answer jsonb;
    v_rows integer;
BEGIN
    IF p_change ?| '{signal,keys}' THEN
        IF p_change ? 'signal' THEN
            v_answer := perdure.write_signal(p_tenant, p_change -> 'signal',
                v_events -> (p_change -> 'signal' ->> 'received')::integer -> 'data', p_change, p_now);
        ELSE
            v_answer := perdure.find_recorded(p_tenant, v_run, p_change -> 'keys');
        END IF;
        IF v_answer IS NOT NULL THEN
            RETURN jsonb_build_object('recorded', v_answer);
        END IF;
    END IF;
    IF p_change ? 'run' THEN
        v_rows := perdure.insert_run(p_tenant, p_change -> 'run',
            v_events -> (p_change -> 'run' ->> 'started')::integer -> 'data', p_change, p_now);
    ELSIF v_run IS NOT NULL THEN
        UPDATE perdure.runs AS run SET version = run.version + 1,
            total_steps = run.total_steps + coalesce(jsonb_array_length(p_change -> 'steps'), 0),
            failed_steps = run.failed_steps + (v_counts ->> 'failed')::integer,
            -- Below zero only when a step ends that has ended before, which end_steps says in better words.
            open_steps = greatest(run.open_steps + (v_counts ->> 'open')::integer, 0),
            total_effects = run.total_effects + coalesce(jsonb_array_length(p_change -> 'effects'), 0),
            open_effects = run.open_effects + coalesce(jsonb_array_length(p_change -> 'effects'), 0),
            total_checkpoints = run.total_checkpoints + coalesce(jsonb_array_length(p_change -> 'checkpoints'), 0),
            locked_until = coalesce(p_now + make_interval(secs => (p_change ->> 'lease_s')::float8), run.locked_until)
            WHERE run.tenant_id = p_tenant AND run.id = v_run AND run.status = 'RUNNING'
                -- What only waits for its effects takes nothing more, but it can still be failed or cancelled.
                AND (run.completion_requested_at IS NULL OR p_change -> 'run_end' ->> 'status' <> 'COMPLETED')
                AND run.lock_token IS NOT DISTINCT FROM coalesce(v_lease, run.lock_token)
            RETURNING run.total_steps - coalesce(jsonb_array_length(p_change -> 'steps'), 0),
                run.total_effects - coalesce(jsonb_array_length(p_change -> 'effects'), 0),
                run.total_checkpoints - coalesce(jsonb_array_length(p_change -> 'checkpoints'), 0)
            INTO v_step_base, v_effect_base, v_checkpoint_base;
        IF NOT FOUND THEN
            PERFORM perdure.explain_closed_run(p_tenant, v_run);
        END IF;
    END IF;
    IF p_change ? 'steps' THEN
        v_rows := perdure.insert_steps(p_tenant, v_run, v_step_base, p_change, v_events, p_now);
    END IF;
    IF p_change ?| '{step_ends,tool_calls,tool_call_ends,effects}' THEN
        IF p_change ? 'step_ends' THEN
            v_rows := perdure.end_steps(p_tenant, v_run, p_change, v_events, p_now);
        END IF;
        IF p_change ? 'tool_calls' THEN
            v_rows := perdure.insert_tool_calls(p_tenant, v_run, p_change, v_events, p_now);
        END IF;
        IF p_change ? 'tool_call_ends' THEN
            v_rows := perdure.end_tool_calls(p_tenant, v_run, p_change, v_events, p_now);
        END IF;
        IF p_change ? 'effects' THEN
            v_rows := perdure.insert_effects(p_tenant, v_run, v_effect_base, p_change, v_events, p_now);
        END IF;
    END IF;
    v_answer := jsonb_build_object('step_base', v_step_base, 'checkpoint_base', v_checkpoint_base);
    IF p_change ?| '{entities,audit,run_end}' THEN
        IF p_change ? 'entities' THEN
            PERFORM perdure.insert_references(p_tenant, v_run, p_change);
        END IF;
        IF p_change ? 'audit' THEN
            PERFORM perdure.insert_audit(p_tenant, p_change, p_now);
        END IF;
        IF p_change ? 'run_end' THEN
            v_answer := v_answer
                || jsonb_build_object('more', perdure.settle_run(p_tenant, v_run, p_change, p_now));
        END IF;
    END IF;
    RETURN jsonb_build_object('ok', v_answer);
END
$$;

-- One change of a batch, in a savepoint of its own: its failure is its own.
CREATE FUNCTION perdure.try_write_change(p_tenant uuid, p_change jsonb, p_now timestamptz) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_constraint text;
    v_hint text;
BEGIN
    RETURN perdure.write_change(p_tenant, p_change, p_now);
EXCEPTION WHEN OTHERS THEN
    IF sqlstate IN ('40001', '40P01') THEN
        RAISE; -- not the fault of this change: the whole transaction is tried again
    END IF;
    GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME, v_hint = PG_EXCEPTION_HINT;
    RETURN jsonb_build_object('error', jsonb_build_object('sqlstate', sqlstate, 'message', sqlerrm,
        'constraint', v_constraint, 'hint', v_hint));
END
$$;

-- Writes the events of one change under the numbers after p_before, and the checkpoints that name them.
CREATE FUNCTION perdure.announce_change(
    p_tenant uuid, p_before bigint, p_change jsonb, p_written jsonb, p_now timestamptz
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_events jsonb := p_change -> 'events';
    v_count integer;
BEGIN
    IF p_written ? 'more' THEN
        v_events := v_events || (p_written -> 'more');
    END IF;
    v_count := perdure.insert_events(p_tenant, p_before, v_events, (p_change ->> 'correlation_id')::uuid,
        p_change ->> 'actor', p_change ->> 'source', p_now, (p_written ->> 'step_base')::integer,
        (p_written ->> 'checkpoint_base')::integer);
    IF p_change ? 'checkpoints' THEN
        PERFORM perdure.insert_checkpoints(p_tenant, p_change, (p_written ->> 'checkpoint_base')::integer, p_now);
    END IF;
    RETURN v_count;
END
$$;

-- The changes of one tenant that waited together: runs locked in order, each change in its savepoint, one counter step.
CREATE FUNCTION perdure.commit_many(p_tenant uuid, p_slug text, p_changes jsonb, p_now timestamptz) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_results jsonb[] := '{}';
    v_result jsonb;
    v_events integer := 0;
    v_last bigint;
    v_before bigint;
BEGIN
    PERFORM FROM perdure.runs WHERE tenant_id = p_tenant
        AND id = ANY (ARRAY(SELECT (change ->> 'run_id')::uuid FROM jsonb_array_elements(p_changes) AS change))
        ORDER BY id FOR NO KEY UPDATE;
    FOR position IN 0 .. jsonb_array_length(p_changes) - 1 LOOP
        v_result := perdure.try_write_change(p_tenant, p_changes -> position, p_now);
        v_results := v_results || v_result;
        IF v_result ? 'ok' THEN
            v_events := v_events + jsonb_array_length(p_changes -> position -> 'events')
                + coalesce(jsonb_array_length(v_result -> 'ok' -> 'more'), 0);
        END IF;
    END LOOP;
    v_last := perdure.number_events(p_tenant, p_slug, v_events);
    v_before := v_last - v_events;
    FOR position IN 1 .. cardinality(v_results) LOOP
        v_result := v_results[position];
        IF v_result ? 'ok' THEN
            v_before := v_before + perdure.announce_change(p_tenant, v_before, p_changes -> (position - 1),
                v_result -> 'ok', p_now);
            v_results[position] := v_result || jsonb_build_object('at', p_now, 'last_sequence_number', v_before);
        END IF;
    END LOOP;
    RETURN to_jsonb(v_results);
END
$$;

-- Commits one change of one tenant and returns its result; a refusal is raised.
CREATE FUNCTION perdure.commit_change(p_tenant uuid, p_slug text, p_user uuid, p_change jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_now timestamptz := perdure.instant();
    v_context text := perdure.enter_tenant(p_tenant, p_user);
    v_written jsonb := perdure.write_change(p_tenant, p_change, v_now);
    v_events integer;
    v_last bigint;
BEGIN
    IF v_written ? 'ok' THEN
        v_events := jsonb_array_length(p_change -> 'events')
            + coalesce(jsonb_array_length(v_written -> 'ok' -> 'more'), 0);
        v_last := perdure.number_events(p_tenant, p_slug, v_events);
        v_events := perdure.announce_change(p_tenant, v_last - v_events, p_change, v_written -> 'ok', v_now);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_written || jsonb_build_object('at', v_now, 'last_sequence_number', v_last);
END
$$;

-- Commits the changes of one tenant that waited together and returns one result a change, in order: what one of them
-- is refused for stands in its result.
CREATE FUNCTION perdure.commit_changes(p_tenant uuid, p_slug text, p_user uuid, p_changes jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_tenant(p_tenant, p_user);
    v_results jsonb := perdure.commit_many(p_tenant, p_slug, p_changes, perdure.instant());
BEGIN
    v_context := perdure.leave_tenant(v_context);
    RETURN v_results;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.commit_change(uuid, text, uuid, jsonb),
    perdure.commit_changes(uuid, text, uuid, jsonb) TO perdure_app;
