-- The eight tables of the ledger and the index of the domain entities that runs and steps refer to.
--
-- Three rules hold for all of them. Keys are (tenant_id, id), and foreign keys carry the tenant, because foreign-key
-- checks bypass row-level security. Plain indexes come first and UNIQUE and PRIMARY KEY last: on a table that was never
-- analysed all indexes of a tenant cost the same, and the planner takes the newest. Every row that has a status names
-- the event of its last transition in last_event_id.

CREATE TABLE perdure.signals (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    signal_type perdure.signal_type NOT NULL,
    source_channel varchar(100) NOT NULL,
    source_id varchar(255) NOT NULL,
    source_hash perdure.sha256_hex NOT NULL,
    normalized_payload jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    ingested_at timestamptz NOT NULL,
    processed_at timestamptz,
    status perdure.signal_status NOT NULL DEFAULT 'PENDING',
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    source perdure.event_source NOT NULL,
    ingested_by perdure.actor NOT NULL,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT ck_signals_processed_at CHECK ((processed_at IS NOT NULL) = (status IN ('PROCESSED', 'FAILED')))
) WITH (fillfactor = 80);
CREATE INDEX idx_signals_tenant_status ON perdure.signals (tenant_id, status, received_at DESC, id DESC);
CREATE INDEX idx_signals_correlation ON perdure.signals (tenant_id, correlation_id);
ALTER TABLE perdure.signals
    ADD CONSTRAINT uq_signals_source UNIQUE (tenant_id, source_channel, source_id);
ALTER TABLE perdure.signals ADD CONSTRAINT pk_signals PRIMARY KEY (tenant_id, id);

CREATE TABLE perdure.runs (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    signal_id uuid NOT NULL,
    run_type perdure.run_type NOT NULL,
    name perdure.name NOT NULL,
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    completion_requested_at timestamptz,
    status perdure.run_status NOT NULL DEFAULT 'RUNNING',
    exit_reason varchar(100),
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    source perdure.event_source NOT NULL,
    orchestrator_version varchar(50),
    total_steps integer NOT NULL DEFAULT 0,
    failed_steps integer NOT NULL DEFAULT 0,
    open_steps integer NOT NULL DEFAULT 0,
    total_effects integer NOT NULL DEFAULT 0,
    open_effects integer NOT NULL DEFAULT 0,
    total_checkpoints integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    version integer NOT NULL DEFAULT 0,
    locked_by varchar(200),
    locked_until timestamptz,
    lock_token uuid,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT ck_runs_completed_at CHECK ((completed_at IS NOT NULL) = (status <> 'RUNNING')),
    CONSTRAINT ck_runs_exit_reason CHECK (exit_reason IS NOT NULL OR status NOT IN ('FAILED', 'CANCELLED')),
    CONSTRAINT ck_runs_counters CHECK (0 <= failed_steps AND failed_steps <= total_steps
        AND 0 <= open_steps AND open_steps <= total_steps
        AND 0 <= open_effects AND open_effects <= total_effects),
    CONSTRAINT ck_runs_order CHECK (completed_at >= started_at),
    CONSTRAINT ck_runs_lease CHECK ((lock_token IS NULL) = (locked_until IS NULL)
        AND (lock_token IS NULL) = (locked_by IS NULL)),
    CONSTRAINT fk_runs_signals FOREIGN KEY (tenant_id, signal_id)
        REFERENCES perdure.signals (tenant_id, id) ON DELETE NO ACTION
) WITH (fillfactor = 50);
CREATE INDEX idx_runs_tenant_status ON perdure.runs (tenant_id, status, started_at DESC, id DESC);
CREATE INDEX idx_runs_signal ON perdure.runs (tenant_id, signal_id, started_at DESC);
CREATE INDEX idx_runs_correlation ON perdure.runs (tenant_id, correlation_id);
ALTER TABLE perdure.runs ADD CONSTRAINT pk_runs PRIMARY KEY (tenant_id, id);

