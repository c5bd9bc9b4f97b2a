-- What no code can talk its way around: row-level security, the status machines, the append-only log, and the rule that
-- no status changes in silence.
--
-- app and relay hold SELECT and EXECUTE only. Every write goes through a SECURITY DEFINER function owned by
-- perdure_owner, which is itself under FORCE ROW LEVEL SECURITY.

CREATE FUNCTION perdure.refuse_event_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- The one door: the maintenance role, inside a function of its own, with the setting made for this transaction.
    IF tg_op = 'DELETE' AND current_user = 'perdure_maintenance'
        AND current_setting('app.maintenance', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'events are append-only: % of %.% is refused', tg_op, tg_table_schema, tg_table_name
        USING ERRCODE = 'PD001', HINT = 'Correct with a new event; history is never rewritten.';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON perdure.orchestration_events
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_event_change();

CREATE FUNCTION perdure.refuse_content_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% of %.% never changes after it was written', tg_argv[0], tg_table_schema, tg_table_name
        USING ERRCODE = 'PD004', HINT = 'Write a new row; a correction is a new fact.';
END
$$;

-- Refuses what no status machine allows, in words that say what to do.
CREATE FUNCTION perdure.check_transition(
    p_machine text, p_id uuid, p_source text, p_target text, p_announced boolean
) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF p_machine = 'OUTBOX' AND p_source = 'DEAD_LETTER' AND NOT p_announced THEN
        RAISE EXCEPTION 'a dead letter is not revived by UPDATE: its effect and its event would not follow'
            USING ERRCODE = 'PD019', HINT = format('Use: perdure outbox requeue %s', p_id);
    END IF;
    PERFORM FROM perdure.status_transitions
        WHERE machine = p_machine AND source = p_source AND target = p_target;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% % cannot go from % to %', p_machine, p_id, p_source, p_target USING ERRCODE = 'PD003';
    END IF;
END
$$;

-- Every UPDATE of a row with a status passes here, once: keys never change, a status follows its machine, a finished row
-- is history, and the row is touched. Of a finished row only the soft-delete mark, the touch time, the lease and the
-- run's count of deliveries still under way may move. One trigger, because each costs every UPDATE its set-up.
CREATE FUNCTION perdure.guard_row() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_free CONSTANT text[] := '{updated_at,deleted_at,open_effects,locked_by,locked_until,lock_token}';
BEGIN
    IF new.tenant_id <> old.tenant_id OR new.id <> old.id OR new.created_at <> old.created_at THEN
        RAISE EXCEPTION 'tenant_id, id and created_at of %.% never change', tg_table_schema, tg_table_name
            USING ERRCODE = 'PD004';
    ELSIF new.status <> old.status THEN
        PERFORM perdure.check_transition(tg_argv[0], old.id, old.status, new.status,
            new.last_event_id <> old.last_event_id);
    ELSIF old.status = ANY (tg_argv[1]::text[]) AND to_jsonb(new) - v_free <> to_jsonb(old) - v_free THEN
        RAISE EXCEPTION '% % is % and no longer changes', tg_argv[0], old.id, old.status USING ERRCODE = 'PD003';
    END IF;
    new.updated_at := perdure.instant();
    RETURN new;
END
$$;

-- Runs at commit, whatever tenant is set then and whoever commits: it names the row's own tenant for itself, so that
-- two tenants in one transaction, or a caller who cleared the context, are judged rightly.
CREATE FUNCTION perdure.refuse_silent_mutation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := coalesce(current_setting('app.current_tenant_id', true), '');
    v_announced boolean;
BEGIN
    IF tg_op = 'UPDATE' AND new.status = old.status THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('app.current_tenant_id', new.tenant_id::text, true);
    v_announced := EXISTS (
        SELECT FROM perdure.orchestration_events AS event
        WHERE event.tenant_id = new.tenant_id
            AND event.id = new.last_event_id
            AND event.aggregate_type = tg_argv[0]
            AND event.aggregate_id = new.id
            AND event.transaction_id = pg_current_xact_id()
    );
    PERFORM set_config('app.current_tenant_id', v_context, true);
    IF NOT v_announced THEN
        RAISE EXCEPTION 'silent mutation: % % became % without an event in the same transaction',
            tg_argv[0], new.id, new.status USING ERRCODE = 'PD002';
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION perdure.refuse_unscoped_update() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF perdure.current_tenant_id() IS NULL THEN
        RAISE EXCEPTION 'outbox entries change only within a tenant, through the library' USING ERRCODE = 'PD019',
            HINT = 'To try a dead letter again: perdure outbox requeue ID';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER unscoped BEFORE UPDATE ON perdure.outbox_events
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_unscoped_update();

CREATE FUNCTION perdure.refuse_late_addition() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM perdure.runs AS run
        WHERE run.tenant_id = new.tenant_id AND run.id = new.run_id AND run.status = 'RUNNING'
    ) THEN
        RAISE EXCEPTION 'run % is not RUNNING: no new row in %', new.run_id, tg_table_name USING ERRCODE = 'PD012';
    END IF;
    RETURN new;
END
$$;

DO $guards$
DECLARE
    machine record;
