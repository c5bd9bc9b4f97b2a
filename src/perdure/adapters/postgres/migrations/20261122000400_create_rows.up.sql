-- Versioned rows: tables and blackboards. A row a key, and a row a container to know which there are. Values are bytes
-- and keys are compared by theirs, so that both are as on every other engine.

CREATE TABLE perdure.row_containers (
    tenant_id uuid NOT NULL,
    container_id uuid NOT NULL,
    kind perdure.store_kind NOT NULL,
    container text COLLATE "C" NOT NULL,
    user_name text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_row_containers_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
);
CREATE INDEX idx_row_containers_user ON perdure.row_containers (tenant_id, user_name, container_id)
    WHERE user_name IS NOT NULL;
CREATE INDEX idx_row_containers_kind ON perdure.row_containers (tenant_id, kind, container_id);
ALTER TABLE perdure.row_containers ADD CONSTRAINT pk_row_containers PRIMARY KEY (tenant_id, container_id);

CREATE TABLE perdure.versioned_rows (
    tenant_id uuid NOT NULL,
    container_id uuid NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX idx_versioned_rows_end ON perdure.versioned_rows (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
ALTER TABLE perdure.versioned_rows ADD CONSTRAINT pk_versioned_rows PRIMARY KEY (tenant_id, container_id, key);

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['row_containers', 'versioned_rows'] LOOP
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

-- Locks the name of a container against being erased until the commit, making it if there is none.
CREATE FUNCTION perdure.hold_container(p_tenant uuid, p_slug text, p_rows jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_id uuid := (p_rows ->> 'id')::uuid;
BEGIN
    LOOP
        PERFORM FROM perdure.row_containers WHERE tenant_id = p_tenant AND container_id = v_id FOR KEY SHARE;
        EXIT WHEN FOUND;
        PERFORM perdure.require_tenant(p_tenant, p_slug);
        INSERT INTO perdure.row_containers (tenant_id, container_id, kind, container, user_name)
        VALUES (p_tenant, v_id, p_rows ->> 'kind', p_rows ->> 'container', p_rows ->> 'user') ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;
END
$$;

-- Removes the name of a container that is left without a row, once the caller has locked it. Who makes a row holds the
-- name, so none can come after the lock.
CREATE FUNCTION perdure.drop_name_if_empty(p_tenant uuid, p_container uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM perdure.row_containers
        WHERE tenant_id = p_tenant AND container_id = p_container AND NOT EXISTS (
            SELECT FROM perdure.versioned_rows AS kept
            WHERE kept.tenant_id = p_tenant AND kept.container_id = p_container);
END
$$;

-- As drop_name_if_empty, by somebody who keeps rows locked and so waits for nobody: a name that is held is left alone.
CREATE FUNCTION perdure.release_container(p_tenant uuid, p_container uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM perdure.versioned_rows WHERE tenant_id = p_tenant AND container_id = p_container) THEN
        PERFORM FROM perdure.row_containers
            WHERE tenant_id = p_tenant AND container_id = p_container FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            PERFORM perdure.drop_name_if_empty(p_tenant, p_container);
        END IF;
    END IF;
END
$$;

-- Puts (a value) and deletes (NULL) rows with different keys, given in the order of their bytes: {rows: {key: row}}, or
-- {stale: key, version, incarnation} for an expectation (version, incarnation) that does not hold, and nothing written.
--
-- Rows that are there are locked in the order of keys, then judged. One that somebody else makes after that is waited
-- for by the upsert: it is overwritten where nothing was expected, and else the whole call is tried again.
CREATE FUNCTION perdure.write_rows(
    p_tenant uuid, p_slug text, p_rows jsonb, p_keys text[], p_values bytea[], p_expires timestamptz[],
    p_versions bigint[], p_incarnations text[], p_audit text, p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_id uuid := (p_rows ->> 'id')::uuid;
    v_now timestamptz;
    v_held jsonb;
    v_live jsonb;
    v_key text;
    v_result jsonb;
    v_written jsonb := '{}';
BEGIN
    -- LIMIT keeps each key a look-up of its own, whatever the planner takes the container for.
    SELECT coalesce(jsonb_object_agg(held.key, jsonb_build_object('version', held.version,
            'incarnation', held.incarnation, 'expires_at', held.expires_at)), '{}') INTO v_held
    FROM unnest(p_keys) AS given (key)
    CROSS JOIN LATERAL (
        SELECT * FROM perdure.versioned_rows AS kept
        WHERE kept.tenant_id = p_tenant AND kept.container_id = v_id AND kept.key = given.key
        LIMIT 1 FOR UPDATE) AS held;
    v_now := perdure.instant();
    SELECT coalesce(jsonb_object_agg(held.key, held.value), '{}') INTO v_live FROM jsonb_each(v_held) AS held
        WHERE held.value ->> 'expires_at' IS NULL OR (held.value ->> 'expires_at')::timestamptz > v_now;
    SELECT jsonb_build_object('stale', given.key, 'version', coalesce((v_live -> given.key ->> 'version')::bigint, 0))
        INTO v_result
    FROM unnest(p_keys, p_versions, p_incarnations) WITH ORDINALITY AS given (key, version, incarnation, place)
    WHERE given.version <> coalesce((v_live -> given.key ->> 'version')::bigint, 0)
        OR (given.version > 0 AND given.incarnation <> v_live -> given.key ->> 'incarnation')
    ORDER BY given.place LIMIT 1;
    IF v_result IS NULL THEN
        -- One look-up a key: without statistics a join or an array would rather read the whole container.
        FOREACH v_key IN ARRAY ARRAY(SELECT given.key FROM unnest(p_keys, p_values) AS given (key, value)
                                     WHERE given.value IS NULL AND v_held ? given.key) LOOP
            DELETE FROM perdure.versioned_rows WHERE tenant_id = p_tenant AND container_id = v_id AND key = v_key;
        END LOOP;
        IF EXISTS (SELECT FROM unnest(p_keys, p_values) AS given (key, value)
                   WHERE given.value IS NOT NULL AND NOT v_held ? given.key) THEN
            PERFORM perdure.hold_container(p_tenant, p_slug, p_rows);
        END IF;
        WITH written AS (
            INSERT INTO perdure.versioned_rows AS kept (tenant_id, container_id, key, value, version, incarnation,
                expires_at, created_at, updated_at)
            SELECT p_tenant, v_id, given.key, given.value, 1, gen_random_uuid()::text, given.expires_at, v_now, v_now
            FROM unnest(p_keys, p_values, p_expires) WITH ORDINALITY AS given (key, value, expires_at, place)
            WHERE given.value IS NOT NULL
            ORDER BY given.place
            ON CONFLICT (tenant_id, container_id, key) DO UPDATE SET value = excluded.value,
                expires_at = excluded.expires_at,
                version = CASE WHEN kept.expires_at <= v_now THEN 1 ELSE kept.version + 1 END,
                incarnation = CASE WHEN kept.expires_at <= v_now THEN excluded.incarnation ELSE kept.incarnation END,
                created_at = CASE WHEN kept.expires_at <= v_now THEN v_now ELSE kept.created_at END,
                updated_at = v_now
                WHERE v_held ? kept.key OR p_versions[array_position(p_keys, kept.key)] IS NULL
            RETURNING key, version, incarnation, created_at, updated_at
        )
        SELECT coalesce(jsonb_object_agg(written.key, to_jsonb(written) - 'key'), '{}') INTO v_written FROM written;
        IF (SELECT count(*) FROM jsonb_object_keys(v_written)) < (SELECT count(value) FROM unnest(p_values) AS value) THEN
            RAISE EXCEPTION 'a row was made by somebody else meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
        IF v_written = '{}' THEN
            PERFORM perdure.release_container(p_tenant, v_id);
        END IF;
        PERFORM perdure.keep_audit(p_tenant, v_id, p_audit);
        v_result := jsonb_build_object('rows', v_written);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

-- Writes rows of another store as they are, over whatever is there.
CREATE FUNCTION perdure.restore_rows(
    p_tenant uuid, p_slug text, p_rows jsonb, p_keys text[], p_values bytea[], p_versions bigint[],
    p_incarnations text[], p_expires timestamptz[], p_created timestamptz[], p_updated timestamptz[],
    p_patience_ms integer
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
BEGIN
    PERFORM perdure.hold_container(p_tenant, p_slug, p_rows);
    INSERT INTO perdure.versioned_rows (tenant_id, container_id, key, value, version, incarnation, expires_at,
        created_at, updated_at)
    SELECT p_tenant, (p_rows ->> 'id')::uuid, given.key, given.value, given.version, given.incarnation,
        given.expires_at, given.created_at, given.updated_at
    FROM unnest(p_keys, p_values, p_versions, p_incarnations, p_expires, p_created, p_updated) WITH ORDINALITY
        AS given (key, value, version, incarnation, expires_at, created_at, updated_at, place)
    ORDER BY given.place
    ON CONFLICT (tenant_id, container_id, key) DO UPDATE SET value = excluded.value, version = excluded.version,
        incarnation = excluded.incarnation, expires_at = excluded.expires_at, created_at = excluded.created_at,
        updated_at = excluded.updated_at;
    v_context := perdure.leave_tenant(v_context);
END
$$;

-- Removes up to p_limit rows and audit records of a container: {erased: the rows that were not past their lifetime,
-- more}. With the last of them goes the name, unless somebody made a row meanwhile.
--
-- Rows are locked before the name and in the order of keys, as writers do it, so that neither waits for the other.
CREATE FUNCTION perdure.erase_rows(p_tenant uuid, p_container uuid, p_limit bigint, p_patience_ms integer)
    RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_now timestamptz := perdure.instant();
    v_keys text[];
    v_erased bigint;
    v_left bigint;
BEGIN
    v_keys := ARRAY(SELECT key FROM perdure.versioned_rows
        WHERE tenant_id = p_tenant AND container_id = p_container ORDER BY key LIMIT p_limit FOR UPDATE);
    WITH removed AS (
        DELETE FROM perdure.versioned_rows
            WHERE tenant_id = p_tenant AND container_id = p_container AND key >= v_keys[1]
                AND key <= v_keys[cardinality(v_keys)]
            RETURNING expires_at
    )
    SELECT count(*) FILTER (WHERE expires_at IS NULL OR expires_at > v_now) INTO v_erased FROM removed;
    v_left := p_limit - cardinality(v_keys);
    v_left := v_left - perdure.remove_audits(p_tenant, p_container, v_left);
    IF v_left > 0 THEN
        PERFORM FROM perdure.row_containers WHERE tenant_id = p_tenant AND container_id = p_container FOR UPDATE;
        PERFORM perdure.drop_name_if_empty(p_tenant, p_container);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('erased', v_erased, 'more', v_left <= 0);
END
$$;

-- Removes up to p_limit rows past their lifetime, and the names of containers that are left without a row. One tenant
-- after the other, as sweep_logs.
CREATE FUNCTION perdure.sweep_rows(p_limit bigint, p_patience_ms integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := coalesce(current_setting('app.current_tenant_id', true), '');
    v_now timestamptz := perdure.instant();
    v_tenant uuid;
    v_row record;
    v_left bigint := p_limit;
    v_touched uuid[];
    v_container uuid;
BEGIN
    FOR v_tenant IN SELECT tenant_id FROM perdure.tenants ORDER BY tenant_id LOOP
        PERFORM perdure.enter_store(v_tenant, p_patience_ms);
        v_touched := '{}';
        FOR v_row IN
            SELECT container_id, key FROM perdure.versioned_rows
            WHERE tenant_id = v_tenant AND expires_at <= v_now ORDER BY expires_at LIMIT v_left FOR UPDATE SKIP LOCKED
        LOOP
            DELETE FROM perdure.versioned_rows
                WHERE tenant_id = v_tenant AND container_id = v_row.container_id AND key = v_row.key;
            v_touched := v_touched || v_row.container_id;
            v_left := v_left - 1;
        END LOOP;
        FOREACH v_container IN ARRAY ARRAY(SELECT DISTINCT touched FROM unnest(v_touched) AS touched) LOOP
            PERFORM perdure.release_container(v_tenant, v_container);
        END LOOP;
        EXIT WHEN v_left <= 0;
    END LOOP;
    v_context := perdure.leave_tenant(v_context);
    RETURN p_limit - v_left;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    perdure.write_rows(uuid, text, jsonb, text[], bytea[], timestamptz[], bigint[], text[], text, integer),
    perdure.restore_rows(uuid, text, jsonb, text[], bytea[], bigint[], text[], timestamptz[], timestamptz[],
        timestamptz[], integer),
    perdure.erase_rows(uuid, uuid, bigint, integer),
    perdure.sweep_rows(bigint, integer)
    TO perdure_app;
