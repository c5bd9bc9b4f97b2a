"""Every read of the routed stores is on an index and reads about as much as it gives, with statistics and without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

import pytest

from perdure.adapters.postgres.containers import OfPlane
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.container import make_space, stream_container
from perdure.domain.ids import tenant_uuid
from perdure.testing.contracts.rows_opening import table
from tests.adapters.test_query_plans import nodes_of
from tests.support.databases import DIRECT, Database, engines

MANY: Final = 20_000
ROWS_MAX: Final = 300  # for pages of 10; a scan of a container would read MANY
OF_USER_MAX: Final = 2 * MANY // 50  # without statistics a user's own are all read, and sorted
TENANT: Final = tenant_uuid("t_acme")
SYSTEM: Final = tenant_uuid("t_system")
SPACE: Final = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
PLANE: Final = OfPlane(mode="lab", env="dev")
LOG: Final = PLANE.place(stream_container(SPACE, "news")).container_id
TABLE: Final = PLANE.place(table(SPACE)).container_id
LISTED: Final = UUID(int=2**100)
WORKING: Final = UUID(int=2**90)
UNIT: Final = UUID(int=2**80)
MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
WRITING: Final = {
    "logs": {"append", "clear", "configure", "erase", "restore", "sweep", "trim"},
    "rows": {"erase", "restore", "sweep", "write"},
    "routes": {"commit", "relayed"},
    "audits": set[str](),
    "work": {"beat", "commit", "delete"},
}
SEED: Final = f"""
SET session_replication_role = replica;
INSERT INTO perdure.tenants (tenant_id, slug) VALUES ('{TENANT}', 't_acme');
INSERT INTO perdure.logs (tenant_id, log_id, kind, container, user_name, epoch, sequence, earliest, version, attributes,
    created_at, updated_at)
SELECT '{TENANT}', CASE n WHEN 0 THEN '{LOG}' ELSE md5(n::text)::uuid END, 'streams', n::text, 'user-' || n % 50, 5,
    {MANY}, 1, 1, '', now(), now() FROM generate_series(0, {MANY}) AS n;
