-- The relay's verbs: claim, extend, finish, requeue, prune, and the end of overdue approval waits. Each call carries one
-- tenant. The outbox row is authoritative for scheduling; the effect row mirrors it, and the event announces both.

-- Leases up to p_request.limit due entries of one tenant to one worker, in the order of their run unless independent.
-- An entry whose predecessor is unfinished is not due, whoever holds the predecessor.
CREATE FUNCTION perdure.claim_outbox(p_request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_now timestamptz := perdure.instant();
    v_until timestamptz := v_now + make_interval(secs => (p_request ->> 'lease_s')::float8);
    v_types text[] := ARRAY(SELECT jsonb_array_elements_text(p_request -> 'effect_types'));
    v_context text := perdure.enter_tenant(v_tenant, NULL);
    v_entry perdure.outbox_events;
    v_drafts jsonb := '[]';
    v_claimed jsonb := '[]';
    v_event uuid;
    v_cause uuid;
    v_count integer;
BEGIN
    FOR v_entry IN
        SELECT entry.* FROM perdure.outbox_events AS entry
        WHERE entry.tenant_id = v_tenant AND entry.status IN ('PENDING', 'FAILED')
            AND coalesce(entry.next_retry_at, entry.created_at) <= v_now
            AND (cardinality(v_types) = 0 OR entry.event_type = ANY (v_types))
            AND (entry.independent OR NOT EXISTS (
                SELECT FROM perdure.outbox_events AS earlier
                WHERE earlier.tenant_id = v_tenant AND earlier.ordering_key = entry.ordering_key
                    AND earlier.ordering_seq < entry.ordering_seq AND NOT earlier.independent
                    AND earlier.status IN ('PENDING', 'PROCESSING', 'FAILED')))
        ORDER BY coalesce(entry.next_retry_at, entry.created_at), entry.ordering_seq
        LIMIT (p_request ->> 'limit')::integer
        FOR UPDATE SKIP LOCKED
    LOOP
        v_event := perdure.uuid7();
        v_cause := v_entry.last_event_id;
        UPDATE perdure.outbox_events SET status = 'PROCESSING', locked_by = p_request ->> 'worker',
            locked_until = v_until, lock_token = gen_random_uuid(), last_event_id = v_event
            WHERE tenant_id = v_tenant AND id = v_entry.id RETURNING * INTO v_entry;
        UPDATE perdure.effects SET status = 'EXECUTING', last_event_id = v_event
            WHERE tenant_id = v_tenant AND id = v_entry.aggregate_id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'EFFECT_EXECUTING', 'EFFECT', v_entry.aggregate_id,
            v_entry.correlation_id, v_cause,
            jsonb_build_object('effect_id', v_entry.aggregate_id, 'run_id', v_entry.ordering_key,
                'outbox_id', v_entry.id, 'attempt', v_entry.retry_count + 1, 'worker', p_request ->> 'worker'));
        v_claimed := v_claimed || to_jsonb(v_entry);
    END LOOP;
    v_count := jsonb_array_length(v_drafts);
    IF v_count > 0 THEN
        v_count := perdure.insert_events(v_tenant, perdure.number_events(v_tenant, NULL, v_count) - v_count, v_drafts,
            NULL, p_request ->> 'actor', p_request ->> 'source', v_now, 0, 0);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('at', v_now, 'entries', v_claimed);
END
$$;

