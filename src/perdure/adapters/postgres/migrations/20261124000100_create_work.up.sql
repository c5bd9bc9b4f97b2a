-- Units of work: a row a unit, a row a version of each attribute, and a history that is never changed and outlives its
-- unit. Nothing here refers to the ledger, so that these tables can live in a database of their own.
--
-- Values are text as the library encoded them, because hashes cover their bytes. Times are the library's for the same
-- reason. A space is known by 128 bits of a hash of its name, as containers are.

CREATE DOMAIN perdure.work_status AS varchar(30) CONSTRAINT ck_work_status CHECK (VALUE IN
    ('PENDING', 'ACTIVE', 'PENDING_PILOT_APPROVAL', 'PAUSED', 'ZOMBIED_SOFT', 'ZOMBIED_DEAD', 'COMPLETED', 'FAILED',
    'FAILED_SECURITY_BREACH', 'ARCHIVED'));
CREATE DOMAIN perdure.work_event AS varchar(30) CONSTRAINT ck_work_event CHECK (VALUE IN
    ('WORK_CREATED', 'STATE_TRANSITION', 'ATTRIBUTES_CHANGED', 'CONSTITUTIONAL_WAIVER', 'PILOT_OVERRIDE', 'DRIFT_FOUND',
    'WORK_DELETED'));

CREATE TABLE perdure.work_transitions (
    source perdure.work_status NOT NULL,
    target perdure.work_status NOT NULL,
    CONSTRAINT pk_work_transitions PRIMARY KEY (source, target)
);
INSERT INTO perdure.work_transitions (source, target) VALUES
    ('PENDING', 'ACTIVE'),
    ('PENDING', 'PAUSED'),
    ('PENDING', 'FAILED'),
    ('PENDING', 'FAILED_SECURITY_BREACH'),
    ('ACTIVE', 'PENDING'),
    ('ACTIVE', 'PENDING_PILOT_APPROVAL'),
    ('ACTIVE', 'PAUSED'),
    ('ACTIVE', 'ZOMBIED_SOFT'),
    ('ACTIVE', 'COMPLETED'),
    ('ACTIVE', 'FAILED'),
    ('ACTIVE', 'FAILED_SECURITY_BREACH'),
    ('PENDING_PILOT_APPROVAL', 'ACTIVE'),
    ('PENDING_PILOT_APPROVAL', 'COMPLETED'),
    ('PENDING_PILOT_APPROVAL', 'FAILED'),
    ('PENDING_PILOT_APPROVAL', 'ZOMBIED_SOFT'),
    ('PENDING_PILOT_APPROVAL', 'FAILED_SECURITY_BREACH'),
    ('PAUSED', 'ACTIVE'),
    ('PAUSED', 'FAILED_SECURITY_BREACH'),
    ('ZOMBIED_SOFT', 'ACTIVE'),
    ('ZOMBIED_SOFT', 'ZOMBIED_DEAD'),
    ('ZOMBIED_SOFT', 'FAILED_SECURITY_BREACH'),
    ('ZOMBIED_DEAD', 'FAILED'),
    ('ZOMBIED_DEAD', 'ARCHIVED'),
    ('ZOMBIED_DEAD', 'FAILED_SECURITY_BREACH'),
    ('COMPLETED', 'ARCHIVED'),
    ('COMPLETED', 'FAILED_SECURITY_BREACH'),
    ('FAILED', 'ARCHIVED'),
    ('FAILED', 'FAILED_SECURITY_BREACH');

CREATE TABLE perdure.work_units (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    unit_id uuid NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    schema text COLLATE "C" NOT NULL,
    status perdure.work_status NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    history_sequence bigint NOT NULL,
    history_hash perdure.sha256_hex,
    content_hash perdure.sha256_hex,
    hash_scheme text COLLATE "C",
    target perdure.work_status,
    interaction_id text COLLATE "C",
    actor_id text COLLATE "C",
    role_id text COLLATE "C",
    parent_id uuid,
    lease_owner text COLLATE "C",
    heartbeat_at timestamptz,
    beats bigint NOT NULL,
    interaction_count bigint NOT NULL,
    interactions_max bigint,
    retry_count bigint NOT NULL,
    child_count bigint NOT NULL,
    finished_child_count bigint NOT NULL,
    CONSTRAINT ck_work_units_version CHECK (version >= 1),
    CONSTRAINT ck_work_units_children CHECK (finished_child_count BETWEEN 0 AND child_count),
    CONSTRAINT fk_work_units_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
) WITH (fillfactor = 80);
CREATE INDEX idx_work_units_made ON perdure.work_units (tenant_id, space_id, created_at, unit_id);
CREATE INDEX idx_work_units_status ON perdure.work_units (tenant_id, space_id, status, created_at, unit_id);
CREATE INDEX idx_work_units_instance ON perdure.work_units (tenant_id, space_id, instance_id, created_at, unit_id);
CREATE INDEX idx_work_units_parent ON perdure.work_units (tenant_id, space_id, parent_id, created_at, unit_id)
    WHERE parent_id IS NOT NULL;
CREATE INDEX idx_work_units_stale ON perdure.work_units (tenant_id, space_id, heartbeat_at, unit_id)
    WHERE status = 'ACTIVE' AND heartbeat_at IS NOT NULL;
ALTER TABLE perdure.work_units ADD CONSTRAINT pk_work_units PRIMARY KEY (tenant_id, space_id, unit_id);

