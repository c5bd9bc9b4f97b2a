-- The four roles of a ledger, and the owner's right to make its schema. Safe to run again, by a superuser or by a role
-- with CREATEROLE that owns the database. Roles belong to the whole cluster: another database may have made them.
DO $roles$
DECLARE
    role_name text;
    may_become_owner boolean;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['perdure_owner', 'perdure_app', 'perdure_relay', 'perdure_maintenance'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS',
                    role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster is being prepared at the same moment
            END;
        END IF;
        IF EXISTS (SELECT FROM pg_catalog.pg_roles
                   WHERE rolname = role_name AND (rolsuper OR rolbypassrls)) THEN
            RAISE EXCEPTION 'role % bypasses row-level security; run: ALTER ROLE % NOSUPERUSER NOBYPASSRLS',
                role_name, role_name USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
    END LOOP;

    -- For people with psql: tables are found by their names, and no session blocks others for long. The library itself
    -- relies on none of this.
    FOREACH role_name IN ARRAY ARRAY['perdure_owner', 'perdure_app', 'perdure_relay', 'perdure_maintenance'] LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = perdure, public', role_name, current_database());
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET idle_in_transaction_session_timeout = ''60s''',
            role_name, current_database());
    END LOOP;
    FOREACH role_name IN ARRAY ARRAY['perdure_app', 'perdure_relay'] LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = ''30s''', role_name, current_database());
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET lock_timeout = ''10s''', role_name, current_database());
    END LOOP;

    -- Until 15 membership is enough to become a role; since 16 it takes the SET option.
    IF current_setting('server_version_num')::integer >= 160000 THEN
        may_become_owner := pg_has_role(current_user, 'perdure_owner', 'SET');
    ELSE
        may_become_owner := pg_has_role(current_user, 'perdure_owner', 'MEMBER');
    END IF;
    IF NOT may_become_owner THEN
        BEGIN
            EXECUTE format('GRANT perdure_owner TO %I', current_user);
        EXCEPTION WHEN unique_violation THEN
            NULL; -- granted at the same moment by another runner of this user
        END;
    END IF;

    IF NOT has_database_privilege('perdure_owner', current_database(), 'CREATE') THEN
        EXECUTE format('GRANT CREATE ON DATABASE %I TO perdure_owner', current_database());
    END IF;
END
$roles$;
