-- The ground everything stands on: settings of this ledger, tenants and their members, the tenant context, the status
-- machines as data, and one clock.
--
-- The runner sets perdure.mode and perdure.env for the transaction. One ledger database serves exactly one (mode, env).

CREATE TABLE perdure.plane_settings (
    singleton boolean NOT NULL DEFAULT true,
    mode varchar(20) NOT NULL,
    env varchar(63) NOT NULL,
    namespace uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_plane_settings_mode CHECK (mode IN ('lab', 'saas', 'enterprise')),
    CONSTRAINT ck_plane_settings_env CHECK (env ~ '^[a-z][a-z0-9_-]{0,62}$'),
    CONSTRAINT ck_plane_settings_singleton CHECK (singleton),
    CONSTRAINT pk_plane_settings PRIMARY KEY (singleton)
);

INSERT INTO perdure.plane_settings (mode, env, namespace)
VALUES (current_setting('perdure.mode'), current_setting('perdure.env'), '6f0c3c1e-5d0b-5c6e-9a51-0d7a3f2b8e44');

-- Value sets and grammars are domains: one definition for every column that uses it, and checked only when that column
-- is written. A table CHECK is parsed anew by every statement that touches the table, whatever it writes; on the commit
-- path that was a quarter of the server's time (measured).
--
-- The grammars that stand on every row and event are spelled with LIKE and translate, which cost a tenth of a regular
-- expression: a prefix from a list, then only letters, digits and . _ @ : / -
CREATE DOMAIN perdure.actor AS varchar(100) CONSTRAINT ck_actor CHECK (
    (VALUE LIKE 'agent:_%' OR VALUE LIKE 'user:_%' OR VALUE LIKE 'system:_%' OR VALUE LIKE 'external:_%')
    AND translate(VALUE, 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@:/-', '') = '');
CREATE DOMAIN perdure.event_source AS varchar(150) CONSTRAINT ck_event_source CHECK (
    (VALUE LIKE 'esi:_%' OR VALUE LIKE 'api:_%' OR VALUE LIKE 'webhook:_%' OR VALUE LIKE 'scheduler:_%'
        OR VALUE LIKE 'manual:_%')
    AND translate(VALUE, 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@:/-', '') = '');
CREATE DOMAIN perdure.name AS varchar(200) CONSTRAINT ck_name CHECK (VALUE <> '');
CREATE DOMAIN perdure.sha256_hex AS varchar(64) CONSTRAINT ck_sha256_hex CHECK (VALUE ~ '^[0-9a-f]{64}$');
CREATE DOMAIN perdure.signal_type AS varchar(50) CONSTRAINT ck_signal_type CHECK (VALUE IN
    ('EMAIL', 'WEBHOOK', 'CHAT_MESSAGE', 'API_CALL', 'SCHEDULED_TASK', 'HUMAN_COMMAND'));
CREATE DOMAIN perdure.run_type AS varchar(50) CONSTRAINT ck_run_type CHECK (VALUE IN
    ('SIGNAL_PROCESSING', 'SCHEDULED_TASK', 'HUMAN_TRIGGERED', 'CONTINUATION'));
CREATE DOMAIN perdure.step_type AS varchar(50) CONSTRAINT ck_step_type CHECK (VALUE IN
    ('DECISION', 'SPECIALIST_CALL', 'TOOL_SEQUENCE', 'EFFECT_REQUEST', 'CHECKPOINT', 'WAIT'));
CREATE DOMAIN perdure.effect_type AS varchar(50) CONSTRAINT ck_effect_type CHECK (
    VALUE LIKE '__%' AND translate(left(VALUE, 1), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', '') = ''
    AND translate(VALUE, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_', '') = '');
CREATE DOMAIN perdure.aggregate_type AS varchar(50) CONSTRAINT ck_aggregate_type CHECK (VALUE IN
    ('SIGNAL', 'RUN', 'STEP', 'EFFECT', 'TOOL_CALL'));
CREATE DOMAIN perdure.event_type AS varchar(100) CONSTRAINT ck_event_type CHECK (VALUE IN (
    'SIGNAL_RECEIVED', 'SIGNAL_PROCESSING_STARTED', 'SIGNAL_PROCESSED', 'SIGNAL_PROCESSING_FAILED',
    'RUN_STARTED', 'RUN_CHECKPOINT_CREATED', 'RUN_COMPLETED', 'RUN_FAILED', 'RUN_CANCELLED',
    'STEP_STARTED', 'STEP_COMPLETED', 'STEP_FAILED', 'STEP_SKIPPED', 'STEP_RETRIED', 'STEP_CORRECTED',
    'EFFECT_REQUESTED', 'EFFECT_EXECUTING', 'EFFECT_COMPLETED', 'EFFECT_FAILED', 'EFFECT_RETRYING',
    'EFFECT_DEAD_LETTERED',
    'TOOL_CALLED', 'TOOL_COMPLETED', 'TOOL_FAILED'));
CREATE DOMAIN perdure.signal_status AS varchar(20) CONSTRAINT ck_signal_status CHECK (VALUE IN
    ('PENDING', 'PROCESSING', 'PROCESSED', 'FAILED'));
CREATE DOMAIN perdure.run_status AS varchar(20) CONSTRAINT ck_run_status CHECK (VALUE IN
    ('RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED'));
CREATE DOMAIN perdure.step_status AS varchar(20) CONSTRAINT ck_step_status CHECK (VALUE IN
    ('RUNNING', 'COMPLETED', 'FAILED', 'SKIPPED'));
CREATE DOMAIN perdure.effect_status AS varchar(20) CONSTRAINT ck_effect_status CHECK (VALUE IN
    ('PENDING', 'EXECUTING', 'COMPLETED', 'FAILED', 'DEAD_LETTER'));
CREATE DOMAIN perdure.tool_call_status AS varchar(20) CONSTRAINT ck_tool_call_status CHECK (VALUE IN
    ('PENDING', 'COMPLETED', 'FAILED'));
CREATE DOMAIN perdure.outbox_status AS varchar(20) CONSTRAINT ck_outbox_status CHECK (VALUE IN
    ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'DEAD_LETTER'));

-- The only clock of the ledger. Tests replace this one function; nothing else reads the time.
CREATE FUNCTION perdure.instant() RETURNS timestamptz
    LANGUAGE sql VOLATILE
    AS 'SELECT clock_timestamp()';

-- A version 7 UUID for the few ids that only the server can make (events of a run that a delivery completes).
CREATE FUNCTION perdure.uuid7() RETURNS uuid
    LANGUAGE sql VOLATILE
    AS $$
SELECT encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;

-- The transaction's tenant. An unset and a used-up setting both read as "no tenant": after a transaction that set it
-- locally, PostgreSQL leaves an empty string behind, which must not reach a cast.
CREATE FUNCTION perdure.current_tenant_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid$$;

CREATE FUNCTION perdure.current_user_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$SELECT nullif(current_setting('app.current_user_id', true), '')::uuid$$;

CREATE TABLE perdure.tenants (
    tenant_id uuid NOT NULL,
    slug varchar(64) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_tenants_slug CHECK (slug ~ '^t_[a-z0-9_-]{1,62}$'),
    CONSTRAINT uq_tenants_slug UNIQUE (slug),
    CONSTRAINT pk_tenants PRIMARY KEY (tenant_id)
);

CREATE TABLE perdure.user_tenants (
    user_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    role varchar(50) NOT NULL DEFAULT 'member',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_user_tenants_role CHECK (role ~ '^[a-z][a-z0-9_-]{0,49}$'),
    CONSTRAINT fk_user_tenants_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id),
    CONSTRAINT pk_user_tenants PRIMARY KEY (user_id, tenant_id)
);
CREATE INDEX idx_user_tenants_tenant_id ON perdure.user_tenants (tenant_id, user_id);

-- The dense counter of each tenant. Updating the row in the transaction that writes the events makes the numbers
-- gap-free and visible in order: the row stays locked until the commit that shows them.
CREATE TABLE perdure.tenant_sequences (
    tenant_id uuid NOT NULL,
    last_number bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_tenant_sequences_last_number CHECK (last_number >= 0),
    CONSTRAINT fk_tenant_sequences_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id),
    CONSTRAINT pk_tenant_sequences PRIMARY KEY (tenant_id)
) WITH (fillfactor = 10);

-- The six status machines, one row an edge. `source` is '-' where a row begins.
CREATE TABLE perdure.status_transitions (
    machine varchar(20) NOT NULL,
    source varchar(20) NOT NULL,
    target varchar(20) NOT NULL,
    CONSTRAINT pk_status_transitions PRIMARY KEY (machine, source, target)
);

INSERT INTO perdure.status_transitions (machine, source, target) VALUES
    ('SIGNAL', '-', 'PENDING'),
    ('SIGNAL', 'PENDING', 'PROCESSING'),
    ('SIGNAL', 'PROCESSING', 'PROCESSED'),
    ('SIGNAL', 'PROCESSING', 'FAILED'),
    ('RUN', '-', 'RUNNING'),
    ('RUN', 'RUNNING', 'COMPLETED'),
    ('RUN', 'RUNNING', 'FAILED'),
    ('RUN', 'RUNNING', 'CANCELLED'),
    ('STEP', '-', 'RUNNING'),
    ('STEP', 'RUNNING', 'COMPLETED'),
    ('STEP', 'RUNNING', 'FAILED'),
    ('STEP', 'RUNNING', 'SKIPPED'),
    ('EFFECT', '-', 'PENDING'),
    ('EFFECT', 'PENDING', 'EXECUTING'),
    ('EFFECT', 'PENDING', 'DEAD_LETTER'),
    ('EFFECT', 'EXECUTING', 'COMPLETED'),
    ('EFFECT', 'EXECUTING', 'FAILED'),
    ('EFFECT', 'FAILED', 'EXECUTING'),
    ('EFFECT', 'FAILED', 'DEAD_LETTER'),
    ('EFFECT', 'DEAD_LETTER', 'PENDING'),
    ('TOOL_CALL', '-', 'PENDING'),
    ('TOOL_CALL', 'PENDING', 'COMPLETED'),
    ('TOOL_CALL', 'PENDING', 'FAILED'),
    ('OUTBOX', '-', 'PENDING'),
    ('OUTBOX', 'PENDING', 'PROCESSING'),
    ('OUTBOX', 'PENDING', 'DEAD_LETTER'),
    ('OUTBOX', 'PROCESSING', 'COMPLETED'),
    ('OUTBOX', 'PROCESSING', 'FAILED'),
    ('OUTBOX', 'PROCESSING', 'DEAD_LETTER'),
    ('OUTBOX', 'FAILED', 'PROCESSING'),
    ('OUTBOX', 'FAILED', 'DEAD_LETTER'),
    ('OUTBOX', 'DEAD_LETTER', 'PENDING');

-- The business-level record of who did what to whom: requeues, grants, exports. Not the event log.
CREATE TABLE perdure.audit_trail (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    action varchar(100) NOT NULL,
    resource_type varchar(50) NOT NULL,
    resource_id uuid,
    actor perdure.actor NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    context jsonb NOT NULL DEFAULT '{}',
    correlation_id uuid,
    pii_redacted boolean NOT NULL DEFAULT false,
    redacted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_audit_trail_action CHECK (action ~ '^[A-Z][A-Z0-9_]{1,99}$'),
    CONSTRAINT fk_audit_trail_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
);
CREATE INDEX idx_audit_trail_action ON perdure.audit_trail (tenant_id, action, occurred_at DESC);
CREATE INDEX idx_audit_trail_actor ON perdure.audit_trail (tenant_id, actor, occurred_at DESC);
CREATE INDEX idx_audit_trail_resource ON perdure.audit_trail (tenant_id, resource_type, resource_id);
ALTER TABLE perdure.audit_trail ADD CONSTRAINT pk_audit_trail PRIMARY KEY (tenant_id, id);
