"""``perdure routes set``, ``switch``, ``delete`` and what shows it, on a real registry."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

import perdure.sync
from perdure.cli.main import app
from perdure.cli.target import operator
from perdure.domain.route import ConfigValue
from perdure.errors import Forbidden, Invalid, NoRoute, NotFound, StaleVersion, Unsupported
from tests.conftest import MakeDatabase
from tests.support.databases import Database
from tests.support.routed import Operator

LITERAL = "hunter2-hunter2-hunter2"


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Operator:
    return Operator(database=database, data_dir=tmp_path)


@pytest.fixture
def saas(make_database: MakeDatabase, tmp_path: Path) -> Operator:
    return Operator(database=make_database(mode="saas", env="prod"), data_dir=tmp_path, mode="saas", env="prod")


def test_a_route_is_set_and_shown_with_everything_about_it(lab: Operator):
    said = lab.said(
        "set", "streams", "t_acme", "--backend", "sqlite", "--config", "path=a.db", "--tier", "enterprise",
        "--cost-notes", "one disk", "--audit", "writes", "--required",
    )  # fmt: skip
    assert said == "streams of t_acme is kept in sqlite path=a.db (version 1)\n"
    found = lab.printed("show", "streams", "t_acme", "--probe")
    route = found["route"]
    assert (route["backend"], route["config"], route["tier"], route["cost_notes"], route["audit"]) == (
        "sqlite", {"path": "a.db"}, "enterprise", "one disk", "writes",
    )  # fmt: skip
    assert (route["version"], route["updated_by"], found["layer"]) == (1, operator(), "tenant")
    assert (found["health"]["status"], found["health"]["problem"]) == ("healthy", None)
    text = lab.said("show", "streams", "t_acme")
    assert "cost_notes" in text
    assert "unknown (ask with --probe)" in text
    assert "healthy (just now, took" in lab.said("show", "streams", "t_acme", "--probe")


def test_what_is_not_given_stays_and_a_config_is_replaced_only_knowingly(lab: Operator):
    lab.said("set", "tables", "t_acme", "--backend", "sqlite", "--config", "path=a.db", "--tier", "pro")
    lab.said("set", "tables", "t_acme", "--backend", "sqlite", "--config", "path=a.db", "--cost-notes", "cheap")
    route = lab.printed("show", "tables", "t_acme")["route"]
    assert (route["tier"], route["cost_notes"], route["version"]) == ("pro", "cheap", 2)
    other = ("set", "tables", "t_acme", "--backend", "sqlite", "--config", "path=b.db")
    assert "--data-stays" in lab.refusal(*other).message
    assert lab.printed(*other, "--data-stays")["config"] == {"path": "b.db"}
    assert "perdure routes switch" in lab.refusal("set", "tables", "t_acme", "--backend", "memory").message


def test_a_route_for_a_project_and_a_surface_serves_them_alone(lab: Operator):
    lab.said("set", "memory", "t_acme", "--backend", "memory", "--project", "apollo", "--surface", "chat")
    lab.said("set", "memory", "t_acme", "--backend", "sqlite", "--config", "path=p.db", "--project", "apollo")
    assert lab.printed("show", "memory", "t_acme", "--project", "apollo", "--surface", "chat")["layer"] == "surface"
    assert lab.printed("show", "memory", "t_acme", "--project", "apollo")["layer"] == "project"
    assert lab.printed("show", "memory", "t_acme")["layer"] == "system"
    listed = lab.printed("list", "--tenant", "t_acme", "--kind", "memory")["items"]
    assert [(one["project"], one["surface"]) for one in listed] == [("apollo", None), ("apollo", "chat")]


def test_a_switch_takes_its_reason_and_the_knowledge_that_nothing_moves(lab: Operator):
    lab.said("set", "streams", "t_acme", "--backend", "sqlite", "--config", "path=a.db")
    words = ("switch", "streams", "t_acme", "--backend", "filesystem", "--config", "directory=logs")
    without = lab.run(*words, "--data-stays")
    assert without.exit_code == 2
    assert "--rationale" in without.stderr
    assert "--data-stays" in lab.refusal(*words, "--rationale", "cheaper").message
    said = lab.said(*words, "--rationale", "cheaper", "--data-stays")
    assert said == "streams of t_acme was switched from sqlite to filesystem directory=logs (version 2)\n"
    route = lab.printed("show", "streams", "t_acme")["route"]
    assert (route["previous_backend_type"], route["switch_rationale"]) == ("sqlite", "cheaper")
    assert route["last_switch_time"] is not None
    assert "last_switch_time" in lab.said("show", "streams", "t_acme")


def test_history_tells_who_did_what_and_survives_the_route(lab: Operator):
    lab.said("set", "tables", "t_acme", "--backend", "memory")
    words = ("switch", "tables", "t_acme", "--backend", "sqlite", "--config", "path=a.db", "--data-stays")
    lab.said(*words, "--rationale", "to keep it")
    assert "is deleted" in lab.said("delete", "tables", "t_acme", "--rationale", "customer left", "--if-version", "2")
    first = lab.printed("history", "tables", "t_acme", "--limit", "2")
    rest = lab.printed("history", "tables", "t_acme", "--cursor", first["next_cursor"])
    entries = [*first["items"], *rest["items"]]
    assert [(one["action"], one["from_backend"], one["to_backend"], one["rationale"]) for one in entries] == [
        ("set", None, "memory", None),
        ("switch", "memory", "sqlite", "to keep it"),
        ("delete", "sqlite", None, "customer left"),
    ]
    assert {one["actor"] for one in entries} == {operator()}
    assert "customer left" in lab.said("history", "tables", "t_acme")
    assert lab.printed("set", "tables", "t_acme", "--backend", "memory")["version"] == 4
    nothing = lab.run("history", "tables", "t_other")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert "never was" in nothing.stderr


def test_versions_are_compared_and_a_stale_one_changes_nothing(lab: Operator):
    words = ("set", "streams", "t_acme", "--backend", "memory")
    lab.said(*words, "--if-version", "0")
    assert isinstance(lab.refusal(*words, "--tier", "pro", "--if-version", "0"), StaleVersion)
    assert isinstance(lab.refusal("delete", "streams", "t_acme", "--if-version", "7"), StaleVersion)
    assert lab.printed("show", "streams", "t_acme")["route"]["version"] == 1


def test_coverage_says_what_is_there_and_how_to_get_the_rest(saas: Operator):
    unknown = saas.refusal("set", "tables", "t_acme", "--backend", "postgres")
    assert "perdure tenants add" in unknown.message
    saas.add_tenant("t_acme")
    saas.said("set", "streams", "t_system", "--backend", "postgres", "--default")
    saas.said("set", "tables", "t_acme", "--backend", "postgres", "--tier", "pro")
    rows = {row["kind"]: row for row in saas.printed("coverage", "t_acme")["items"]}
    assert (rows["streams"]["status"], rows["streams"]["layer"]) == ("available", "system")
    assert (rows["tables"]["layer"], rows["tables"]["tier"], rows["tables"]["backend"]) == ("tenant", "pro", "postgres")
    assert (rows["memory"]["status"], rows["memory"]["error"]) == ("missing", "memory.missing_route")
    shown = saas.run("coverage", "t_acme")
    assert "memory" in shown.stdout
    missing = [
        f"missing: perdure routes set {kind} t_acme --backend NAME"
        for kind in ("memory", "turns", "objects", "work", "telemetry")
    ]
    assert shown.stderr.splitlines() == missing


def test_without_a_route_there_is_advice_and_no_backend(saas: Operator):
    refused = saas.refusal("show", "streams", "t_acme")
    assert isinstance(refused, NoRoute)
    assert refused.code == "streams.missing_route"
    assert "perdure routes set streams t_acme --backend NAME" in refused.message
    assert isinstance(saas.refusal("delete", "streams", "t_acme"), NotFound)


def test_backends_that_do_not_exist_or_are_for_lab_only_are_refused(lab: Operator, saas: Operator):
    unknown = lab.refusal("set", "streams", "t_acme", "--backend", "floppy")
    assert isinstance(unknown, Unsupported)
    assert unknown.code == "streams.unsupported_backend"
    assert "postgres" in unknown.message
    forbidden = saas.refusal("set", "streams", "t_acme", "--backend", "sqlite", "--config", "path=a.db")
    assert isinstance(forbidden, Forbidden)
    assert forbidden.code == "forbidden_backend_class"
    assert [one["kind"] for one in saas.printed("list")["items"]] == ["routes"]


def test_a_secret_itself_is_refused_and_never_shown(lab: Operator):
    cloud = ("set", "streams", "t_acme", "--backend", "cosmos", "--config", "endpoint=https://x.test:443/")
    attempts = [
        (*cloud, "--config", "database=d", "--config", f"key={LITERAL}"),
        (*cloud, "--config", f"{LITERAL}"),
        (*cloud, "--config", "database=d", "--config", f"create_container={LITERAL}"),
        (*cloud, "--config", f"database=AccountKey={LITERAL}", "--config", "key=secret://env/KEY"),
        ("set", "streams", "t_acme", "--backend", "postgres", "--config", f"dsn=postgresql://a:{LITERAL}@h/d"),
    ]
    for words in attempts:
        result = lab.run(*words, "--json")
        assert result.exit_code in {1, 2}
        assert LITERAL not in f"{result.output} {result.exception} {result.exception!r}"
    assert "t_acme" not in lab.said("list")
    kept = lab.printed(*cloud, "--config", "database=d", "--config", "key=secret://env/KEY", "--config",
                       "create_container=true")  # fmt: skip
    assert (kept["config"]["key"], kept["config"]["create_container"]) == ("secret://env/KEY", True)
    assert "key=secret://env/KEY" in lab.said("show", "streams", "t_acme")


@pytest.mark.parametrize(
    "words",
    [
        ("set", "streams", "t_acme"),
        ("set", "--backend", "memory"),
        ("set", "streams", "t_acme", "--backend", "sqlite", "--config", "path=a", "--config", "path=b"),
        ("set", "streams", "--file", "routes.json"),
        ("copy", "streams", "t_acme", "--rationale", "why"),
        ("copy", "streams", "t_acme", "--backend", "memory"),
        ("copy", "streams", "t_acme", "--back", "--abandon", "--rationale", "why"),
        ("copy", "streams", "t_acme", "--back", "--backend", "memory", "--rationale", "why"),
    ],
)
def test_misuse_ends_with_2_before_anything_is_opened(words: tuple[str, ...]):
    result = CliRunner().invoke(app, ["routes", *words, "--dsn", "postgresql://nobody@127.0.0.1:1/none"])
    assert result.exit_code == 2, result.output


def test_kinds_tenants_and_words_that_are_wrong_are_refused(lab: Operator):
    for words in (
        ("set", "runs", "t_acme", "--backend", "postgres"),
        ("set", "streams", "acme", "--backend", "postgres"),
        ("set", "streams", "t_acme", "--backend", "postgres", "--tier", "gold"),
        ("set", "streams", "t_acme", "--backend", "postgres", "--audit", "never"),
        ("set", "streams", "t_acme", "--backend", "postgres", "--default"),
        ("set", "streams", "t_acme", "--backend", "sqlite"),
        ("set", "routes", "t_system", "--backend", "sqlite", "--config", "path=r.db"),
    ):
        assert isinstance(lab.refusal(*words), Invalid), words


def test_routes_are_listed_as_a_table_or_as_nothing(lab: Operator):
    lines = lab.said("list").splitlines()
    assert lines[0].split() == ["TENANT", "KIND", "PROJECT", "SURFACE", "BACKEND", "CONFIG", "TIER", "VERSION", "NOTE"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["t_system", kind]
        for kind in ("memory", "objects", "routes", "streams", "tables", "telemetry", "turns", "work")
    ]
    nothing = lab.run("list", "--tenant", "t_acme")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert "perdure routes set" in nothing.stderr


def test_the_settings_say_where_the_registry_is(lab: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = tmp_path / "elsewhere.toml"
    settings.write_text('[registry]\nbackend = "sqlite"\nconfig = { path = "registry.db" }\n')
    lab.said("set", "streams", "t_acme", "--backend", "memory", "--settings", str(settings))
    assert (tmp_path / "registry.db").exists()
    assert lab.run("list", "--tenant", "t_acme").stdout == ""
    settings.rename(tmp_path / "perdure.toml")
    monkeypatch.chdir(tmp_path)
    assert lab.printed("list", "--tenant", "t_acme")["items"][0]["backend"] == "memory"
    assert lab.printed("show", "routes", "t_system")["route"]["config"] == {"path": "registry.db"}
    assert lab.apart(registry_config(lab, tmp_path / "perdure.toml")) == {"path": "registry.db"}
    for text, complaint in (
        ('[registy]\nbackend = "sqlite"\n', "registy"),
        ('[registry]\nbackend = "sqlite"\nfolder = "x"\n', "folder"),
        ('[registry]\nbackend = "sqlite"\nconfig = { file = "x" }\n', "file"),
        ("[registry\n", "cannot be read"),
    ):
        (tmp_path / "perdure.toml").write_text(text)
        refused = lab.refusal("list")
        assert complaint in refused.message
        with pytest.raises(type(refused)) as caught:
            lab.apart(registry_config(lab, Path("perdure.toml")))
        assert caught.value.message == refused.message
    assert "cannot be read" in lab.refusal("list", "--settings", "missing.toml").message


async def registry_config(lab: Operator, settings: Path) -> Mapping[str, ConfigValue]:
    """Where ``perdure.open(settings=...)`` finds the registry."""
    async with lab.plane(settings=settings) as plane:
        return (await plane.scope("t_system", actor="user:ana").routes.show("routes")).route.config


def test_the_embedded_plane_of_a_directory_is_administered_too(tmp_path: Path):
    def perdure_says(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "perdure.cli.main", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert "there is no plane" in perdure_says("routes", "list").stderr
    with perdure.sync.open(data_dir=tmp_path / ".perdure") as plane:
        acme = plane.scope("t_acme", actor="agent:planner")
        acme.runs.start("triage", signal=("billing", "msg-1"), input={})
        words = ("routes", "set", "streams", "t_acme", "--backend", "sqlite", "--config", "path=a.db", "--json")
        done = perdure_says(*words)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["backend"] == "sqlite"
        assert acme.routes.show("streams").route.backend == "sqlite"
        refused = perdure_says("routes", "set", "streams", "t_acme", "--backend", "floppy")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("perdure: there is no backend 'floppy'")
        assert refused.stderr.count("\n") == 1
        # The control plane is a tenant too, and nobody has to say that it is not meant.
        assert "triage" in perdure_says("runs", "list").stdout
