"""``perdure tasklists``: what is changed is on the disk when the command ends, and what is wrong has a code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app
from tests.support.frequency_requests import REQUESTS, FrequencyRequest
from tests.support.node_files import LEGACY, Opened, node_files, policy

LIST = "sprint"


class Desk:
    """Somebody at the keyboard, in front of one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["tasklists", *words, "--root", str(self.root)])

    def done(self, *words: str) -> Any:
        result = self.run(*words, "--json")
        assert result.exit_code == 0, f"{result.output} {result.exception!r}"
        return json.loads(result.stdout)

    def refused(self, *words: str) -> str:
        result = self.run(*words, "--json")
        assert result.exit_code == 1, f"{result.output} {result.exception!r}"
        found: str = json.loads(result.stdout)["error"]["code"]
        return found

    def add(self, title: str, *words: str) -> str:
        found: str = self.done("add", LIST, title, "--agent", "agent:a", *words)["task_id"]
        return found

    def titles(self, *words: str) -> list[str]:
        return [task["title"] for task in self.done("show", LIST, *words)["tasks"]]

    @property
    def snapshots(self) -> list[Path]:
        return sorted((self.root / LIST).glob("*.snapshot"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path / "root")


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_task_goes_through_its_life_one_command_at_a_time(desk: Desk):
    first, second = desk.add("write", "--priority", "7", "--description", "all of it"), desk.add("read", "--id", "r")
    assert second == "r"
    assert desk.done("claim", LIST, first, "--agent", "agent:b")["claimed_by"] == "agent:b"
    assert desk.done("complete", LIST, first, "--agent", "agent:c")["status"] == "done"
    desk.done("move", LIST, "r")
    assert desk.titles() == ["read", "write"]
    desk.done("move", LIST, "r", "--after", first)
    assert desk.titles() == ["write", "read"]
    desk.done("remove", LIST, first)
    (task,) = desk.done("show", LIST)["tasks"]
    assert (task["title"], task["created_by"]) == ("read", "agent:a")
    assert desk.done("list")["items"][0]["name"] == LIST


def test_each_change_is_a_checkpoint_before_the_command_ends(desk: Desk):
    desk.add("one")
    assert len(desk.snapshots) == 1
    desk.add("two")
    assert len(desk.snapshots) == 2
    assert desk.done("checkpoint", LIST) == {"outcome": "noop_clean"}


def test_people_see_tables_and_programs_documents(desk: Desk):
    desk.add("write")
    for words, said in (
        (("show", LIST), "write"),
        (("list",), LIST),
        (("verify", LIST), "ok"),
        (("health", LIST), "loaded_snapshot"),
        (("checkpoint", LIST), "noop_clean"),
        (("tune", LIST), "mutation_threshold"),
        (("claim", LIST, desk.add("more")), "claimed"),
    ):
        result = desk.run(*words)
        assert result.exit_code == 0, result.output
        assert said in result.stdout


def test_what_is_refused_ends_with_1_and_its_code(desk: Desk):
    task = desk.add("write")
    assert desk.refused("complete", LIST, task) == "illegal_transition"
    assert desk.refused("claim", LIST, "nobody") == "not_found"
    assert desk.refused("show", "never") == "not_found"
    assert desk.refused("add", "../escape", "x") == "invalid_entity_id"
    assert desk.refused("add", LIST, "x" * 501) == "limit_exceeded"
    assert desk.refused("show", LIST, "--mode", "careful") == "invalid_persistence_mode"
    assert desk.refused("tune", LIST, "mutation_threshold") == "invalid"
    result = desk.run("complete", LIST, task)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "(illegal_transition)" in result.stderr


def test_an_empty_root_says_how_to_begin(desk: Desk):
    result = desk.run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "perdure tasklists add" in result.stderr


def test_strict_begins_a_root_only_when_it_is_told_to(desk: Desk):
    strict = ("--mode", "strict")
    assert desk.refused("add", LIST, "x", *strict) == "persistence_not_initialized"
    assert desk.refused("show", LIST, *strict) == "persistence_not_initialized"
    assert not desk.root.exists()
    desk.add("write", *strict, "--initialize-if-missing")
    assert desk.titles(*strict) == ["write"]


def test_a_root_begun_in_degraded_opens_in_strict(desk: Desk):
    desk.add("write")
    assert desk.titles("--mode", "strict") == ["write"]
    assert desk.done("health", LIST, "--mode", "strict")["health"]["state"] == "ready"


def test_a_damaged_newest_snapshot_fails_in_strict_again_and_again_and_is_skipped_in_degraded(desk: Desk):
    desk.add("one")
    desk.add("two")
    damage(desk.snapshots[-1])
    for _ in range(2):
        assert desk.refused("show", LIST, "--mode", "strict") == "integrity_mismatch"
        assert desk.refused("verify", LIST, "--mode", "strict") == "integrity_mismatch"
        assert desk.refused("add", LIST, "x", "--mode", "strict") == "integrity_mismatch"
        assert len(desk.snapshots) == 2
    result = desk.run("show", LIST)
    assert (result.exit_code, "(integrity_mismatch)" in result.stderr) == (0, True)
    assert "one" in result.stdout
    assert [one["code"] for one in desk.done("verify", LIST)["snapshots"]] == ["integrity_mismatch", None]
    assert len(desk.snapshots) == 2
    desk.add("again", "--mode", "strict", "--load-older")
    assert desk.titles("--mode", "strict") == ["one", "again"]


def test_where_nothing_loads_verify_fails_in_both_modes(desk: Desk):
    desk.add("one")
    damage(desk.snapshots[0])
    assert desk.refused("verify", LIST) == "no_loadable_snapshot"
    assert desk.refused("verify", LIST, "--mode", "strict") == "no_loadable_snapshot"
    result = desk.run("verify", LIST)
    assert (result.exit_code, "(no_loadable_snapshot)" in result.stderr) == (1, True)


def test_an_encrypted_artefact_fails_in_strict_and_is_skipped_in_degraded_by_name(desk: Desk):
    desk.add("one")
    newest = desk.snapshots[0].with_name(f"{9_999_999_999_999:020d}.snapshot")
    newest.write_bytes(LEGACY)
    assert desk.refused("show", LIST, "--mode", "strict") == "unsupported_legacy_encrypted_artifact"
    result = desk.run("show", LIST)
    assert "DegradedSkippedLegacyArtifact" in result.stderr
    assert "one" in result.stdout
    assert newest.read_bytes() == LEGACY


def test_a_change_that_cannot_be_written_is_an_error_in_degraded_too(desk: Desk):
    desk.add("one")
    held = node_files(desk.root)
    held.open(create=False)
    try:
        assert desk.refused("add", LIST, "two") == "checkpoint_failure"
        assert desk.refused("add", LIST, "two", "--mode", "strict") == "store_locked"
        assert desk.titles() == ["one"]  # who looks does not need the root
        assert desk.done("verify", LIST)["error"] is None
    finally:
        held.close()


def test_a_payload_that_is_no_list_is_damaged(desk: Desk):
    with Opened(desk.root, policy(), entity_id=LIST) as other:
        other.write(5)
    assert desk.refused("verify", LIST) == "no_loadable_snapshot"
    assert desk.refused("show", LIST, "--mode", "strict") == "unexpected_codec"


def settings_of(request: FrequencyRequest) -> str:
    bounds: Mapping[str, object] = request.envelope.as_document()
    return "[tasklists.host_policy]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in bounds.items())


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.name)
def test_fault_20_the_command_line_answers_as_the_table_says(desk: Desk, tmp_path: Path, request_: FrequencyRequest):
    (tmp_path / "other.toml").write_text(settings_of(request_))
    words = [f"{name}={json.dumps(value)}" for name, value in request_.fields.items()]
    result = desk.run("tune", LIST, *words, "--settings", str(tmp_path / "other.toml"), "--json")
    answer = json.loads(result.stdout)
    if request_.code is None:
        assert (result.exit_code, answer) == (0, request_.gives.as_document())
    else:
        assert (result.exit_code, answer) == (1, {"error": {"code": request_.code, "message": request_.message}})


@pytest.mark.usefixtures("desk")
def test_settings_say_where_a_tenants_lists_are(tmp_path: Path):
    (tmp_path / "perdure.toml").write_text(
        '[tasklists]\nroot = "state"\nmode = "strict"\ninitialize_if_missing = true\n'
    )

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["tasklists", *words])

    assert run("add", LIST, "write", "--tenant", "t_acme").exit_code == 0
    assert (tmp_path / "state" / "t_acme" / LIST).is_dir()
    assert run("show", LIST, "--tenant", "t_acme", "--mode", "strict").exit_code == 0
    refused = run("show", LIST)
    assert (refused.exit_code, "--tenant" in refused.stderr) == (1, True)
    assert run("show", LIST, "--tenant", "../x").exit_code == 1
