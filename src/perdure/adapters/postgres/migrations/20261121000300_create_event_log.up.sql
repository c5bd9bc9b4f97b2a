-- The append-only event log, the outbox that drives effects, and the index of referenced domain entities.

CREATE TABLE perdure.orchestration_events (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    sequence_number bigint NOT NULL,
    event_type perdure.event_type NOT NULL,
    aggregate_type perdure.aggregate_type NOT NULL,
    aggregate_id uuid NOT NULL,
    event_data jsonb NOT NULL,
    schema_version integer NOT NULL DEFAULT 1,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    source perdure.event_source NOT NULL,
    occurred_at timestamptz NOT NULL,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_orchestration_events_updated_at CHECK (updated_at = created_at)
);
CREATE INDEX idx_events_type ON perdure.orchestration_events (tenant_id, event_type, occurred_at DESC);
CREATE INDEX idx_events_causation ON perdure.orchestration_events (tenant_id, causation_id);
CREATE INDEX idx_events_actor ON perdure.orchestration_events (tenant_id, actor, sequence_number);
CREATE INDEX idx_events_aggregate
    ON perdure.orchestration_events (tenant_id, aggregate_type, aggregate_id, sequence_number);
CREATE INDEX idx_events_correlation
    ON perdure.orchestration_events (tenant_id, correlation_id, sequence_number);
ALTER TABLE perdure.orchestration_events
    ADD CONSTRAINT uq_orchestration_events_sequence UNIQUE (tenant_id, sequence_number);
ALTER TABLE perdure.orchestration_events
    ADD CONSTRAINT pk_orchestration_events PRIMARY KEY (tenant_id, id);

CREATE TABLE perdure.outbox_events (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    event_type perdure.effect_type NOT NULL,
    payload jsonb NOT NULL,
    idempotency_key varchar(255) NOT NULL,
    processed_at timestamptz,
    status perdure.outbox_status NOT NULL DEFAULT 'PENDING',
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL DEFAULT 3,
    next_retry_at timestamptz,
    result jsonb,
    error_details jsonb,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    aggregate_type perdure.aggregate_type NOT NULL DEFAULT 'EFFECT',
    aggregate_id uuid NOT NULL,
    locked_by varchar(200),
    locked_until timestamptz,
    lock_token uuid,
    ordering_key uuid NOT NULL,
    ordering_seq bigint NOT NULL,
    independent boolean NOT NULL DEFAULT false,
    last_event_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_outbox_events_idempotency_key CHECK (payload ->> 'idempotency_key' = idempotency_key),
    CONSTRAINT ck_outbox_events_processed_at
        CHECK ((processed_at IS NOT NULL) = (status IN ('COMPLETED', 'DEAD_LETTER'))),
    CONSTRAINT ck_outbox_events_lease CHECK ((status = 'PROCESSING') = (lock_token IS NOT NULL)
        AND (lock_token IS NULL) = (locked_until IS NULL) AND (lock_token IS NULL) = (locked_by IS NULL)),
    CONSTRAINT ck_outbox_events_retries CHECK (0 <= retry_count AND 0 <= max_retries)
) WITH (fillfactor = 50);
CREATE INDEX idx_outbox_status ON perdure.outbox_events (tenant_id, status, created_at);
CREATE INDEX idx_outbox_aggregate ON perdure.outbox_events (tenant_id, aggregate_id);
CREATE INDEX idx_outbox_correlation ON perdure.outbox_events (tenant_id, correlation_id);
-- The relay's own three: what is due, whose lease ran out, and what of a run is still ahead.
CREATE INDEX idx_outbox_due ON perdure.outbox_events (tenant_id, coalesce(next_retry_at, created_at))
    WHERE status IN ('PENDING', 'FAILED');
CREATE INDEX idx_outbox_lease ON perdure.outbox_events (locked_until) WHERE status = 'PROCESSING';
CREATE INDEX idx_outbox_order ON perdure.outbox_events (tenant_id, ordering_key, ordering_seq)
    WHERE status IN ('PENDING', 'PROCESSING', 'FAILED');
ALTER TABLE perdure.outbox_events
    ADD CONSTRAINT uq_outbox_events_idempotency_key UNIQUE (tenant_id, idempotency_key);
ALTER TABLE perdure.outbox_events ADD CONSTRAINT pk_outbox_events PRIMARY KEY (tenant_id, id);

-- References only: which run or step concerns which domain entity, never a copy of the entity.
CREATE TABLE perdure.entity_references (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    entity_type varchar(100) NOT NULL,
    entity_id varchar(255) NOT NULL,
    run_id uuid NOT NULL,
    aggregate_type perdure.aggregate_type NOT NULL,
    aggregate_id uuid NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    actor perdure.actor NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_entity_references_entity CHECK (entity_type <> '' AND entity_id <> ''),
    CONSTRAINT fk_entity_references_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES perdure.runs (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX idx_entity_references_run ON perdure.entity_references (tenant_id, run_id);
ALTER TABLE perdure.entity_references
    ADD CONSTRAINT uq_entity_references_entity UNIQUE (tenant_id, entity_type, entity_id, aggregate_id);
ALTER TABLE perdure.entity_references ADD CONSTRAINT pk_entity_references PRIMARY KEY (tenant_id, id);
