-- What is done to a log as a whole: other settings, removing the oldest, clearing, erasing, copying, and sweeping up
-- what is past its lifetime. As append_log, each answers {stale: ...} for what it did not find.

-- Gives a log other settings, making it if there is none: {log: the row}, or {stale: its version, 0 if there is none}.
CREATE FUNCTION perdure.configure_log(
    p_tenant uuid, p_slug text, p_log jsonb, p_settings jsonb, p_if_version bigint, p_audit text, p_patience_ms integer
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
    v_stale bigint;
BEGIN
    LOOP
        SELECT * INTO v_log FROM perdure.logs WHERE tenant_id = p_tenant AND log_id = v_id FOR NO KEY UPDATE;
        v_now := perdure.instant();
        v_live := v_log.log_id IS NOT NULL AND (v_log.ends_at IS NULL OR v_log.ends_at > v_now);
        v_stale := CASE WHEN v_live THEN v_log.version ELSE 0 END;
        EXIT WHEN v_live OR p_if_version <> v_stale;
        v_log := perdure.begin_log(p_tenant, p_slug, p_log, p_settings, v_log, v_now);
        EXIT WHEN v_log.log_id IS NOT NULL;
    END LOOP;
    IF p_if_version <> v_stale THEN
        v_context := perdure.leave_tenant(v_context);
        RETURN jsonb_build_object('stale', v_stale);
    END IF;
    IF v_live THEN
        UPDATE perdure.logs SET version = version + 1, ttl_s = (p_settings ->> 'ttl_s')::bigint,
            expires_at = (p_settings ->> 'expires_at')::timestamptz,
            attributes = decode(p_settings ->> 'attributes', 'hex'),
            ends_at = perdure.log_end(updated_at, (p_settings ->> 'ttl_s')::bigint,
                (p_settings ->> 'expires_at')::timestamptz)
            WHERE tenant_id = p_tenant AND log_id = v_id RETURNING * INTO v_log;
    END IF;
    PERFORM perdure.keep_audit(p_tenant, v_id, p_audit);
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('log', to_jsonb(v_log) - '{container,attributes,user_name}'::text[]);
END
$$;

-- Removes up to p_limit of the oldest entries, numbered below p_before or recorded before p_moment:
-- {removed, more}. The rest is removed by further calls.
CREATE FUNCTION perdure.trim_log(
    p_tenant uuid, p_log uuid, p_before bigint, p_moment timestamptz, p_limit bigint, p_audit text,
    p_patience_ms integer
) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_log perdure.logs;
    v_last bigint;
    v_upto bigint;
    v_removed bigint := 0;
BEGIN
    SELECT * INTO v_log FROM perdure.logs
        WHERE tenant_id = p_tenant AND log_id = p_log AND (ends_at IS NULL OR ends_at > perdure.instant())
        FOR NO KEY UPDATE;
    IF FOUND THEN
        v_last := least(v_log.earliest + p_limit - 1, v_log.sequence);
        v_upto := least(v_last, coalesce(p_before, v_last + 1) - 1);
        IF p_moment IS NOT NULL THEN
            SELECT coalesce(min(entry.sequence) - 1, v_upto) INTO v_upto FROM perdure.log_entries AS entry
                WHERE entry.tenant_id = p_tenant AND entry.log_id = p_log AND entry.epoch = v_log.epoch
                    AND entry.sequence BETWEEN v_log.earliest AND v_upto AND entry.recorded_at >= p_moment;
        END IF;
        v_removed := greatest(v_upto - v_log.earliest + 1, 0);
    END IF;
    IF v_removed > 0 THEN
        DELETE FROM perdure.log_entries
            WHERE tenant_id = p_tenant AND log_id = p_log AND epoch = v_log.epoch
                AND sequence BETWEEN v_log.earliest AND v_upto;
        UPDATE perdure.logs SET earliest = v_upto + 1 WHERE tenant_id = p_tenant AND log_id = p_log;
        PERFORM perdure.keep_audit(p_tenant, p_log, p_audit);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('removed', v_removed, 'more', v_removed = p_limit);
END
$$;

-- Begins a new epoch without entries and with the settings it had; false if there is no log.
CREATE FUNCTION perdure.clear_log(p_tenant uuid, p_log uuid, p_audit text, p_patience_ms integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_log perdure.logs;
    v_now timestamptz;
    v_live boolean;
BEGIN
    SELECT * INTO v_log FROM perdure.logs WHERE tenant_id = p_tenant AND log_id = p_log FOR NO KEY UPDATE;
    v_now := perdure.instant();
    v_live := v_log.log_id IS NOT NULL AND (v_log.ends_at IS NULL OR v_log.ends_at > v_now);
    IF v_live THEN
        PERFORM perdure.discard_epoch(v_log);
        UPDATE perdure.logs SET epoch = greatest(v_log.epoch + 1, perdure.epoch_now()), sequence = 0,
            earliest = 1, updated_at = v_now,
            ends_at = perdure.log_end(v_now, v_log.ttl_s, v_log.expires_at)
            WHERE tenant_id = p_tenant AND log_id = p_log;
        PERFORM perdure.keep_audit(p_tenant, p_log, p_audit);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_live;
END
$$;

-- Removes a log, its name, its audit records and its entries, up to p_limit of the latter two: {erased, more}. With more,
-- further calls remove the rest. The audit records go first: as long as there are any, so is the name, and nothing is
-- forgotten if nobody calls again.
CREATE FUNCTION perdure.erase_log(p_tenant uuid, p_log uuid, p_limit bigint, p_patience_ms integer) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_log perdure.logs;
    v_live boolean;
    v_left bigint := p_limit;
BEGIN
    SELECT * INTO v_log FROM perdure.logs WHERE tenant_id = p_tenant AND log_id = p_log FOR UPDATE;
    v_live := v_log.log_id IS NOT NULL AND (v_log.ends_at IS NULL OR v_log.ends_at > perdure.instant());
    v_left := v_left - perdure.remove_audits(p_tenant, p_log, v_left);
    IF v_left > 0 THEN
        IF v_log.log_id IS NOT NULL THEN
            -- Until its epoch is past, or the next life of this name could have the same. One that was copied from a
            -- machine whose clock is ahead is not waited for.
            PERFORM pg_sleep(least(v_log.epoch - perdure.epoch_now() + 1, 20) / 1000.0)
                WHERE v_log.epoch >= perdure.epoch_now();
            PERFORM perdure.discard_epoch(v_log);
            DELETE FROM perdure.logs WHERE tenant_id = p_tenant AND log_id = p_log;
        END IF;
        v_left := v_left - perdure.remove_remains(p_tenant, p_log, v_left);
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('erased', v_live, 'more', v_left <= 0);
END
$$;

-- Writes a page of another store's log as it is, and makes the log what its head says as far as the pages have come.
-- What was trimmed here stays trimmed. Answers NULL, or the last number that is there if the page would leave a gap.
CREATE FUNCTION perdure.restore_log(
    p_tenant uuid, p_slug text, p_log jsonb, p_head jsonb, p_sequences bigint[], p_ids text[], p_fingerprints text[],
    p_times timestamptz[], p_bodies bytea[], p_patience_ms integer
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_id uuid := (p_log ->> 'id')::uuid;
    v_epoch bigint := (p_head ->> 'epoch')::bigint;
    v_earliest bigint := (p_head ->> 'earliest')::bigint;
    v_updated timestamptz := (p_head ->> 'updated_at')::timestamptz;
    v_ttl_s bigint := (p_head ->> 'ttl_s')::bigint;
    v_expires timestamptz := (p_head ->> 'expires_at')::timestamptz;
    v_log perdure.logs;
    v_last bigint;
BEGIN
    LOOP
        SELECT * INTO v_log FROM perdure.logs WHERE tenant_id = p_tenant AND log_id = v_id FOR NO KEY UPDATE;
        IF v_log.epoch = v_epoch THEN
            v_earliest := greatest(v_earliest, v_log.earliest);
            v_last := greatest(v_log.sequence, v_earliest - 1);
        ELSE
            v_last := v_earliest - 1;
        END IF;
        IF (SELECT min(given) FROM unnest(p_sequences) AS given WHERE given >= v_earliest) > v_last + 1 THEN
            v_context := perdure.leave_tenant(v_context);
            RETURN v_last;
        END IF;
        EXIT WHEN v_log.log_id IS NOT NULL;
        v_log := perdure.begin_log(p_tenant, p_slug, p_log, p_head, NULL, v_updated);
        EXIT WHEN v_log.log_id IS NOT NULL;
    END LOOP;
    IF v_log.epoch <> v_epoch THEN
        PERFORM perdure.discard_epoch(v_log);
    END IF;
    -- What an earlier life of this log left under the same epoch, and what was trimmed since the last page.
    DELETE FROM perdure.log_remains WHERE tenant_id = p_tenant AND log_id = v_id AND epoch = v_epoch;
    DELETE FROM perdure.log_entries
        WHERE tenant_id = p_tenant AND log_id = v_id AND epoch = v_epoch AND sequence < v_earliest;
    DELETE FROM perdure.log_entries
        WHERE tenant_id = p_tenant AND log_id = v_id AND epoch = v_epoch AND sequence > v_last;
    INSERT INTO perdure.log_entries (tenant_id, log_id, epoch, sequence, entry_id, fingerprint, recorded_at, body)
    SELECT p_tenant, v_id, v_epoch, given.sequence, given.entry_id, given.fingerprint, given.recorded_at, given.body
    FROM unnest(p_sequences, p_ids, p_fingerprints, p_times, p_bodies)
        AS given (sequence, entry_id, fingerprint, recorded_at, body)
    WHERE given.sequence >= v_earliest
    ON CONFLICT DO NOTHING;
    UPDATE perdure.logs SET epoch = v_epoch, earliest = v_earliest,
        sequence = greatest(v_last, (SELECT max(given) FROM unnest(p_sequences) AS given)),
        version = (p_head ->> 'version')::bigint, ttl_s = v_ttl_s, expires_at = v_expires,
        attributes = decode(p_head ->> 'attributes', 'hex'), created_at = (p_head ->> 'created_at')::timestamptz,
        updated_at = v_updated, ends_at = perdure.log_end(v_updated, v_ttl_s, v_expires)
        WHERE tenant_id = p_tenant AND log_id = v_id;
    v_context := perdure.leave_tenant(v_context);
    RETURN NULL;
END
$$;

-- Removes up to p_limit logs past their lifetime and about p_entries entries of lives that are over: {removed, more}.
-- One tenant after the other, each within its own context: nobody looks across tenants, not even here.
CREATE FUNCTION perdure.sweep_logs(p_limit bigint, p_entries bigint, p_patience_ms integer) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := coalesce(current_setting('app.current_tenant_id', true), '');
    v_now timestamptz := perdure.instant();
    v_epoch bigint := perdure.epoch_now();
    v_tenant uuid;
    v_log perdure.logs;
    v_logs bigint := p_limit;
    v_entries bigint := p_entries;
BEGIN
    FOR v_tenant IN SELECT tenant_id FROM perdure.tenants ORDER BY tenant_id LOOP
        PERFORM perdure.enter_store(v_tenant, p_patience_ms);
        FOR v_log IN
            SELECT * FROM perdure.logs WHERE tenant_id = v_tenant AND ends_at <= v_now AND epoch < v_epoch
            ORDER BY ends_at LIMIT v_logs FOR UPDATE SKIP LOCKED
        LOOP
            v_entries := v_entries - perdure.discard_epoch(v_log);
            DELETE FROM perdure.logs WHERE tenant_id = v_tenant AND log_id = v_log.log_id;
            v_logs := v_logs - 1;
            EXIT WHEN v_entries <= 0;
        END LOOP;
        v_entries := v_entries - perdure.remove_remains(v_tenant, NULL, v_entries);
        EXIT WHEN v_entries <= 0;
    END LOOP;
    v_context := perdure.leave_tenant(v_context);
    RETURN jsonb_build_object('removed', p_limit - v_logs, 'more', v_entries <= 0);
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    perdure.configure_log(uuid, text, jsonb, jsonb, bigint, text, integer),
    perdure.trim_log(uuid, uuid, bigint, timestamptz, bigint, text, integer),
    perdure.clear_log(uuid, uuid, text, integer),
    perdure.erase_log(uuid, uuid, bigint, integer),
    perdure.restore_log(uuid, text, jsonb, jsonb, bigint[], text[], text[], timestamptz[], bytea[], integer),
    perdure.sweep_logs(bigint, bigint, integer)
    TO perdure_app;
