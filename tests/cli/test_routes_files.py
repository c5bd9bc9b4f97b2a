"""``perdure routes export`` and ``set --file``: the words of older registries, on a real registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import Forbidden, Invalid, NotFound, PerdureError, Unsupported
from tests.conftest import MakeDatabase
from tests.support.databases import Database
from tests.support.routed import Operator

LITERAL = "hunter2-hunter2-hunter2"
STREAMS = {
    "resource_kind": "event_stream",
    "tenant_id": "t_acme",
    "env": "dev",
    "backend_type": "sqlite",
    "config": {"path": "a.db"},
    "tier": "enterprise",
    "cost_notes": "one disk, paid once",
}
TABLES = {"resource_kind": "tabular_store", "tenant_id": "t_acme", "env": "dev", "backend_type": "memory"}


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Operator:
    return Operator(database=database, data_dir=tmp_path)


def test_the_older_words_make_routes_from_a_file_or_the_standard_input(lab: Operator, tmp_path: Path):
    path = tmp_path / "routes.json"
    path.write_text(json.dumps([STREAMS, {**TABLES, "project_id": "apollo", "surface_id": "chat"}]))
    said = lab.said("set", "--file", str(path))
    assert said.splitlines()[-1] == "2 routes set, 0 were so already"
    assert "streams of t_acme is kept in sqlite (version 1)" in said
    done = lab.printed("set", "--file", "-", stdin=json.dumps({**STREAMS, "resource_kind": "memory_store"}))
    assert [(one["kind"], one["version"]) for one in done["changed"]] == [("memory", 1)]
    route = lab.printed("show", "streams", "t_acme")["route"]
    assert (route["backend"], route["config"]) == ("sqlite", {"path": "a.db"})
    assert (route["tier"], route["cost_notes"]) == ("enterprise", "one disk, paid once")
    found = lab.printed("show", "tables", "t_acme", "--project", "apollo", "--surface", "chat")
    assert found["layer"] == "surface"


def test_what_is_exported_and_given_back_changes_nothing(lab: Operator):
    lab.said("set", "--file", "-", stdin=json.dumps([STREAMS, {**TABLES, "audit": "writes", "required": False}]))
    words = ("switch", "tables", "t_acme", "--backend", "sqlite", "--config", "path=b.db", "--data-stays")
    lab.said(*words, "--rationale", "to keep it")
    exported = lab.said("export")
    documents = {f"{one['resource_kind']} {one['tenant_id']}": one for one in json.loads(exported)}
    assert documents.keys() == {
        "event_stream t_acme", "event_stream t_system", "memory_store t_system", "object_store t_system",
        "routing_registry_store t_system", "tabular_store t_acme", "tabular_store t_system", "telemetry_store t_system",
        "turn_store t_system", "work_store t_system",
    }  # fmt: skip
    switched = documents["tabular_store t_acme"]
    assert (switched["previous_backend_type"], switched["switch_rationale"]) == ("memory", "to keep it")
    assert (switched["version"], switched["mode"], switched["audit"]) == (2, "lab", "writes")
    assert switched["last_switch_time"] is not None
    before = lab.versions()
    again = lab.printed("set", "--file", "-", stdin=exported)
    assert (again["changed"], len(again["unchanged"])) == ([], 10)
    assert lab.versions() == before
    assert json.loads(lab.said("export", "--tenant", "t_acme", "--json")) == [
        documents["event_stream t_acme"], switched,
    ]  # fmt: skip


def test_what_is_exported_makes_the_same_routes_elsewhere(lab: Operator, make_database: MakeDatabase, tmp_path: Path):
    lab.said("set", "--file", "-", stdin=json.dumps([STREAMS, {**TABLES, "audit": "writes", "required": False}]))
    other = Operator(database=make_database(), data_dir=tmp_path / "other")
    other.said("set", "--file", "-", stdin=lab.said("export"))
    assert [settings_of(one) for one in exported(other)] == [settings_of(one) for one in exported(lab)]


def exported(operator: Operator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(operator.said("export"))
    return found


def settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody chose, without what the registry wrote by itself."""
    told = {"version", "created_at", "updated_at", "previous_backend_type", "switch_rationale", "last_switch_time"}
    return {name: value for name, value in document.items() if name not in told}


