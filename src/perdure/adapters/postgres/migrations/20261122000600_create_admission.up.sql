-- Who may use a store, wherever its data is kept: the same answer as for the ledger's own writes.

-- Returns if the tenant is known (in lab it is made on first use) and the user, if one is named, is its member.
CREATE FUNCTION perdure.admit(p_tenant uuid, p_slug text, p_user uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    v_context text := perdure.enter_tenant(p_tenant, p_user);
BEGIN
    PERFORM perdure.require_tenant(p_tenant, p_slug);
    v_context := perdure.leave_tenant(v_context);
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA perdure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION perdure.admit(uuid, text, uuid) TO perdure_app;
