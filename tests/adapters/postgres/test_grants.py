"""Who may execute what, and that nothing that runs as the owner can be led astray."""

from __future__ import annotations

from perdure.domain import limits
from tests.adapters.postgres.lives import RELATIONS
from tests.support.databases import DIRECT, Database, engines

EVERYBODY = {"perdure_app", "perdure_relay", "perdure_maintenance"}
EXECUTABLE = {
    "add_object_chunks": {"perdure_app"},
    "admit": {"perdure_app"},
    "append_log": {"perdure_app"},
    "beat_work": {"perdure_app"},
    "claim_outbox": {"perdure_relay"},
    "claim_runs": {"perdure_app"},
    "clear_log": {"perdure_app"},
    "commit_change": {"perdure_app"},
    "commit_changes": {"perdure_app"},
    "commit_route": {"perdure_app"},
    "commit_work": {"perdure_app"},
    "configure_log": {"perdure_app"},
    "current_tenant_id": EVERYBODY,
    "current_user_id": EVERYBODY,
    "delete_object": {"perdure_app"},
    "delete_work": {"perdure_app"},
    "end_overdue_waits": {"perdure_relay"},
    "erase_log": {"perdure_app"},
    "erase_rows": {"perdure_app"},
    "extend_outbox": {"perdure_relay"},
    "finish_outbox": {"perdure_relay"},
    "finish_route_events": {"perdure_app"},
    "instant": EVERYBODY,
    "load_work": {"perdure_app"},
    "prune_outbox": {"perdure_relay", "perdure_maintenance"},
    "renew_run_lease": {"perdure_app"},
    "put_object": {"perdure_app"},
    "requeue_outbox": {"perdure_app", "perdure_relay"},
    "restore_log": {"perdure_app"},
    "restore_rows": {"perdure_app"},
    "sweep_logs": {"perdure_app"},
    "sweep_rows": {"perdure_app"},
    "trim_log": {"perdure_app"},
    "write_rows": {"perdure_app"},
    "write_telemetry": {"perdure_app"},
}
WIDTHS = {
    ("runs", "name"): limits.NAME_CHARS_MAX,
    ("steps", "name"): limits.NAME_CHARS_MAX,
    ("steps", "step_key"): limits.KEY_CHARS_MAX,
    ("tool_calls", "call_key"): limits.KEY_CHARS_MAX,
    ("effects", "idempotency_key"): limits.IDEMPOTENCY_KEY_CHARS_MAX,
    ("outbox_events", "idempotency_key"): limits.IDEMPOTENCY_KEY_CHARS_MAX,
    ("orchestration_events", "actor"): limits.ACTOR_CHARS_MAX,
    ("audit_trail", "actor"): limits.ACTOR_CHARS_MAX,
    ("signals", "ingested_by"): limits.ACTOR_CHARS_MAX,
    ("orchestration_events", "source"): limits.SOURCE_CHARS_MAX,
    ("signals", "source_channel"): limits.CHANNEL_CHARS_MAX,
    ("signals", "source_id"): limits.SOURCE_ID_CHARS_MAX,
    ("entity_references", "entity_type"): limits.ENTITY_TYPE_CHARS_MAX,
    ("entity_references", "entity_id"): limits.ENTITY_ID_CHARS_MAX,
    ("runs", "exit_reason"): limits.EXIT_REASON_CHARS_MAX,
    ("tool_calls", "tool_name"): limits.TOOL_NAME_CHARS_MAX,
    ("tool_calls", "tool_version"): limits.VERSION_CHARS_MAX,
    ("steps", "specialist_id"): limits.SPECIALIST_CHARS_MAX,
    ("runs", "orchestrator_version"): limits.VERSION_CHARS_MAX,
    ("runs", "locked_by"): limits.WORKER_CHARS_MAX,
    ("outbox_events", "locked_by"): limits.WORKER_CHARS_MAX,
    ("audit_trail", "action"): limits.ACTION_CHARS_MAX,
    ("tenants", "slug"): limits.TENANT_CHARS_MAX,
    ("plane_settings", "env"): limits.ENV_CHARS_MAX,
}


@engines(*DIRECT)
def test_each_role_executes_what_it_needs_and_everybody_else_nothing(database: Database) -> None:
    rows = database.query("""
        SELECT proname::text, coalesce(array_agg(rolname::text) FILTER (WHERE rolname <> 'perdure_owner'), '{}')
        FROM pg_proc CROSS JOIN pg_roles
        WHERE pronamespace = 'perdure'::regnamespace AND NOT rolsuper
            AND has_function_privilege(pg_roles.oid, pg_proc.oid, 'EXECUTE')
        GROUP BY pg_proc.oid""")
    assert {name: set(roles) for name, roles in rows if roles} == EXECUTABLE
    public = "SELECT oid::regprocedure FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS granted"
    assert database.query(f"{public} WHERE pronamespace = 'perdure'::regnamespace AND grantee = 0") == []


@engines(*DIRECT)
def test_what_runs_as_the_owner_fixes_where_it_looks_and_is_owned_by_a_role_under_row_security(
    database: Database,
) -> None:
    rows = database.query("""
        SELECT proname::text, prosecdef, proconfig, proowner::regrole::text FROM pg_proc
        WHERE pronamespace = 'perdure'::regnamespace""")
    assert {owner for *_, owner in rows} == {"perdure_owner"}
    definers = {name: set(settings or ()) for name, definer, settings, _ in rows if definer}
    assert set(EXECUTABLE) - {"current_tenant_id", "current_user_id", "instant"} <= set(definers)
    for name, settings in definers.items():
        assert {"search_path=pg_catalog, pg_temp", "enable_seqscan=off"} <= settings, name
    privileged = (
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'perdure%' AND (rolsuper OR rolbypassrls OR rolcreaterole)"
    )
    assert database.query(privileged) == []


def test_a_function_of_ours_is_not_led_astray_by_a_schema_of_somebody_else(database: Database) -> None:
    tables = "|".join(name for (name,) in database.query(RELATIONS))
    bare = rf"(FROM|JOIN|UPDATE|INTO)\s+({tables})\y"
    named = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'perdure'::regnamespace AND prosrc ~ %s"
    assert database.query(named, bare) == []
    assert (
        database.query(named, bare.replace("(FROM", "(FROM perdure.|FROM").replace(r"\s+(", r"\s*(perdure[.])(")) != []
    )


@engines(*DIRECT)
def test_the_roles_may_not_make_anything(database: Database) -> None:
    for role in (*EVERYBODY, "public"):
        for schema in ("perdure", "public"):
            (row,) = database.query("SELECT has_schema_privilege(%s, %s, 'CREATE')", role, schema)
            assert row == (False,), (role, schema)


def test_the_limits_are_as_wide_as_the_columns_that_keep_them(database: Database) -> None:
    widths = {
        (table, column): width
        for table, column, width in database.query("""
            SELECT table_name::text, column_name::text, character_maximum_length::integer
            FROM information_schema.columns WHERE table_schema = 'perdure'""")
    }
    assert {place: widths[place] for place in WIDTHS} == WIDTHS
    (check,) = database.query(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'ck_run_checkpoints_size'"
    )
    assert str(limits.CHECKPOINT_BYTES_MAX) in check[0]