BEGIN
    FOR machine IN
        SELECT * FROM (VALUES
            ('signals', 'SIGNAL', '{PROCESSED,FAILED}'),
            ('runs', 'RUN', '{COMPLETED,FAILED,CANCELLED}'),
            ('steps', 'STEP', '{COMPLETED,FAILED,SKIPPED}'),
            ('effects', 'EFFECT', '{COMPLETED,DEAD_LETTER}'),
            ('tool_calls', 'TOOL_CALL', '{COMPLETED,FAILED}'),
            ('outbox_events', 'OUTBOX', '{COMPLETED,DEAD_LETTER}')
        ) AS machines (table_name, name, finished)
    LOOP
        EXECUTE format('CREATE TRIGGER guard BEFORE UPDATE ON perdure.%I
            FOR EACH ROW EXECUTE FUNCTION perdure.guard_row(%L, %L)',
            machine.table_name, machine.name, machine.finished);
        IF machine.name <> 'OUTBOX' THEN
            EXECUTE format('CREATE CONSTRAINT TRIGGER no_silent_mutation AFTER INSERT OR UPDATE OF status
                ON perdure.%I DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION perdure.refuse_silent_mutation(%L)', machine.table_name, machine.name);
        END IF;
    END LOOP;
END
$guards$;

CREATE TRIGGER late_addition BEFORE INSERT ON perdure.steps
    FOR EACH ROW EXECUTE FUNCTION perdure.refuse_late_addition();
CREATE TRIGGER late_addition BEFORE INSERT ON perdure.effects
    FOR EACH ROW EXECUTE FUNCTION perdure.refuse_late_addition();

CREATE TRIGGER content BEFORE UPDATE ON perdure.signals FOR EACH ROW
    WHEN (old.normalized_payload IS DISTINCT FROM new.normalized_payload OR old.source_hash <> new.source_hash
        OR old.source_channel <> new.source_channel OR old.source_id <> new.source_id)
    EXECUTE FUNCTION perdure.refuse_content_change('the body');
CREATE TRIGGER content BEFORE UPDATE ON perdure.effects FOR EACH ROW
    WHEN (old.effect_spec IS DISTINCT FROM new.effect_spec OR old.idempotency_key <> new.idempotency_key)
    EXECUTE FUNCTION perdure.refuse_content_change('the effect specification');
CREATE TRIGGER content BEFORE UPDATE ON perdure.outbox_events FOR EACH ROW
    WHEN (old.payload IS DISTINCT FROM new.payload OR old.idempotency_key <> new.idempotency_key)
    EXECUTE FUNCTION perdure.refuse_content_change('the payload');
CREATE TRIGGER content BEFORE UPDATE ON perdure.run_checkpoints FOR EACH ROW
    EXECUTE FUNCTION perdure.refuse_content_change('a checkpoint');

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'user_tenants', 'tenant_sequences', 'audit_trail', 'signals', 'runs', 'steps',
        'effects', 'tool_calls', 'run_checkpoints', 'orchestration_events', 'outbox_events', 'entity_references']
    LOOP
        EXECUTE format('ALTER TABLE perdure.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE perdure.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_select ON perdure.%I FOR SELECT
            USING (tenant_id = perdure.current_tenant_id())', name);
        EXECUTE format('CREATE POLICY tenant_insert ON perdure.%I FOR INSERT
            WITH CHECK (tenant_id = perdure.current_tenant_id())', name);
        EXECUTE format('CREATE POLICY tenant_update ON perdure.%I FOR UPDATE
            USING (tenant_id = perdure.current_tenant_id()) WITH CHECK (tenant_id = perdure.current_tenant_id())', name);
        EXECUTE format('CREATE POLICY tenant_delete ON perdure.%I FOR DELETE
            USING (tenant_id = perdure.current_tenant_id())', name);
        EXECUTE format('GRANT SELECT ON perdure.%I TO perdure_app, perdure_maintenance', name);
    END LOOP;
END
$policies$;

-- Administration happens as the owner, who has no tenant; nobody else sees beyond the current one.
CREATE POLICY administration ON perdure.tenants TO perdure_owner USING (true) WITH CHECK (true);
CREATE POLICY administration ON perdure.user_tenants TO perdure_owner USING (true) WITH CHECK (true);

-- The relay finds due work of every tenant, and nothing else: the outbox, the names of tenants, and which approval
-- waits are open (three columns).
CREATE POLICY relay_select ON perdure.outbox_events FOR SELECT TO perdure_relay USING (true);
CREATE POLICY relay_select ON perdure.tenants FOR SELECT TO perdure_relay USING (true);
CREATE POLICY relay_select ON perdure.steps FOR SELECT TO perdure_relay
    USING (step_type = 'WAIT' AND status = 'RUNNING');
GRANT SELECT ON perdure.outbox_events, perdure.tenants TO perdure_relay;
GRANT SELECT (tenant_id, id, wait_until, step_type, status) ON perdure.steps TO perdure_relay;

-- The maintenance role's half of the append-only door.
GRANT DELETE ON perdure.orchestration_events TO perdure_maintenance;

ALTER TABLE perdure.plane_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE perdure.status_transitions ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON perdure.plane_settings FOR SELECT USING (true);
CREATE POLICY readable ON perdure.status_transitions FOR SELECT USING (true);
GRANT SELECT ON perdure.plane_settings, perdure.status_transitions
    TO perdure_app, perdure_relay, perdure_maintenance;
GRANT USAGE ON SCHEMA perdure TO perdure_app, perdure_relay, perdure_maintenance;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.current_tenant_id(), perdure.current_user_id(), perdure.instant()
    TO perdure_app, perdure_relay, perdure_maintenance;
