-- What turns put beside what a user put is the user's: the media type of turns never takes the place of another, so that
-- a collector of what turns left behind sees whose an object is.

-- Puts an object with its first chunks; when it was put. Who has more of them adds them in the same transaction. Of puts
-- of the same object at the same time one waits for the other.
CREATE OR REPLACE FUNCTION perdure.put_object(
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
        media_type = CASE WHEN excluded.media_type = 'application/vnd.perdure.turns' THEN kept.media_type
            ELSE excluded.media_type END,
        created_at = perdure.instant()
    RETURNING created_at INTO v_created_at;
    PERFORM perdure.keep_object_chunks(p_tenant, p_space, p_digest, 0, p_chunks);
    v_context := perdure.leave_tenant(v_context);
    RETURN v_created_at;
END
$$;
