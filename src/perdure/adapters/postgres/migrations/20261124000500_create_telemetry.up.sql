-- Telemetry: what was seen on the way, by the hundred thousand. Entries of one tenant and one space, each known by an id
-- of version 7, so that a batch that is written again is written once and reading goes by time.
--
-- COPY does not write to a table under row-level security, and nobody but functions writes to any. So a batch comes as
-- one array a column, in one call; that is as fast, and one round trip. Entries refer to nothing: a foreign key would
-- be looked up for each of them, and what happened to a unit that is gone has still happened.

CREATE DOMAIN perdure.telemetry_type AS varchar(20) CONSTRAINT ck_telemetry_type CHECK (VALUE IN
    ('INTERACTION', 'TELEMETRY', 'ERROR', 'GUARDIAN_DECISION', 'STATE_TRANSITION'));

CREATE TABLE perdure.telemetry_spaces (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    space text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_telemetry_spaces_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
);
ALTER TABLE perdure.telemetry_spaces ADD CONSTRAINT pk_telemetry_spaces PRIMARY KEY (tenant_id, space_id);

CREATE TABLE perdure.telemetry_entries (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    entry_id uuid NOT NULL,
    log_type perdure.telemetry_type NOT NULL,
    occurred_at timestamptz NOT NULL,
    instance_id varchar(255) COLLATE "C" NOT NULL,
    unit_id varchar(255) COLLATE "C",
    actor_id varchar(255) COLLATE "C",
    role_id varchar(255) COLLATE "C",
    interaction_id varchar(255) COLLATE "C",
    event_details json,
    error_metadata json
);
ALTER TABLE perdure.telemetry_entries
    ADD CONSTRAINT pk_telemetry_entries PRIMARY KEY (tenant_id, space_id, entry_id);
-- Every way of reading is a range of one of these; without a type it is one range for each type.
CREATE INDEX ix_telemetry_entries_type ON perdure.telemetry_entries (tenant_id, space_id, log_type, entry_id);
CREATE INDEX ix_telemetry_entries_instance
    ON perdure.telemetry_entries (tenant_id, space_id, instance_id, log_type, entry_id);
CREATE INDEX ix_telemetry_entries_unit ON perdure.telemetry_entries (tenant_id, space_id, unit_id, log_type, entry_id)
    WHERE unit_id IS NOT NULL;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON perdure.telemetry_entries
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['telemetry_spaces', 'telemetry_entries'] LOOP
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

-- Keeps a batch of one space, given as one array a column; how many of it were not kept before.
CREATE FUNCTION perdure.write_telemetry(
    p_tenant uuid, p_slug text, p_space uuid, p_name text, p_ids uuid[], p_types text[], p_times timestamptz[],
    p_instances text[], p_units text[], p_actors text[], p_roles text[], p_interactions text[], p_details text[],
    p_errors text[], p_patience_ms integer
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_kept bigint;
BEGIN
    PERFORM FROM perdure.telemetry_spaces WHERE tenant_id = p_tenant AND space_id = p_space;
    IF NOT FOUND THEN
        PERFORM perdure.require_tenant(p_tenant, p_slug);
        INSERT INTO perdure.telemetry_spaces (tenant_id, space_id, space) VALUES (p_tenant, p_space, p_name)
            ON CONFLICT DO NOTHING;
    END IF;
    -- A batch comes twice only after an answer was lost. Looking for what is there before each row costs a quarter of the
    -- whole, so that it is done when the first attempt has found something.
    BEGIN
        INSERT INTO perdure.telemetry_entries (tenant_id, space_id, entry_id, log_type, occurred_at, instance_id, unit_id,
            actor_id, role_id, interaction_id, event_details, error_metadata)
        SELECT p_tenant, p_space, entry_id, log_type, occurred_at, instance_id, unit_id, actor_id, role_id, interaction_id,
            event_details::json, error_metadata::json
        FROM unnest(p_ids, p_types, p_times, p_instances, p_units, p_actors, p_roles, p_interactions, p_details, p_errors)
            AS batch (entry_id, log_type, occurred_at, instance_id, unit_id, actor_id, role_id, interaction_id,
                event_details, error_metadata);
        GET DIAGNOSTICS v_kept = ROW_COUNT;
    EXCEPTION WHEN unique_violation THEN
        INSERT INTO perdure.telemetry_entries (tenant_id, space_id, entry_id, log_type, occurred_at, instance_id, unit_id,
            actor_id, role_id, interaction_id, event_details, error_metadata)
        SELECT p_tenant, p_space, entry_id, log_type, occurred_at, instance_id, unit_id, actor_id, role_id, interaction_id,
            event_details::json, error_metadata::json
        FROM unnest(p_ids, p_types, p_times, p_instances, p_units, p_actors, p_roles, p_interactions, p_details, p_errors)
            AS batch (entry_id, log_type, occurred_at, instance_id, unit_id, actor_id, role_id, interaction_id,
                event_details, error_metadata)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_kept = ROW_COUNT;
    END;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_kept;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    perdure.write_telemetry(uuid, text, uuid, text, uuid[], text[], timestamptz[], text[], text[], text[], text[],
        text[], text[], text[], integer)
    TO perdure_app;