CREATE TABLE perdure.work_attributes (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    unit_id uuid NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value text,
    sequence bigint NOT NULL,
    actor_id text COLLATE "C",
    recorded_at timestamptz NOT NULL,
    CONSTRAINT fk_work_attributes_units FOREIGN KEY (tenant_id, space_id, unit_id)
        REFERENCES perdure.work_units (tenant_id, space_id, unit_id)
);
ALTER TABLE perdure.work_attributes
    ADD CONSTRAINT pk_work_attributes PRIMARY KEY (tenant_id, space_id, unit_id, key, version);

CREATE TABLE perdure.work_history (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    unit_id uuid NOT NULL,
    sequence bigint NOT NULL,
    history_id uuid NOT NULL,
    instance_id text COLLATE "C" NOT NULL,
    event perdure.work_event NOT NULL,
    previous_status perdure.work_status,
    new_status perdure.work_status NOT NULL,
    previous_state_hash perdure.sha256_hex,
    new_state_hash perdure.sha256_hex NOT NULL,
    previous_interaction_id text COLLATE "C",
    new_interaction_id text COLLATE "C",
    actor_id text COLLATE "C",
    transition_timestamp timestamptz NOT NULL,
    reasoning text,
    transition_metadata text,
    changes text NOT NULL,
    hash_scheme text COLLATE "C" NOT NULL,
    previous_entry_hash perdure.sha256_hex,
    entry_hash perdure.sha256_hex NOT NULL,
    CONSTRAINT ck_work_history_sequence CHECK (sequence >= 1),
    CONSTRAINT fk_work_history_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
);
CREATE INDEX idx_work_history_time
    ON perdure.work_history (tenant_id, space_id, transition_timestamp, history_id);
CREATE INDEX idx_work_history_instance
    ON perdure.work_history (tenant_id, space_id, instance_id, transition_timestamp, history_id);
CREATE INDEX idx_work_history_actor
    ON perdure.work_history (tenant_id, space_id, actor_id, transition_timestamp, history_id)
    WHERE actor_id IS NOT NULL;
CREATE INDEX idx_work_history_instance_actor
    ON perdure.work_history (tenant_id, space_id, instance_id, actor_id, transition_timestamp, history_id)
    WHERE actor_id IS NOT NULL;
ALTER TABLE perdure.work_history
    ADD CONSTRAINT pk_work_history PRIMARY KEY (tenant_id, space_id, unit_id, sequence);

-- Requests that were done, so that the same one again changes nothing. They go with their unit.
CREATE TABLE perdure.work_requests (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    unit_id uuid NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    CONSTRAINT fk_work_requests_units FOREIGN KEY (tenant_id, space_id, unit_id)
        REFERENCES perdure.work_units (tenant_id, space_id, unit_id)
);
ALTER TABLE perdure.work_requests
    ADD CONSTRAINT pk_work_requests PRIMARY KEY (tenant_id, space_id, unit_id, request_id);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON perdure.work_history
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();
-- Versions go with their unit, by the function that removes it; none is ever changed.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON perdure.work_attributes
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();

-- Every UPDATE of a unit passes here: keys never change, a status follows the table of transitions unless the history
-- has the waiver, content moves with the version only, and versions rise one by one.
CREATE FUNCTION perdure.guard_work_unit() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_free CONSTANT text[] := '{beats,heartbeat_at,child_count,finished_child_count}';
BEGIN
    IF (new.tenant_id, new.space_id, new.unit_id, new.instance_id, new.parent_id, new.created_at)
            IS DISTINCT FROM (old.tenant_id, old.space_id, old.unit_id, old.instance_id, old.parent_id, old.created_at) THEN
        RAISE EXCEPTION 'the ids and created_at of a unit of work never change' USING ERRCODE = 'PD004';
    ELSIF new.version <> old.version AND new.version <> old.version + 1
            OR new.version = old.version AND to_jsonb(new) - v_free <> to_jsonb(old) - v_free THEN
        RAISE EXCEPTION 'a unit of work changes by saving: its version rises by one with each change'
            USING ERRCODE = 'PD004';
    ELSIF new.status <> old.status
            AND NOT EXISTS (SELECT FROM perdure.work_transitions WHERE source = old.status AND target = new.status)
            AND NOT EXISTS (
                SELECT FROM perdure.work_history AS entry
                WHERE entry.tenant_id = new.tenant_id AND entry.space_id = new.space_id
                    AND entry.unit_id = new.unit_id AND entry.sequence > old.history_sequence
                    AND entry.sequence <= new.history_sequence AND entry.event = 'CONSTITUTIONAL_WAIVER') THEN
        RAISE EXCEPTION 'unit of work % cannot go from % to %', new.unit_id, old.status, new.status
            USING ERRCODE = 'PD003', HINT = 'A waiver with its reason allows it, and stays in the history.';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER guard BEFORE UPDATE ON perdure.work_units
    FOR EACH ROW EXECUTE FUNCTION perdure.guard_work_unit();

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['work_units', 'work_attributes', 'work_history', 'work_requests'] LOOP
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
ALTER TABLE perdure.work_transitions ENABLE ROW LEVEL SECURITY;
CREATE POLICY readable ON perdure.work_transitions FOR SELECT USING (true);
GRANT SELECT ON perdure.work_transitions TO perdure_app, perdure_maintenance;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
