-- Writing logs: each call of the library is one call of one function here, and one transaction.
--
-- What is refused for what was found (another version, another content under an id) is answered, not raised: nothing
-- was written then. p_log is {id, kind, container, user}: the name as the library spells it and the hash of it.
-- p_patience_ms is how long the caller still waits, and so how long a row lock may be waited for.

-- Opens the tenant for a call that is to wait no longer than that for a lock; returns the context to leave behind.
CREATE FUNCTION perdure.enter_store(p_tenant uuid, p_patience_ms integer) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM set_config('lock_timeout', greatest(p_patience_ms, 1) || 'ms', true);
    RETURN perdure.enter_tenant(p_tenant, NULL);
END
$$;

-- Whoever makes the first row of a name asks here; what exists already is of a known tenant.
CREATE FUNCTION perdure.require_tenant(p_tenant uuid, p_slug text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM perdure.tenants WHERE tenant_id = p_tenant;
    IF NOT FOUND THEN
        PERFORM perdure.admit_tenant(p_tenant, p_slug);
    END IF;
END
$$;

-- Keeps an audit record in the commit that it describes; the same one again is kept once.
CREATE FUNCTION perdure.keep_audit(p_tenant uuid, p_container uuid, p_audit text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF p_audit IS NOT NULL THEN
        INSERT INTO perdure.store_audit (tenant_id, container_id, audit_id, record)
        VALUES (p_tenant, p_container, (p_audit::jsonb ->> 'audit_id')::uuid, p_audit) ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- Removes up to p_limit audit records of a container that is erased, oldest first; returns how many.
CREATE FUNCTION perdure.remove_audits(p_tenant uuid, p_container uuid, p_limit bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_ids uuid[] := ARRAY(SELECT audit_id FROM perdure.store_audit
        WHERE tenant_id = p_tenant AND container_id = p_container ORDER BY audit_id LIMIT p_limit);
BEGIN
    DELETE FROM perdure.store_audit
        WHERE tenant_id = p_tenant AND container_id = p_container AND audit_id >= v_ids[1]
            AND audit_id <= v_ids[cardinality(v_ids)];
    RETURN cardinality(v_ids);
END
$$;

-- When a log is over: at its absolute end, or when it was not touched for its lifetime.
CREATE FUNCTION perdure.log_end(p_touched timestamptz, p_ttl_s bigint, p_expires timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE
    AS $$SELECT least(p_expires, p_touched + p_ttl_s * interval '1 second')$$;

-- Removes the entries of a life of a log that is over: at once if they are few, or else by later sweeps. Returns how many
-- it removed at once.
CREATE FUNCTION perdure.discard_epoch(p_log perdure.logs) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_removed bigint := 0;
BEGIN
    IF p_log.sequence - p_log.earliest >= 2000 THEN
        INSERT INTO perdure.log_remains (tenant_id, log_id, epoch, earliest, sequence)
        VALUES (p_log.tenant_id, p_log.log_id, p_log.epoch, p_log.earliest, p_log.sequence) ON CONFLICT DO NOTHING;
    ELSIF p_log.sequence >= p_log.earliest THEN
        DELETE FROM perdure.log_entries
            WHERE tenant_id = p_log.tenant_id AND log_id = p_log.log_id AND epoch = p_log.epoch
                AND sequence BETWEEN p_log.earliest AND p_log.sequence;
        v_removed := p_log.sequence - p_log.earliest + 1;
    END IF;
    RETURN v_removed;
END
$$;

-- Removes up to p_limit entries of ended lives, of one log or of all of the tenant; returns how many.
CREATE FUNCTION perdure.remove_remains(p_tenant uuid, p_log uuid, p_limit bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_rest perdure.log_remains;
    v_left bigint := p_limit;
    v_upto bigint;
BEGIN
    WHILE v_left > 0 LOOP
        SELECT * INTO v_rest FROM perdure.log_remains
            WHERE tenant_id = p_tenant AND (p_log IS NULL OR log_id = p_log) LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        v_upto := least(v_rest.sequence, v_rest.earliest + v_left - 1);
        DELETE FROM perdure.log_entries
            WHERE tenant_id = p_tenant AND log_id = v_rest.log_id AND epoch = v_rest.epoch
                AND sequence BETWEEN v_rest.earliest AND v_upto;
        v_left := v_left - (v_upto - v_rest.earliest + 1);
        IF v_upto < v_rest.sequence THEN
            UPDATE perdure.log_remains SET earliest = v_upto + 1, updated_at = now()
                WHERE tenant_id = p_tenant AND log_id = v_rest.log_id AND epoch = v_rest.epoch;
        ELSE
            DELETE FROM perdure.log_remains
                WHERE tenant_id = p_tenant AND log_id = v_rest.log_id AND epoch = v_rest.epoch;
        END IF;
    END LOOP;
    RETURN p_limit - v_left;
END
$$;

-- The epoch of a life that begins now: the time in milliseconds.
CREATE FUNCTION perdure.epoch_now() RETURNS bigint
    LANGUAGE sql VOLATILE
    AS $$SELECT floor(extract(epoch FROM perdure.instant()) * 1000)::bigint$$;

-- Makes a log, or begins the next life of one that is over and that the caller has locked. No row if somebody else made
-- it meanwhile. Its epoch is more than any before under this name: nobody removes a log before its epoch is past.
CREATE FUNCTION perdure.begin_log(
    p_tenant uuid, p_slug text, p_log jsonb, p_settings jsonb, p_old perdure.logs, p_now timestamptz
) RETURNS perdure.logs
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_log perdure.logs;
    v_ttl_s bigint := (p_settings ->> 'ttl_s')::bigint;
    v_expires timestamptz := (p_settings ->> 'expires_at')::timestamptz;
    v_attributes bytea := coalesce(decode(p_settings ->> 'attributes', 'hex'), '{}');
BEGIN
    IF p_old.log_id IS NOT NULL THEN
        PERFORM perdure.discard_epoch(p_old);
        UPDATE perdure.logs SET epoch = greatest(p_old.epoch + 1, perdure.epoch_now()), sequence = 0, earliest = 1, version = 1,
            ttl_s = v_ttl_s, expires_at = v_expires, ends_at = perdure.log_end(p_now, v_ttl_s, v_expires),
            attributes = v_attributes, created_at = p_now, updated_at = p_now
            WHERE tenant_id = p_tenant AND log_id = p_old.log_id RETURNING * INTO v_log;
        RETURN v_log;
    END IF;
    PERFORM perdure.require_tenant(p_tenant, p_slug);
    INSERT INTO perdure.logs (tenant_id, log_id, kind, container, user_name, epoch, sequence, earliest, version, ttl_s,
        expires_at, ends_at, attributes, created_at, updated_at)
    VALUES (p_tenant, (p_log ->> 'id')::uuid, p_log ->> 'kind', p_log ->> 'container', p_log ->> 'user', 0, 0, 1,
        1, v_ttl_s, v_expires, perdure.log_end(p_now, v_ttl_s, v_expires), v_attributes, p_now, p_now)
    ON CONFLICT DO NOTHING RETURNING * INTO v_log;
    IF FOUND THEN
        -- Only now nobody else can make and remove one: the row had perhaps to wait for somebody who did.
        UPDATE perdure.logs SET epoch = perdure.epoch_now() WHERE tenant_id = p_tenant AND log_id = v_log.log_id
            RETURNING * INTO v_log;
    END IF;
    RETURN v_log;
END
$$;

-- Appends under the next numbers: {epoch, sequence, known}: the last number given before, and the numbers of those ids
-- that were there; or {reused: id}; or {stale: sequence}. The log's row is locked from here to the commit, which makes
-- the numbers dense and visible in order.
CREATE FUNCTION perdure.append_log(
    p_tenant uuid, p_slug text, p_log jsonb, p_ids text[], p_fingerprints text[], p_bodies bytea[], p_expected bigint,
    p_settings jsonb, p_audit text, p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_id uuid := (p_log ->> 'id')::uuid;
    v_log perdure.logs;
    v_now timestamptz;
    v_live boolean;
    v_known jsonb := '{}';
    v_reused text;
    v_fresh bigint := cardinality(p_ids);
    v_result jsonb;
BEGIN
    LOOP
        SELECT * INTO v_log FROM perdure.logs WHERE tenant_id = p_tenant AND log_id = v_id FOR NO KEY UPDATE;
        v_now := perdure.instant();
        v_live := v_log.log_id IS NOT NULL AND (v_log.ends_at IS NULL OR v_log.ends_at > v_now);
        IF v_live THEN
            -- LIMIT keeps each id a look-up of its own: without statistics the planner would rather read the whole log.
            SELECT coalesce(jsonb_object_agg(kept.entry_id, kept.sequence), '{}'),
                min(kept.entry_id) FILTER (WHERE kept.fingerprint <> given.fingerprint), v_fresh - count(*)
                INTO v_known, v_reused, v_fresh
            FROM unnest(p_ids, p_fingerprints) AS given (entry_id, fingerprint)
            CROSS JOIN LATERAL (
                SELECT entry.entry_id, entry.sequence, entry.fingerprint FROM perdure.log_entries AS entry
                WHERE entry.tenant_id = p_tenant AND entry.log_id = v_id AND entry.epoch = v_log.epoch
                    AND entry.entry_id = given.entry_id
                LIMIT 1) AS kept;
        END IF;
        v_result := CASE
            WHEN v_reused IS NOT NULL THEN jsonb_build_object('reused', v_reused)
            WHEN v_fresh > 0 AND p_expected <> CASE WHEN v_live THEN v_log.sequence ELSE 0 END
                THEN jsonb_build_object('stale', CASE WHEN v_live THEN v_log.sequence ELSE 0 END)
            WHEN v_fresh = 0
                THEN jsonb_build_object('epoch', v_log.epoch, 'sequence', v_log.sequence, 'known', v_known)
        END;
        EXIT WHEN v_live OR v_result IS NOT NULL;
        v_log := perdure.begin_log(p_tenant, p_slug, p_log, p_settings, v_log, v_now);
        EXIT WHEN v_log.log_id IS NOT NULL;
    END LOOP;
    IF v_result IS NULL THEN
        -- Times of a log do not go back, so that what was recorded before a moment is what came before.
        v_now := greatest(v_now, v_log.updated_at);
        INSERT INTO perdure.log_entries (tenant_id, log_id, epoch, sequence, entry_id, fingerprint, recorded_at, body)
        SELECT p_tenant, v_id, v_log.epoch, v_log.sequence + row_number() OVER (ORDER BY given.place), given.entry_id,
            given.fingerprint, v_now, given.body
        FROM unnest(p_ids, p_fingerprints, p_bodies) WITH ORDINALITY AS given (entry_id, fingerprint, body, place)
        WHERE NOT v_known ? given.entry_id;
        UPDATE perdure.logs SET sequence = v_log.sequence + v_fresh, updated_at = v_now,
            ends_at = perdure.log_end(v_now, v_log.ttl_s, v_log.expires_at)
            WHERE tenant_id = p_tenant AND log_id = v_id;
        PERFORM perdure.keep_audit(p_tenant, v_id, p_audit);
        v_result := jsonb_build_object('epoch', v_log.epoch, 'sequence', v_log.sequence, 'known', v_known);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_result;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.append_log(uuid, text, jsonb, text[], text[], bytea[], bigint, jsonb, text, integer)
    TO perdure_app;
