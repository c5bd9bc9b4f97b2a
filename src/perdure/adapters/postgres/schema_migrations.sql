-- Which migrations this database has. The runner makes this table before the first migration and drops it after the
-- last one is undone; the plane reads it when it opens. Safe to run again.
CREATE SCHEMA IF NOT EXISTS perdure AUTHORIZATION perdure_owner;

CREATE TABLE IF NOT EXISTS perdure.schema_migrations (
    version bigint NOT NULL,
    name varchar(200) NOT NULL,
    checksum varchar(64) NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by varchar(63) NOT NULL DEFAULT session_user,
    duration_ms bigint NOT NULL,
    CONSTRAINT ck_schema_migrations_checksum CHECK (checksum ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_schema_migrations_duration CHECK (duration_ms >= 0),
    CONSTRAINT pk_schema_migrations PRIMARY KEY (version)
);

GRANT USAGE ON SCHEMA perdure TO perdure_app, perdure_relay, perdure_maintenance;
GRANT SELECT ON perdure.schema_migrations TO perdure_app, perdure_relay, perdure_maintenance;
