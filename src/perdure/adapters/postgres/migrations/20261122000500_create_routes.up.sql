-- The routing registry: routes, their history, and the events that announce their changes until somebody has relayed
-- them. Records are JSON as the library wrote it; beside each stands only what the database itself goes by.
--
-- A tenant sees its own. t_system (the id below is that of its slug) is the control plane and sees and writes all.

CREATE TABLE perdure.route_registry (
    singleton boolean NOT NULL DEFAULT true,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_route_registry_singleton CHECK (singleton),
    CONSTRAINT pk_route_registry PRIMARY KEY (singleton)
);

CREATE TABLE perdure.routes (
    tenant_id uuid NOT NULL,
    route_key text COLLATE "C" NOT NULL,
    route_id uuid NOT NULL,
    version bigint NOT NULL,
    record text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_routes_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
);
ALTER TABLE perdure.routes ADD CONSTRAINT pk_routes PRIMARY KEY (tenant_id, route_key);

CREATE TABLE perdure.route_history (
    tenant_id uuid NOT NULL,
    route_key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    route_id uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    registry_version bigint NOT NULL,
    record text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE perdure.route_history ADD CONSTRAINT pk_route_history PRIMARY KEY (tenant_id, route_key, version);

CREATE TABLE perdure.route_events (
    tenant_id uuid NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    registry_version bigint NOT NULL,
    record text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_route_events_order ON perdure.route_events (registry_version);
ALTER TABLE perdure.route_events ADD CONSTRAINT pk_route_events PRIMARY KEY (tenant_id, event_id);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON perdure.route_history
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();
-- An event goes when it is in its stream; what it told of stays in the history.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON perdure.route_events
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();

DO $policies$
DECLARE
    name text;
    mine CONSTANT text := '(tenant_id = perdure.current_tenant_id()
        OR perdure.current_tenant_id() = ''49d05302-1e47-5363-ab16-c00166ac25fb''::uuid)';
BEGIN
    FOREACH name IN ARRAY ARRAY['routes', 'route_history', 'route_events'] LOOP
        EXECUTE format('ALTER TABLE perdure.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE perdure.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_select ON perdure.%I FOR SELECT USING %s', name, mine);
        EXECUTE format('CREATE POLICY tenant_insert ON perdure.%I FOR INSERT WITH CHECK %s', name, mine);
        EXECUTE format('CREATE POLICY tenant_update ON perdure.%I FOR UPDATE USING %s WITH CHECK %s', name, mine, mine);
        EXECUTE format('CREATE POLICY tenant_delete ON perdure.%I FOR DELETE USING %s', name, mine);
        EXECUTE format('GRANT SELECT ON perdure.%I TO perdure_app, perdure_maintenance', name);
    END LOOP;
END
$policies$;

-- How often anything changed says nothing about what: readable as the settings are.
ALTER TABLE perdure.route_registry ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON perdure.route_registry FOR SELECT USING (true);
GRANT SELECT ON perdure.route_registry TO perdure_app, perdure_maintenance;

-- Writes a route, its history entry and its event under the registry's next version: {version}, or {stale: the version
-- that is stored, 0 if there is none}. The same change again is answered as it was, and not written.
CREATE FUNCTION perdure.commit_route(
    p_tenant uuid, p_slug text, p_change jsonb, p_route text, p_history text, p_event text, p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_key text := p_change ->> 'key';
    v_route uuid := (p_change ->> 'route_id')::uuid;
    v_version bigint := (p_change ->> 'version')::bigint;
    v_at timestamptz := (p_change ->> 'changed_at')::timestamptz;
    v_found bigint;
    v_registry bigint;
    v_result jsonb;
BEGIN
    -- One change of the registry after the other: its version is a number that everybody sees grow in order.
    INSERT INTO perdure.route_registry (version) VALUES (0) ON CONFLICT DO NOTHING;
    SELECT version + 1 INTO v_registry FROM perdure.route_registry FOR NO KEY UPDATE;
    SELECT version INTO v_found FROM perdure.routes WHERE tenant_id = p_tenant AND route_key = v_key;
    SELECT jsonb_build_object('version', registry_version) INTO v_result FROM perdure.route_history
        WHERE tenant_id = p_tenant AND route_key = v_key AND version = v_version AND route_id = v_route
            AND record = p_history;
    IF v_result IS NULL AND coalesce(v_found, 0) <> (p_change ->> 'expected')::bigint THEN
        v_result := jsonb_build_object('stale', coalesce(v_found, 0));
    END IF;
    IF v_result IS NULL THEN
        IF p_tenant = '49d05302-1e47-5363-ab16-c00166ac25fb'::uuid THEN
            -- The control plane belongs to every plane: nobody has to add it, outside lab neither.
            INSERT INTO perdure.tenants (tenant_id, slug) VALUES (p_tenant, 't_system') ON CONFLICT DO NOTHING;
            INSERT INTO perdure.tenant_sequences (tenant_id) VALUES (p_tenant) ON CONFLICT DO NOTHING;
        ELSE
            PERFORM perdure.require_tenant(p_tenant, p_slug);
        END IF;
        INSERT INTO perdure.routes (tenant_id, route_key, route_id, version, record)
        VALUES (p_tenant, v_key, v_route, v_version, p_route)
        ON CONFLICT (tenant_id, route_key) DO UPDATE SET route_id = excluded.route_id, version = excluded.version,
            record = excluded.record, updated_at = now();
        INSERT INTO perdure.route_history (tenant_id, route_key, version, route_id, changed_at, registry_version, record)
        VALUES (p_tenant, v_key, v_version, v_route, v_at, v_registry, p_history);
        INSERT INTO perdure.route_events (tenant_id, event_id, registry_version, record)
        VALUES (p_tenant, p_change ->> 'event_id', v_registry, p_event);
        UPDATE perdure.route_registry SET version = v_registry, updated_at = now();
        v_result := jsonb_build_object('version', v_registry);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

-- Removes events of any tenant that are in their streams now, as the control plane; answers how many there were.
CREATE FUNCTION perdure.finish_route_events(p_event_ids text[], p_patience_ms integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store('49d05302-1e47-5363-ab16-c00166ac25fb', p_patience_ms);
    v_removed integer;
BEGIN
    DELETE FROM perdure.route_events WHERE event_id = ANY (p_event_ids);
    GET DIAGNOSTICS v_removed = ROW_COUNT;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_removed;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.commit_route(uuid, text, jsonb, text, text, text, integer),
    perdure.finish_route_events(text[], integer) TO perdure_app;