CLOUD = {
    **STREAMS,
    "resource_kind": "memory_store",
    "backend_type": "cosmos",
    "config": {"endpoint": "https://x.test:443/", "key": LITERAL, "database": "d"},
}
BAD: list[tuple[object, type[PerdureError], str]] = [
    ([STREAMS, {**TABLES, "colour": "red", "priority": 1}], Invalid, "'colour', 'priority'"),
    ([STREAMS, {**TABLES, "env": "prod"}], Invalid, "env 'prod', and this plane is of env 'dev'"),
    ([STREAMS, {**TABLES, "mode": "saas"}], Invalid, "mode 'saas', and this plane is of mode 'lab'"),
    ([STREAMS, {"tenant_id": "t_acme"}], Invalid, "resource_kind, env, backend_type"),
    ([STREAMS, {**TABLES, "resource_kind": "vector_store"}], Invalid, "vector_store"),
    ([STREAMS, {**TABLES, "tenant_id": "acme"}], Invalid, "not a tenant"),
    ([STREAMS, {**TABLES, "backend_type": "floppy"}], Unsupported, "floppy"),
    ([STREAMS, {**TABLES, "tier": "gold"}], Invalid, "tier"),
    ([STREAMS, {**TABLES, "tier": 7}], Invalid, "tier"),
    ([STREAMS, {**TABLES, "required": "yes"}], Invalid, "required"),
    ([STREAMS, {**TABLES, "config": {"a": 1.5}}], Invalid, "'a'"),
    ([STREAMS, {**TABLES, "config": [1]}], Invalid, "config"),
    ([STREAMS, {**TABLES, "surface_id": "chat"}], Invalid, "project"),
    ([STREAMS, STREAMS], Invalid, "twice"),
    ([STREAMS, CLOUD], Invalid, "config field key"),
    ([STREAMS, {**STREAMS, "resource_kind": "routing_registry_store", "tenant_id": "t_system"}], Invalid, "setting"),
    ([STREAMS, "event_stream"], Invalid, "route 2"),
    ([], Invalid, "no route"),
]


@pytest.mark.parametrize(("content", "kind", "complaint"), BAD, ids=[complaint[:30] for _, _, complaint in BAD])
def test_one_bad_route_and_nothing_is_written(lab: Operator, content: object, kind: type[PerdureError], complaint: str):
    refused = lab.refusal("set", "--file", "-", stdin=json.dumps(content))
    assert isinstance(refused, kind)
    assert complaint in refused.message
    assert LITERAL not in refused.message
    if isinstance(content, list) and len(content) > 1:
        assert refused.message.startswith("route 2")
        assert refused.message.endswith("nothing was written")
    assert lab.printed("list", "--tenant", "t_acme")["items"] == []


def test_files_that_are_no_json_or_not_there_are_refused(lab: Operator):
    assert "not JSON" in lab.refusal("set", "--file", "-", stdin="{").message
    assert isinstance(lab.refusal("set", "--file", "nowhere.json"), NotFound)


def test_another_backend_or_place_is_not_slipped_in_by_a_file(lab: Operator):
    lab.said("set", "--file", "-", stdin=json.dumps(STREAMS))
    moved = json.dumps([TABLES, {**STREAMS, "config": {"path": "b.db"}}])
    assert "--data-stays" in lab.refusal("set", "--file", "-", stdin=moved).message
    switched = json.dumps([TABLES, {**STREAMS, "backend_type": "memory", "config": {}}])
    assert "switch" in lab.refusal("set", "--file", "-", "--data-stays", stdin=switched).message
    assert lab.versions().get("tables t_acme") is None
    done = lab.printed("set", "--file", "-", "--data-stays", stdin=moved)
    assert [(one["kind"], one["version"]) for one in done["changed"]] == [("tables", 1), ("streams", 2)]


def test_a_file_does_not_bring_a_lab_backend_into_saas(make_database: MakeDatabase, tmp_path: Path):
    saas = Operator(database=make_database(mode="saas", env="prod"), data_dir=tmp_path, mode="saas", env="prod")
    content = json.dumps([{**STREAMS, "env": "prod", "mode": "saas"}])
    refused = saas.refusal("set", "--file", "-", stdin=content)
    assert isinstance(refused, Forbidden)
    assert refused.code == "forbidden_backend_class"
    assert refused.message.startswith("route 1 (streams of t_acme)")