-- Prolongs the leases that this worker still holds; returns the ids of those it does.
CREATE FUNCTION perdure.extend_outbox(p_request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_until timestamptz := perdure.instant() + make_interval(secs => (p_request ->> 'lease_s')::float8);
    v_context text := perdure.enter_tenant(v_tenant, NULL);
    v_held jsonb;
BEGIN
    WITH held AS (
        UPDATE perdure.outbox_events AS entry SET locked_until = v_until
        FROM jsonb_to_recordset(p_request -> 'leases') AS lease (id uuid, lock_token uuid)
        WHERE entry.tenant_id = v_tenant AND entry.id = lease.id AND entry.lock_token = lease.lock_token
            AND entry.status = 'PROCESSING'
        RETURNING entry.id
    )
    SELECT coalesce(jsonb_agg(id), '[]') INTO v_held FROM held;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_held;
END
$$;

-- Records the outcome of one leased entry: rows, events, and what follows for its run. NULL when the lease is lost.
-- p_outcome is {id, lock_token, outcome: delivered | failed | dead, result, error, retry_in_s, duration_ms, expired}.
CREATE FUNCTION perdure.finish_entry(p_tenant uuid, p_outcome jsonb, p_actor text, p_now timestamptz) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_outcome text := p_outcome ->> 'outcome';
    v_error jsonb := p_outcome -> 'error';
    v_entry perdure.outbox_events;
    v_run perdure.runs;
    v_drafts jsonb := '[]';
    v_event uuid := perdure.uuid7();
    v_next timestamptz := p_now + make_interval(secs => (p_outcome ->> 'retry_in_s')::float8);
    v_second uuid := perdure.uuid7();
BEGIN
    SELECT * INTO v_entry FROM perdure.outbox_events
        WHERE tenant_id = p_tenant AND id = (p_outcome ->> 'id')::uuid;
    -- The run comes first in the order of locks; a delivery may end it.
    SELECT * INTO v_run FROM perdure.runs
        WHERE tenant_id = p_tenant AND id = v_entry.ordering_key FOR NO KEY UPDATE;
    SELECT * INTO v_entry FROM perdure.outbox_events
        WHERE tenant_id = p_tenant AND id = (p_outcome ->> 'id')::uuid AND status = 'PROCESSING'
            AND lock_token = (p_outcome ->> 'lock_token')::uuid
            AND (NOT p_outcome ? 'expired' OR locked_until < p_now)
        FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF v_outcome = 'failed' AND v_run.status <> 'RUNNING' AND v_entry.retry_count < v_entry.max_retries
        AND coalesce(v_entry.next_retry_at, v_entry.created_at) < v_run.completed_at THEN
        -- Nobody waits for a retry of an effect whose run failed or was cancelled meanwhile. One that was requeued
        -- after the end of its run is retried like any other.
        v_outcome := 'dead';
        v_error := coalesce(v_error, '{}') || jsonb_build_object('code', 'RUN_CANCELLED');
    END IF;
    IF v_outcome = 'delivered' THEN
        UPDATE perdure.outbox_events SET status = 'COMPLETED', processed_at = p_now, result = p_outcome -> 'result',
            locked_by = NULL, locked_until = NULL, lock_token = NULL, next_retry_at = NULL, error_details = NULL,
            last_event_id = v_event WHERE tenant_id = p_tenant AND id = v_entry.id;
        UPDATE perdure.effects SET status = 'COMPLETED', executed_at = p_now, next_retry_at = NULL,
            execution_result = p_outcome -> 'result', error_details = NULL, last_event_id = v_event
            WHERE tenant_id = p_tenant AND id = v_entry.aggregate_id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'EFFECT_COMPLETED', 'EFFECT', v_entry.aggregate_id,
            v_entry.correlation_id, v_entry.last_event_id,
            jsonb_build_object('effect_id', v_entry.aggregate_id, 'run_id', v_entry.ordering_key,
                'effect_type', v_entry.event_type, 'execution_result', p_outcome -> 'result',
                'attempt', v_entry.retry_count + 1, 'duration_ms', p_outcome -> 'duration_ms'));
    ELSE
        UPDATE perdure.outbox_events SET
            status = CASE v_outcome WHEN 'dead' THEN 'DEAD_LETTER' ELSE 'FAILED' END,
            processed_at = CASE v_outcome WHEN 'dead' THEN p_now END, error_details = v_error,
            retry_count = retry_count + 1, next_retry_at = CASE v_outcome WHEN 'failed' THEN v_next END,
            locked_by = NULL, locked_until = NULL, lock_token = NULL, last_event_id = v_second
            WHERE tenant_id = p_tenant AND id = v_entry.id;
        UPDATE perdure.effects SET status = 'FAILED', error_details = v_error, retry_count = retry_count + 1,
            next_retry_at = CASE v_outcome WHEN 'failed' THEN v_next END, last_event_id = v_event
            WHERE tenant_id = p_tenant AND id = v_entry.aggregate_id;
        v_drafts := v_drafts || perdure.draft_event(v_event, 'EFFECT_FAILED', 'EFFECT', v_entry.aggregate_id,
            v_entry.correlation_id, v_entry.last_event_id,
            jsonb_build_object('effect_id', v_entry.aggregate_id, 'run_id', v_entry.ordering_key,
                'effect_type', v_entry.event_type, 'error_code', v_error ->> 'code',
                'error_message', v_error ->> 'message', 'retry_count', v_entry.retry_count + 1,
                'next_retry_at', CASE v_outcome WHEN 'failed' THEN v_next END));
        IF v_outcome = 'failed' THEN
            v_drafts := v_drafts || perdure.draft_event(v_second, 'EFFECT_RETRYING', 'EFFECT', v_entry.aggregate_id,
                v_entry.correlation_id, v_event,
                jsonb_build_object('effect_id', v_entry.aggregate_id, 'run_id', v_entry.ordering_key,
                    'retry_count', v_entry.retry_count + 1, 'next_retry_at', v_next, 'reason', v_error ->> 'code'));
        ELSE
            UPDATE perdure.effects SET status = 'DEAD_LETTER', last_event_id = v_second
                WHERE tenant_id = p_tenant AND id = v_entry.aggregate_id;
            v_drafts := v_drafts || perdure.draft_event(v_second, 'EFFECT_DEAD_LETTERED', 'EFFECT',
                v_entry.aggregate_id, v_entry.correlation_id, v_event,
                jsonb_build_object('effect_id', v_entry.aggregate_id, 'run_id', v_entry.ordering_key,
                    'outbox_id', v_entry.id, 'retry_count', v_entry.retry_count + 1,
                    'error_code', v_error ->> 'code', 'error_message', v_error ->> 'message'));
        END IF;
    END IF;
    IF v_outcome <> 'failed' AND v_run.open_effects > 0 THEN
        UPDATE perdure.runs SET open_effects = open_effects - 1
            WHERE tenant_id = p_tenant AND id = v_run.id RETURNING * INTO v_run;
    END IF;
    IF v_run.status = 'RUNNING' AND v_outcome = 'dead' THEN
        v_drafts := v_drafts || perdure.end_run(p_tenant, v_run.id, 'FAILED', 'EFFECT_DEAD_LETTERED', v_error,
            perdure.uuid7(), v_second, p_actor, p_now);
    ELSIF v_run.status = 'RUNNING' AND v_outcome = 'delivered' AND v_run.open_effects = 0
        AND v_run.completion_requested_at IS NOT NULL THEN
        v_drafts := v_drafts || perdure.end_run(p_tenant, v_run.id, 'COMPLETED', NULL, NULL, perdure.uuid7(),
            v_event, p_actor, p_now);
    END IF;
    RETURN jsonb_build_object('id', v_entry.id, 'outcome', v_outcome, 'events', v_drafts);