INSERT INTO perdure.log_entries SELECT '{TENANT}', '{LOG}', 5, n, 'e' || n, 'f', now(), 'x'
FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.row_containers (tenant_id, container_id, kind, container, user_name)
SELECT '{TENANT}', CASE n WHEN 0 THEN '{TABLE}' ELSE md5(n::text)::uuid END, 'tables', n::text, 'user-' || n % 50
FROM generate_series(0, {MANY}) AS n;
INSERT INTO perdure.versioned_rows (tenant_id, container_id, key, value, version, incarnation, created_at, updated_at)
SELECT '{TENANT}', '{TABLE}', 'k' || lpad(n::text, 6, '0'), 'x', 1, 'i', now(), now()
FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.versioned_rows (tenant_id, container_id, key, value, version, incarnation, created_at, updated_at)
SELECT '{TENANT}', md5(n::text)::uuid, 'k', 'x', 1, 'i', now(), now() FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.store_audit (tenant_id, container_id, audit_id, record)
SELECT '{TENANT}', '{LOG}', (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid, '{{}}'
FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.route_history (tenant_id, route_key, version, route_id, changed_at, registry_version, record)
SELECT '{TENANT}', 'r' || n % 20, n / 20, gen_random_uuid(), now(), n, '{{}}' FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.route_events (tenant_id, event_id, registry_version, record)
SELECT '{TENANT}', 'v' || n, n, '{{}}' FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.work_units (tenant_id, space_id, unit_id, instance_id, schema, status, version, created_at,
    updated_at, history_sequence, parent_id, heartbeat_at, beats, interaction_count, retry_count, child_count,
    finished_child_count)
SELECT '{TENANT}', '{WORKING}', CASE n WHEN 1 THEN '{UNIT}' ELSE md5(n::text)::uuid END, 'i' || n % 50, 'work',
    CASE n % 20 WHEN 0 THEN 'ACTIVE' ELSE 'PENDING' END, 1, '{MOMENT}'::timestamptz + n * interval '1 s', now(), 1,
    CASE n % 20 WHEN 3 THEN '{UNIT}'::uuid END, '{MOMENT}'::timestamptz + n * interval '1 s', 1, 0, 0, 0, 0
FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.work_attributes (tenant_id, space_id, unit_id, key, version, sequence, recorded_at)
SELECT '{TENANT}', '{WORKING}', '{UNIT}', 'k' || n % 5, n, n, now() FROM generate_series(1, {MANY}) AS n;
INSERT INTO perdure.work_history (tenant_id, space_id, unit_id, sequence, history_id, instance_id, event, new_status,
    new_state_hash, actor_id, transition_timestamp, changes, hash_scheme, entry_hash)
SELECT '{TENANT}', '{WORKING}', '{UNIT}', n, md5(n::text)::uuid, 'i' || n % 50, 'STATE_TRANSITION', 'ACTIVE',
    repeat('0', 64), 'a' || n % 20, '{MOMENT}'::timestamptz + n * interval '1 s', '[]', 'v1', repeat('0', 64)
FROM generate_series(1, {MANY}) AS n;
"""  # noqa: S608 - constants of this file
IN_LOG: Final[dict[str, Any]] = {"log_id": LOG}
IN_TABLE: Final[dict[str, Any]] = {"container_id": TABLE}
PAGE: Final[dict[str, Any]] = IN_LOG | {"limit": 10, "bytes_max": 10_000}
RANGE: Final[dict[str, Any]] = IN_TABLE | {"start": "k01", "end": "k02", "limit": 10, "bytes_max": 10_000}
IN_SPACE: Final[dict[str, Any]] = {"space_id": WORKING, "limit": 10}
IN_UNIT: Final[dict[str, Any]] = IN_SPACE | {"unit_id": UNIT}
ENTRIES: Final[dict[str, Any]] = IN_SPACE | {
    "instance_id": None,
    "actor_id": None,
    "since": None,
    "until": None,
    "after_time": MOMENT + timedelta(seconds=MANY // 2),
    "after_id": LISTED,
}
UNITS: Final[dict[str, Any]] = IN_SPACE | {
    "status": None,
    "instance_id": None,
    "parent_id": None,
    "after_time": MOMENT + timedelta(seconds=MANY // 2),
    "after_id": LISTED,
}
LIST: Final[dict[str, Any]] = {"user": None, "after": LISTED, "limit": 10}
CASES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("audits/list", {"container_id": LOG, "after": UUID("00001000-0000-7000-8000-000000000000"), "limit": 10}),
    ("logs/containers", LIST | {"kind": "streams"}),
    ("logs/containers", LIST | {"kind": "streams", "user": "user-7"}),
    ("logs/head", IN_LOG),
    ("logs/locate", IN_LOG | {"entry_id": "e15000"}),
    ("logs/page", PAGE | {"from": 15_000}),
    ("logs/page_reverse", PAGE | {"from": 15_000}),
    ("rows/containers", LIST | {"kind": "tables"}),
    ("rows/containers", LIST | {"kind": "tables", "user": "user-7"}),
    ("rows/get", IN_TABLE | {"keys": ["k000007", "k015000", "none"]}),
    ("rows/query", RANGE | {"after": None}),
    ("rows/query", RANGE | {"after": "k015000"}),
    ("rows/query_reverse", RANGE | {"after": None}),
    ("rows/query_reverse", RANGE | {"after": "k015000"}),
    ("routes/history", {"route_key": "r7", "after": 500, "limit": 10}),
    ("routes/unrelayed", {"limit": 10}),
    ("work/attribute_versions", IN_UNIT | {"after_key": "k2", "after_version": 9_000}),
    ("work/find_history", ENTRIES),
    ("work/find_history", ENTRIES | {"instance_id": "i7"}),
    ("work/find_history", ENTRIES | {"actor_id": "a7"}),
    ("work/find_history", ENTRIES | {"instance_id": "i7", "actor_id": "a7"}),
    ("work/find_history", ENTRIES | {"after_time": None, "since": MOMENT + timedelta(seconds=15_000)}),
    ("work/history", IN_UNIT | {"after": 15_000}),
    ("work/history_reverse", IN_UNIT | {"after": 15_000}),
    ("work/stale", IN_SPACE | {"before": MOMENT + timedelta(seconds=15_000)}),
    ("work/units", UNITS),
    ("work/units", UNITS | {"status": "ACTIVE"}),
    ("work/units", UNITS | {"instance_id": "i7"}),
    ("work/units", UNITS | {"parent_id": UNIT}),
]
# The registry is read as a whole, its version is one row, and a unit is read by a function that has its own settings.
WHOLE: Final = {"routes/load", "routes/version", "work/load"}


def seed(database: Database, *, analysed: bool) -> None:
    for (name,) in database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'perdure'"):
        database.query(f"ALTER TABLE perdure.{name} SET (autovacuum_enabled = off)")
    database.query(SEED)
    if analysed:
        database.query("VACUUM ANALYZE")


@engines(*DIRECT)
@pytest.mark.parametrize("analysed", [False, True], ids=["never-analysed", "analysed"])
async def test_every_read_of_a_store_is_on_an_index_and_reads_little(database: Database, *, analysed: bool):
    seed(database, analysed=analysed)
    session = Session(database.dsn("app"), settings=PoolSettings(connections_max=1))
    await session.open()
    wrong: list[str] = []
    for name, given in CASES:
        explained = "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, FORMAT JSON) " + statement(name)
        tenant = SYSTEM if name == "routes/unrelayed" else TENANT
        [[row]] = await session.snapshot(tenant, None, [(explained, {"tenant_id": tenant, **given})])
        plan = row["QUERY PLAN"][0]["Plan"]
        nodes = list(nodes_of(plan))
        wrong += [f"{name}: Seq Scan on {node['Relation Name']}" for node in nodes if node["Node Type"] == "Seq Scan"]
        read = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes
            if "Scan" in node["Node Type"] and "Relation Name" in node
        )
        if read > (OF_USER_MAX if given.get("user") else ROWS_MAX):
            wrong.append(f"{name} {given}: reads {read:.0f} rows")
        if plan["Actual Rows"] == 0:
            wrong.append(f"{name} {given}: finds nothing, so that its plan proves nothing")
    await session.close()
    assert not wrong, "\n".join(wrong)


def test_every_read_of_a_store_has_its_plan_looked_at():
    folder = files("perdure.adapters.postgres").joinpath("sql")
    there = {
        f"{kind}/{name}"
        for kind, writing in WRITING.items()
        for name in (file.name.removesuffix(".sql") for file in folder.joinpath(kind).iterdir())
        if name not in writing
    }
    assert there == {name for name, _ in CASES} | WHOLE
