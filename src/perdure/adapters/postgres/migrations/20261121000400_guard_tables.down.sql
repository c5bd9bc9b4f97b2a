REVOKE USAGE ON SCHEMA perdure FROM perdure_app, perdure_relay, perdure_maintenance;
REVOKE SELECT ON perdure.plane_settings, perdure.status_transitions
    FROM perdure_app, perdure_relay, perdure_maintenance;
DROP POLICY readable ON perdure.status_transitions;
DROP POLICY readable ON perdure.plane_settings;
ALTER TABLE perdure.status_transitions DISABLE ROW LEVEL SECURITY;
ALTER TABLE perdure.plane_settings DISABLE ROW LEVEL SECURITY;
REVOKE DELETE ON perdure.orchestration_events FROM perdure_maintenance;
REVOKE SELECT (tenant_id, id, wait_until, step_type, status) ON perdure.steps FROM perdure_relay;
REVOKE SELECT ON perdure.outbox_events, perdure.tenants FROM perdure_relay;
DROP POLICY relay_select ON perdure.steps;
DROP POLICY relay_select ON perdure.tenants;
DROP POLICY relay_select ON perdure.outbox_events;
DROP POLICY administration ON perdure.user_tenants;
DROP POLICY administration ON perdure.tenants;

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'user_tenants', 'tenant_sequences', 'audit_trail', 'signals', 'runs', 'steps',
        'effects', 'tool_calls', 'run_checkpoints', 'orchestration_events', 'outbox_events', 'entity_references']
    LOOP
        EXECUTE format('REVOKE SELECT ON perdure.%I FROM perdure_app, perdure_maintenance', name);
        EXECUTE format('DROP POLICY tenant_delete ON perdure.%I', name);
        EXECUTE format('DROP POLICY tenant_update ON perdure.%I', name);
        EXECUTE format('DROP POLICY tenant_insert ON perdure.%I', name);
        EXECUTE format('DROP POLICY tenant_select ON perdure.%I', name);
        EXECUTE format('ALTER TABLE perdure.%I NO FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE perdure.%I DISABLE ROW LEVEL SECURITY', name);
    END LOOP;
END
$policies$;

DROP TRIGGER append_only ON perdure.orchestration_events;
DROP TRIGGER unscoped ON perdure.outbox_events;
DROP TRIGGER late_addition ON perdure.effects;
DROP TRIGGER late_addition ON perdure.steps;
DROP TRIGGER content ON perdure.run_checkpoints;
DROP TRIGGER content ON perdure.outbox_events;
DROP TRIGGER content ON perdure.effects;
DROP TRIGGER content ON perdure.signals;

DO $guards$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['signals', 'runs', 'steps', 'effects', 'tool_calls', 'outbox_events'] LOOP
        IF name <> 'outbox_events' THEN
            EXECUTE format('DROP TRIGGER no_silent_mutation ON perdure.%I', name);
        END IF;
        EXECUTE format('DROP TRIGGER guard ON perdure.%I', name);
    END LOOP;
END
$guards$;

DROP FUNCTION perdure.refuse_late_addition();
DROP FUNCTION perdure.refuse_unscoped_update();
DROP FUNCTION perdure.refuse_silent_mutation();
DROP FUNCTION perdure.guard_row();
DROP FUNCTION perdure.check_transition(text, uuid, text, text, boolean);
DROP FUNCTION perdure.refuse_content_change();
DROP FUNCTION perdure.refuse_event_change();