END
$$;

-- Records the outcomes of one tenant's leased entries in one transaction. An entry whose lease was lost is answered
-- with outcome 'lost' and changes nothing.
CREATE FUNCTION perdure.finish_outbox(p_request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_now timestamptz := perdure.instant();
    v_context text := perdure.enter_tenant(v_tenant, NULL);
    v_outcome jsonb;
    v_finished jsonb;
    v_drafts jsonb := '[]';
    v_answers jsonb := '[]';
    v_count integer;
BEGIN
    -- Runs are locked in one order here as everywhere, so that two relays and a worker cannot wait for each other.
    PERFORM FROM perdure.runs WHERE tenant_id = v_tenant AND id = ANY (ARRAY(
            SELECT entry.ordering_key FROM jsonb_to_recordset(p_request -> 'outcomes') AS outcome (id uuid)
            JOIN perdure.outbox_events AS entry ON entry.tenant_id = v_tenant AND entry.id = outcome.id))
        ORDER BY id FOR NO KEY UPDATE;
    FOR v_outcome IN SELECT jsonb_array_elements(p_request -> 'outcomes') LOOP
        v_finished := perdure.finish_entry(v_tenant, v_outcome, p_request ->> 'actor', v_now);
        IF v_finished IS NULL THEN
            v_answers := v_answers || jsonb_build_object('id', v_outcome -> 'id', 'outcome', 'lost');
        ELSE
            v_drafts := v_drafts || (v_finished -> 'events');
            v_answers := v_answers || (v_finished - 'events');
        END IF;
    END LOOP;
    v_count := jsonb_array_length(v_drafts);
    IF v_count > 0 THEN
        v_count := perdure.insert_events(v_tenant, perdure.number_events(v_tenant, NULL, v_count) - v_count, v_drafts,
            NULL, p_request ->> 'actor', p_request ->> 'source', v_now, 0, 0);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_answers;
END
$$;

-- Revives a dead letter: outbox entry and effect return to PENDING with a fresh count, an event says so, and the audit
-- trail says who.
CREATE FUNCTION perdure.requeue_outbox(p_request jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_now timestamptz := perdure.instant();
    v_context text := perdure.enter_tenant(v_tenant, (p_request ->> 'user_id')::uuid);
    v_entry perdure.outbox_events;
    v_event uuid := perdure.uuid7();
    v_count integer;
BEGIN
    -- The run is locked before the entry, as everywhere; the delivery that follows counts the effect down again.
    PERFORM FROM perdure.runs WHERE tenant_id = v_tenant AND id = (
        SELECT entry.ordering_key FROM perdure.outbox_events AS entry
        WHERE entry.tenant_id = v_tenant AND entry.id = (p_request ->> 'id')::uuid) FOR NO KEY UPDATE;
    SELECT * INTO v_entry FROM perdure.outbox_events
        WHERE tenant_id = v_tenant AND id = (p_request ->> 'id')::uuid FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no outbox entry %', p_request ->> 'id' USING ERRCODE = 'PD010';
    ELSIF v_entry.status <> 'DEAD_LETTER' THEN
        RAISE EXCEPTION 'outbox entry % is %; only a dead letter is requeued', v_entry.id, v_entry.status
            USING ERRCODE = 'PD003';
    END IF;
    UPDATE perdure.outbox_events SET status = 'PENDING', retry_count = 0, next_retry_at = v_now, processed_at = NULL,
        last_event_id = v_event WHERE tenant_id = v_tenant AND id = v_entry.id RETURNING * INTO v_entry;
    UPDATE perdure.effects SET status = 'PENDING', retry_count = 0, next_retry_at = NULL, last_event_id = v_event
        WHERE tenant_id = v_tenant AND id = v_entry.aggregate_id;
    UPDATE perdure.runs SET open_effects = open_effects + 1
        WHERE tenant_id = v_tenant AND id = v_entry.ordering_key;
    INSERT INTO perdure.audit_trail (tenant_id, id, action, resource_type, resource_id, actor, occurred_at, context,
        correlation_id)
    VALUES (v_tenant, perdure.uuid7(), 'OUTBOX_REQUEUED', 'OUTBOX', v_entry.id, p_request ->> 'actor', v_now,
        jsonb_build_object('reason', p_request ->> 'reason', 'effect_id', v_entry.aggregate_id),
        v_entry.correlation_id);
    v_count := perdure.insert_events(v_tenant, perdure.number_events(v_tenant, NULL, 1) - 1,
        jsonb_build_array(perdure.draft_event(v_event, 'EFFECT_RETRYING', 'EFFECT', v_entry.aggregate_id,
            v_entry.correlation_id, v_entry.causation_id,
            jsonb_build_object('effect_id', v_entry.aggregate_id, 'run_id', v_entry.ordering_key, 'retry_count', 0,
                'next_retry_at', v_now, 'reason', 'MANUAL_REQUEUE'))),
        NULL, p_request ->> 'actor', p_request ->> 'source', v_now, 0, 0);
    v_context := perdure.leave_tenant(v_context);
    RETURN to_jsonb(v_entry);
END
$$;

-- Deletes delivered entries that are older than p_request.older_than_s, at most p_request.limit of them. Dead letters
-- and failures stay; the idempotency key lives on in the effect.
CREATE FUNCTION perdure.prune_outbox(p_request jsonb) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_tenant uuid := (p_request ->> 'tenant_id')::uuid;
    v_before timestamptz := perdure.instant() - make_interval(secs => (p_request ->> 'older_than_s')::float8);
    v_context text := perdure.enter_tenant(v_tenant, NULL);
    v_count integer;
BEGIN
    DELETE FROM perdure.outbox_events WHERE tenant_id = v_tenant AND id IN (
        SELECT entry.id FROM perdure.outbox_events AS entry
        WHERE entry.tenant_id = v_tenant AND entry.status = 'COMPLETED' AND entry.processed_at < v_before
        ORDER BY entry.created_at LIMIT (p_request ->> 'limit')::integer FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_count;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.claim_outbox(jsonb), perdure.extend_outbox(jsonb), perdure.finish_outbox(jsonb)
    TO perdure_relay;
GRANT EXECUTE ON FUNCTION perdure.requeue_outbox(jsonb) TO perdure_app, perdure_relay;
GRANT EXECUTE ON FUNCTION perdure.prune_outbox(jsonb) TO perdure_relay, perdure_maintenance;
