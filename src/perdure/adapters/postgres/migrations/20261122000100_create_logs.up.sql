-- Logs: streams and sessions. One row a log with its dense counter, one row an entry, and what is left to remove of
-- lives that ended. Beside them the audit records that are kept in the commits they describe.
--
-- A container (a log, a set of rows) is known by 128 bits of a hash of its whole name, so that keys stay narrow however
-- long a name is. Bodies and attributes are bytes: they come back as they were written. No index begins with anything
-- but the tenant, and keys come last (see create_ledger_tables). There are no CHECKs on what every append touches.

CREATE DOMAIN perdure.store_kind AS varchar(20) CONSTRAINT ck_store_kind CHECK (VALUE IN
    ('streams', 'tables', 'memory'));

CREATE TABLE perdure.logs (
    tenant_id uuid NOT NULL,
    log_id uuid NOT NULL,
    kind perdure.store_kind NOT NULL,
    container text COLLATE "C" NOT NULL,
    user_name text COLLATE "C",
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    earliest bigint NOT NULL,
    version bigint NOT NULL,
    ttl_s bigint,
    expires_at timestamptz,
    ends_at timestamptz,
    attributes bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT fk_logs_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
) WITH (fillfactor = 50);
CREATE INDEX idx_logs_user ON perdure.logs (tenant_id, user_name, log_id) WHERE user_name IS NOT NULL;
CREATE INDEX idx_logs_end ON perdure.logs (tenant_id, ends_at) WHERE ends_at IS NOT NULL;
CREATE INDEX idx_logs_kind ON perdure.logs (tenant_id, kind, log_id);
ALTER TABLE perdure.logs ADD CONSTRAINT pk_logs PRIMARY KEY (tenant_id, log_id);

-- An epoch of a log that was cleared, expired or erased with more entries than one statement should remove.
CREATE TABLE perdure.log_remains (
    tenant_id uuid NOT NULL,
    log_id uuid NOT NULL,
    epoch bigint NOT NULL,
    earliest bigint NOT NULL,
    sequence bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_log_remains PRIMARY KEY (tenant_id, log_id, epoch)
);

CREATE TABLE perdure.log_entries (
    tenant_id uuid NOT NULL,
    log_id uuid NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    entry_id text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    recorded_at timestamptz NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE perdure.log_entries ADD CONSTRAINT pk_log_entries PRIMARY KEY (tenant_id, log_id, epoch, sequence);
-- The newest, because an id is looked for by all four columns and three of them are those of the primary key.
ALTER TABLE perdure.log_entries ADD CONSTRAINT uq_log_entries_id UNIQUE (tenant_id, log_id, epoch, entry_id);

CREATE TABLE perdure.store_audit (
    tenant_id uuid NOT NULL,
    container_id uuid NOT NULL,
    audit_id uuid NOT NULL,
    record text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_store_audit PRIMARY KEY (tenant_id, container_id, audit_id)
);

-- A record of the past that nobody rewrites: the argument says what else may not be done to it.
CREATE FUNCTION perdure.refuse_record_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% of %.% is refused: it is a record of what happened', tg_op, tg_table_schema, tg_table_name
        USING ERRCODE = 'PD001', HINT = 'Correct with a new record; history is never rewritten.';
END
$$;
-- Audit records go when their container is erased, by the function that does so.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON perdure.store_audit
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();
CREATE TRIGGER append_only BEFORE UPDATE ON perdure.log_entries
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['logs', 'log_remains', 'log_entries', 'store_audit'] LOOP
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

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
