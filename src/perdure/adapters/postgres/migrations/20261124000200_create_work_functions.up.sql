-- How units of work are written: one call a save. Whoever calls has read and hashed; here versions are compared and
-- everything is kept together.

-- A unit as the library reads it: what its row holds, without the keys that come from the scope.
CREATE FUNCTION perdure.work_json(p_unit perdure.work_units) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$SELECT to_jsonb(p_unit) - 'tenant_id' - 'space_id'$$;

-- A unit with the newest version of each attribute: {unit, attributes}, or NULL.
CREATE FUNCTION perdure.load_work(p_tenant uuid, p_space uuid, p_unit uuid) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_tenant(p_tenant, NULL);
    v_result jsonb;
BEGIN
    SELECT jsonb_build_object('unit', perdure.work_json(unit), 'attributes', coalesce((
            SELECT jsonb_agg(to_jsonb(newest) - 'tenant_id' - 'space_id' - 'unit_id')
            FROM (
                SELECT DISTINCT ON (kept.key) kept.* FROM perdure.work_attributes AS kept
                WHERE kept.tenant_id = p_tenant AND kept.space_id = p_space AND kept.unit_id = p_unit
                ORDER BY kept.key, kept.version DESC
            ) AS newest), '[]'))
        INTO v_result
    FROM perdure.work_units AS unit
    WHERE unit.tenant_id = p_tenant AND unit.space_id = p_space AND unit.unit_id = p_unit;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

-- Whether the history or the attributes of a unit, which the caller holds locked, have something with a number that is
-- about to be given: then somebody wrote past the library.
CREATE FUNCTION perdure.work_numbers_taken(
    p_tenant uuid, p_space uuid, p_unit uuid, p_entries jsonb, p_attributes jsonb
) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- LIMIT keeps each number a look-up of its own, whatever the planner takes the unit for.
    RETURN EXISTS (
        SELECT FROM jsonb_array_elements(p_entries) AS entry
        CROSS JOIN LATERAL (
            SELECT FROM perdure.work_history AS kept
            WHERE kept.tenant_id = p_tenant AND kept.space_id = p_space AND kept.unit_id = p_unit
                AND kept.sequence = (entry ->> 'sequence')::bigint
            LIMIT 1) AS found
    ) OR EXISTS (
        SELECT FROM jsonb_array_elements(p_attributes) AS given (attribute)
        CROSS JOIN LATERAL (
            SELECT FROM perdure.work_attributes AS kept
            WHERE kept.tenant_id = p_tenant AND kept.space_id = p_space AND kept.unit_id = p_unit
                AND kept.key = attribute ->> 'key' AND kept.version = (attribute ->> 'version')::bigint
            LIMIT 1) AS found
    );
END
$$;