CREATE TABLE perdure.steps (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_index integer NOT NULL,
    step_type perdure.step_type NOT NULL,
    name perdure.name NOT NULL,
    step_key varchar(100) NOT NULL,
    retry_count integer NOT NULL DEFAULT 0,
    retry_of uuid,
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    wait_until timestamptz,
    status perdure.step_status NOT NULL DEFAULT 'RUNNING',
    input_context jsonb,
    output_result jsonb,
    specialist_id varchar(100),
    error_details jsonb,
    metadata jsonb,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT ck_steps_index CHECK (step_index >= 0 AND retry_count >= 0),
    CONSTRAINT ck_steps_completed_at CHECK ((completed_at IS NOT NULL) = (status <> 'RUNNING')),
    CONSTRAINT ck_steps_order CHECK (completed_at >= started_at),
    CONSTRAINT ck_steps_specialist CHECK (specialist_id IS NOT NULL OR step_type <> 'SPECIALIST_CALL'),
    CONSTRAINT ck_steps_error CHECK (error_details IS NOT NULL OR status <> 'FAILED'),
    CONSTRAINT ck_steps_wait CHECK ((wait_until IS NOT NULL) = (step_type = 'WAIT')),
    CONSTRAINT fk_steps_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES perdure.runs (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX idx_steps_status ON perdure.steps (tenant_id, status, started_at DESC);
CREATE INDEX idx_steps_wait ON perdure.steps (wait_until) WHERE step_type = 'WAIT' AND status = 'RUNNING';
ALTER TABLE perdure.steps ADD CONSTRAINT uq_steps_index UNIQUE (tenant_id, run_id, step_index);
ALTER TABLE perdure.steps ADD CONSTRAINT uq_steps_key UNIQUE (tenant_id, run_id, step_key, retry_count);
ALTER TABLE perdure.steps ADD CONSTRAINT pk_steps PRIMARY KEY (tenant_id, id);

CREATE TABLE perdure.effects (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_id uuid NOT NULL,
    effect_type perdure.effect_type NOT NULL,
    effect_spec jsonb NOT NULL,
    idempotency_key varchar(255) NOT NULL,
    requested_at timestamptz NOT NULL,
    executed_at timestamptz,
    status perdure.effect_status NOT NULL DEFAULT 'PENDING',
    execution_result jsonb,
    error_details jsonb,
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL DEFAULT 3,
    next_retry_at timestamptz,
    metadata jsonb,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT ck_effects_idempotency_key CHECK (effect_spec ->> 'idempotency_key' = idempotency_key),
    CONSTRAINT ck_effects_executed_at CHECK ((executed_at IS NOT NULL) = (status = 'COMPLETED')),
    CONSTRAINT ck_effects_retries CHECK (0 <= retry_count AND 0 <= max_retries),
    CONSTRAINT fk_effects_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES perdure.runs (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT fk_effects_steps FOREIGN KEY (tenant_id, step_id)
        REFERENCES perdure.steps (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 70);
CREATE INDEX idx_effects_status ON perdure.effects (tenant_id, status, requested_at);
CREATE INDEX idx_effects_retry ON perdure.effects (tenant_id, next_retry_at) WHERE status = 'FAILED';
CREATE INDEX idx_effects_run ON perdure.effects (tenant_id, run_id);
ALTER TABLE perdure.effects
    ADD CONSTRAINT uq_effects_idempotency_key UNIQUE (tenant_id, idempotency_key);
ALTER TABLE perdure.effects ADD CONSTRAINT pk_effects PRIMARY KEY (tenant_id, id);

CREATE TABLE perdure.tool_calls (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_id uuid NOT NULL,
    call_index integer NOT NULL,
    call_key varchar(100) NOT NULL,
    tool_name varchar(100) NOT NULL,
    tool_version varchar(50),
    tool_args jsonb NOT NULL,
    called_at timestamptz NOT NULL,
    completed_at timestamptz,
    status perdure.tool_call_status NOT NULL DEFAULT 'PENDING',
    result jsonb,
    error_details jsonb,
    execution_duration_ms integer,
    cache_hit boolean NOT NULL DEFAULT false,
    metadata jsonb,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_tool_calls_index CHECK (call_index >= 0),
    CONSTRAINT ck_tool_calls_completed_at CHECK ((completed_at IS NOT NULL) = (status <> 'PENDING')),
    CONSTRAINT ck_tool_calls_error CHECK (error_details IS NOT NULL OR status <> 'FAILED'),
    CONSTRAINT ck_tool_calls_duration CHECK (execution_duration_ms >= 0),
    CONSTRAINT fk_tool_calls_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES perdure.runs (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT fk_tool_calls_steps FOREIGN KEY (tenant_id, step_id)
        REFERENCES perdure.steps (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX idx_tool_calls_run ON perdure.tool_calls (tenant_id, run_id);
CREATE INDEX idx_tool_calls_perf ON perdure.tool_calls (tenant_id, tool_name, execution_duration_ms);
ALTER TABLE perdure.tool_calls ADD CONSTRAINT uq_tool_calls_index UNIQUE (tenant_id, step_id, call_index);
ALTER TABLE perdure.tool_calls ADD CONSTRAINT pk_tool_calls PRIMARY KEY (tenant_id, id);

CREATE TABLE perdure.run_checkpoints (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    checkpoint_index integer NOT NULL,
    checkpoint_data jsonb NOT NULL,
    last_sequence_number bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    size_bytes integer NOT NULL,
    compressed boolean NOT NULL DEFAULT false,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_run_checkpoints_index CHECK (checkpoint_index >= 0),
    CONSTRAINT ck_run_checkpoints_size CHECK (size_bytes BETWEEN 0 AND 10485760),
    CONSTRAINT ck_run_checkpoints_compressed CHECK (NOT compressed),
    CONSTRAINT fk_run_checkpoints_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES perdure.runs (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX idx_checkpoints_expiry ON perdure.run_checkpoints (tenant_id, expires_at);
ALTER TABLE perdure.run_checkpoints
    ADD CONSTRAINT uq_run_checkpoints_index UNIQUE (tenant_id, run_id, checkpoint_index);
ALTER TABLE perdure.run_checkpoints ADD CONSTRAINT pk_run_checkpoints PRIMARY KEY (tenant_id, id);
