-- Objects: bytes under the hash of their content, in chunks. Each is below one tenant and one space, so that the same
-- bytes of two tenants are two objects and no put says whether somebody else keeps them. The bytes of an object never
-- change: a put of what is there renews its time, and replaces a chunk only if that is not what was put.
--
-- A space is known by 128 bits of a hash of its name, as containers are. Nobody asks for chunks but by their object, so
-- their key is the only index.

CREATE TABLE perdure.object_spaces (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    space text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_object_spaces_tenants FOREIGN KEY (tenant_id) REFERENCES perdure.tenants (tenant_id)
);
ALTER TABLE perdure.object_spaces ADD CONSTRAINT pk_object_spaces PRIMARY KEY (tenant_id, space_id);

CREATE TABLE perdure.objects (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    digest bytea NOT NULL,
    size_bytes bigint NOT NULL,
    media_type text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT ck_objects_digest CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_objects_size CHECK (size_bytes >= 0),
    CONSTRAINT fk_objects_spaces FOREIGN KEY (tenant_id, space_id)
        REFERENCES perdure.object_spaces (tenant_id, space_id)
);
ALTER TABLE perdure.objects ADD CONSTRAINT pk_objects PRIMARY KEY (tenant_id, space_id, digest);

CREATE TABLE perdure.object_chunks (
    tenant_id uuid NOT NULL,
    space_id uuid NOT NULL,
    digest bytea NOT NULL,
    chunk_no integer NOT NULL,
    data bytea NOT NULL,
    CONSTRAINT fk_object_chunks_objects FOREIGN KEY (tenant_id, space_id, digest)
        REFERENCES perdure.objects (tenant_id, space_id, digest)
);
ALTER TABLE perdure.object_chunks
    ADD CONSTRAINT pk_object_chunks PRIMARY KEY (tenant_id, space_id, digest, chunk_no);
-- A damaged chunk is removed and put again; none is ever changed.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON perdure.object_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION perdure.refuse_record_change();

DO $policies$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['object_spaces', 'objects', 'object_chunks'] LOOP
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

-- Keeps these chunks of an object, which the caller holds locked, from number p_first on.
CREATE FUNCTION perdure.keep_object_chunks(
    p_tenant uuid, p_space uuid, p_digest bytea, p_first integer, p_chunks bytea[]
) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_place integer;
BEGIN
    -- One look-up a chunk: without statistics a join would rather read all chunks of the tenant.
    FOR v_place IN SELECT generate_subscripts(p_chunks, 1) LOOP
        DELETE FROM perdure.object_chunks
            WHERE tenant_id = p_tenant AND space_id = p_space AND digest = p_digest
                AND chunk_no = p_first + v_place - 1 AND data <> p_chunks[v_place];
        INSERT INTO perdure.object_chunks (tenant_id, space_id, digest, chunk_no, data)
        VALUES (p_tenant, p_space, p_digest, p_first + v_place - 1, p_chunks[v_place]) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- Puts an object with its first chunks; when it was put. Who has more of them adds them in the same transaction. Of puts
-- of the same object at the same time one waits for the other.
CREATE FUNCTION perdure.put_object(
    p_tenant uuid, p_slug text, p_space uuid, p_name text, p_digest bytea, p_size_bytes bigint, p_media_type text,
    p_chunks bytea[], p_patience_ms integer
) RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_created_at timestamptz;
BEGIN
    PERFORM FROM perdure.object_spaces WHERE tenant_id = p_tenant AND space_id = p_space;
    IF NOT FOUND THEN
        PERFORM perdure.require_tenant(p_tenant, p_slug);
        INSERT INTO perdure.object_spaces (tenant_id, space_id, space) VALUES (p_tenant, p_space, p_name)
            ON CONFLICT DO NOTHING;
    END IF;
    INSERT INTO perdure.objects AS kept (tenant_id, space_id, digest, size_bytes, media_type, created_at)
    VALUES (p_tenant, p_space, p_digest, p_size_bytes, p_media_type, perdure.instant())
    ON CONFLICT (tenant_id, space_id, digest) DO UPDATE SET size_bytes = excluded.size_bytes,
        media_type = excluded.media_type, created_at = perdure.instant()
    RETURNING created_at INTO v_created_at;
    PERFORM perdure.keep_object_chunks(p_tenant, p_space, p_digest, 0, p_chunks);
    v_context := perdure.leave_tenant(v_context);
    RETURN v_created_at;
END
$$;

-- Adds chunks to an object, in the transaction that put it and so holds it locked.
CREATE FUNCTION perdure.add_object_chunks(
    p_tenant uuid, p_space uuid, p_digest bytea, p_first integer, p_chunks bytea[], p_patience_ms integer
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
BEGIN
    PERFORM perdure.keep_object_chunks(p_tenant, p_space, p_digest, p_first, p_chunks);
    v_context := perdure.leave_tenant(v_context);
END
$$;

-- Removes an object, unless it was put last at p_before or after it; whether it was removed. A put that waits for this
-- one keeps it anew.
CREATE FUNCTION perdure.delete_object(
    p_tenant uuid, p_space uuid, p_digest bytea, p_before timestamptz, p_patience_ms integer
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_store(p_tenant, p_patience_ms);
    v_removed boolean;
BEGIN
    PERFORM FROM perdure.objects
        WHERE tenant_id = p_tenant AND space_id = p_space AND digest = p_digest
            AND (p_before IS NULL OR created_at < p_before)
        FOR UPDATE;
    v_removed := FOUND;
    IF v_removed THEN
        DELETE FROM perdure.object_chunks WHERE tenant_id = p_tenant AND space_id = p_space AND digest = p_digest;
        DELETE FROM perdure.objects WHERE tenant_id = p_tenant AND space_id = p_space AND digest = p_digest;
    END IF;
    v_context := perdure.leave_tenant(v_context);
    RETURN v_removed;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    perdure.put_object(uuid, text, uuid, text, bytea, bigint, text, bytea[], integer),
    perdure.add_object_chunks(uuid, uuid, bytea, integer, bytea[], integer),
    perdure.delete_object(uuid, uuid, bytea, timestamptz, integer)
    TO perdure_app;