CREATE FUNCTION perdure.add_work_entries(p_tenant uuid, p_space uuid, p_unit uuid, p_entries jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO perdure.work_history
    SELECT given.* FROM jsonb_array_elements(p_entries) AS entry
    CROSS JOIN LATERAL jsonb_populate_record(NULL::perdure.work_history,
        entry || jsonb_build_object('tenant_id', p_tenant, 'space_id', p_space, 'unit_id', p_unit)) AS given;
END
$$;

-- Tells a parent of its child.
CREATE FUNCTION perdure.step_work_parent(p_tenant uuid, p_space uuid, p_parent uuid, p_step text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE perdure.work_units
        SET child_count = child_count + CASE p_step WHEN 'adopt' THEN 1 ELSE 0 END,
            finished_child_count = finished_child_count
                + CASE p_step WHEN 'finish' THEN 1 WHEN 'reopen' THEN -1 ELSE 0 END
        WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_parent;
    -- A parent that was deleted meanwhile has nobody to count for; a new child needs one.
    IF NOT FOUND AND p_step = 'adopt' THEN
        RAISE EXCEPTION 'there is no unit of work % to be the parent', p_parent USING ERRCODE = 'PD010';
    END IF;
END
$$;

-- Keeps a save: p_write is {unit, entries, attributes, expected_beats, request_id, fingerprint, parent_step}. The answer
-- is {version, beats, heartbeat_at, child_count, finished_child_count}, {replayed: true} for a request done before,
-- {reused: true} for another one of that id, or {stale: the version found}; nothing is written then.
CREATE FUNCTION perdure.commit_work(
    p_tenant uuid, p_slug text, p_space uuid, p_container uuid, p_write jsonb, p_audit text, p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_id uuid := (p_write -> 'unit' ->> 'unit_id')::uuid;
    v_old perdure.work_units;
    v_new perdure.work_units;
    v_fingerprint text;
    v_result jsonb;
BEGIN
    v_new := jsonb_populate_record(NULL::perdure.work_units,
        (p_write -> 'unit') || jsonb_build_object('tenant_id', p_tenant, 'space_id', p_space));
    SELECT * INTO v_old FROM perdure.work_units
        WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = v_id FOR UPDATE;
    IF p_write ->> 'request_id' IS NOT NULL THEN
        SELECT fingerprint INTO v_fingerprint FROM perdure.work_requests
            WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = v_id
                AND request_id = p_write ->> 'request_id';
        IF FOUND THEN
            v_result := CASE WHEN v_fingerprint = p_write ->> 'fingerprint' THEN '{"replayed": true}'
                ELSE '{"reused": true}' END;
        END IF;
    END IF;
    IF v_result IS NULL AND (v_new.version <> coalesce(v_old.version, 0) + 1
            OR v_old.beats <> (p_write ->> 'expected_beats')::bigint
            OR perdure.work_numbers_taken(p_tenant, p_space, v_id, p_write -> 'entries', p_write -> 'attributes')) THEN
        v_result := jsonb_build_object('stale', coalesce(v_old.version, 0));
    END IF;
    IF v_result IS NULL THEN
        IF v_old.unit_id IS NULL THEN
            PERFORM perdure.require_tenant(p_tenant, p_slug);
        END IF;
        -- Before the unit, whose guard looks for waivers among them.
        PERFORM perdure.add_work_entries(p_tenant, p_space, v_id, p_write -> 'entries');
        v_new := perdure.put_work_unit(v_old, v_new);
        INSERT INTO perdure.work_attributes
        SELECT given.* FROM jsonb_array_elements(p_write -> 'attributes') AS version
        CROSS JOIN LATERAL jsonb_populate_record(NULL::perdure.work_attributes,
            version || jsonb_build_object('tenant_id', p_tenant, 'space_id', p_space, 'unit_id', v_id)) AS given;
        IF p_write ->> 'request_id' IS NOT NULL THEN
            INSERT INTO perdure.work_requests (tenant_id, space_id, unit_id, request_id, fingerprint)
            VALUES (p_tenant, p_space, v_id, p_write ->> 'request_id', p_write ->> 'fingerprint');
        END IF;
        IF v_new.parent_id IS NOT NULL AND p_write ->> 'parent_step' IS NOT NULL THEN
            PERFORM perdure.step_work_parent(p_tenant, p_space, v_new.parent_id, p_write ->> 'parent_step');
        END IF;
        PERFORM perdure.keep_audit(p_tenant, p_container, p_audit);
        v_result := jsonb_build_object('version', v_new.version, 'beats', v_new.beats, 'heartbeat_at',
            v_new.heartbeat_at, 'child_count', v_new.child_count, 'finished_child_count', v_new.finished_child_count);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

-- Writes a unit over the one that the caller holds locked, or makes it. Heartbeats that came since it was read stay,
-- unless the save ends them, and so do counts of children.
CREATE FUNCTION perdure.put_work_unit(p_old perdure.work_units, p_new perdure.work_units) RETURNS perdure.work_units
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_new perdure.work_units := p_new;
BEGIN
    IF p_old.unit_id IS NULL THEN
        INSERT INTO perdure.work_units VALUES (v_new.*) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the unit was made by somebody else meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN v_new;
    END IF;
    v_new.beats := greatest(p_old.beats, p_new.beats);
    v_new.heartbeat_at := CASE WHEN p_new.heartbeat_at IS NULL THEN NULL
        ELSE greatest(p_old.heartbeat_at, p_new.heartbeat_at) END;
    v_new.child_count := p_old.child_count;
    v_new.finished_child_count := p_old.finished_child_count;
    UPDATE perdure.work_units SET
            instance_id = v_new.instance_id, schema = v_new.schema, status = v_new.status, version = v_new.version,
            created_at = v_new.created_at, updated_at = v_new.updated_at, history_sequence = v_new.history_sequence,
            history_hash = v_new.history_hash, content_hash = v_new.content_hash, hash_scheme = v_new.hash_scheme,
            target = v_new.target, interaction_id = v_new.interaction_id, actor_id = v_new.actor_id,
            role_id = v_new.role_id, parent_id = v_new.parent_id, lease_owner = v_new.lease_owner,
            heartbeat_at = v_new.heartbeat_at, beats = v_new.beats, interaction_count = v_new.interaction_count,
            interactions_max = v_new.interactions_max, retry_count = v_new.retry_count
        WHERE tenant_id = v_new.tenant_id AND space_id = v_new.space_id AND unit_id = v_new.unit_id;
    RETURN v_new;
END
$$;

-- A heartbeat of the lease's owner: the unit, {stale: its version} if it is not ACTIVE or another's, or NULL.
CREATE FUNCTION perdure.beat_work(
    p_tenant uuid, p_space uuid, p_unit uuid, p_owner text, p_now timestamptz, p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_unit perdure.work_units;
    v_result jsonb;
BEGIN
    UPDATE perdure.work_units SET beats = beats + 1, heartbeat_at = greatest(heartbeat_at, p_now)
        WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_unit AND status = 'ACTIVE'
            AND lease_owner = p_owner
        RETURNING * INTO v_unit;
    IF FOUND THEN
        v_result := perdure.work_json(v_unit);
    ELSE
        SELECT jsonb_build_object('stale', version) INTO v_result FROM perdure.work_units
            WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_unit;
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

-- Removes a unit with its attributes, and ends its history by p_entries; {stale} as commit_work, or {deleted: true}.
CREATE FUNCTION perdure.delete_work(
    p_tenant uuid, p_space uuid, p_container uuid, p_unit uuid, p_version bigint, p_entries jsonb, p_audit text,
    p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_found bigint;
    v_result jsonb := '{"deleted": true}';
BEGIN
    SELECT version INTO v_found FROM perdure.work_units
        WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_unit FOR UPDATE;
    IF v_found IS DISTINCT FROM p_version
            OR perdure.work_numbers_taken(p_tenant, p_space, p_unit, p_entries, '[]') THEN
        v_result := jsonb_build_object('stale', coalesce(v_found, 0));
    ELSE
        PERFORM perdure.add_work_entries(p_tenant, p_space, p_unit, p_entries);
        DELETE FROM perdure.work_attributes WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_unit;
        DELETE FROM perdure.work_requests WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_unit;
        DELETE FROM perdure.work_units WHERE tenant_id = p_tenant AND space_id = p_space AND unit_id = p_unit;
        PERFORM perdure.keep_audit(p_tenant, p_container, p_audit);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    perdure.load_work(uuid, uuid, uuid),
    perdure.commit_work(uuid, text, uuid, uuid, jsonb, text, integer),
    perdure.beat_work(uuid, uuid, uuid, text, timestamptz, integer),
    perdure.delete_work(uuid, uuid, uuid, uuid, bigint, jsonb, text, integer)
    TO perdure_app;
