"""How task lists are configured, observed and tuned, and where those of each tenant are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.compose.tasklists import tenant_tasklists
from perdure.config import make_config, read_settings
from perdure.core.environment import system_environment
from perdure.domain.container import make_space
from perdure.domain.tasklists.configuring import persistence_config, space_name
from perdure.domain.tasklists.failures import (
    FrequencyRefused,
    InvalidEntityId,
    InvalidHostPolicyEnvelope,
    InvalidPersistenceMode,
)
from perdure.errors import Invalid, Refused, Unsupported
from tests.support.frequency_requests import REQUESTS, FrequencyRequest
from tests.support.task_desks import Desk

pytestmark = pytest.mark.fast


WIDE = {"max_mutation_threshold": 100, "allow_runtime_checkpoint_frequency_adjustment": True}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "root")


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.name)
async def test_fault_20_the_python_api_answers_as_the_table_says(desk: Desk, request_: FrequencyRequest):
    settings = {"host_policy": request_.envelope.as_document()}
    code, message, frequency, seen = None, "", None, None
    try:
        async with desk.open(settings=settings) as tasks:
            frequency = await tasks.update_checkpoint_frequency(request_.fields)
            seen = await tasks.observe()
    except (FrequencyRefused, InvalidHostPolicyEnvelope) as exc:
        code, message = exc.code, exc.message
    assert (code, message) == (request_.code, request_.message)
    assert frequency == (request_.gives if request_.code is None else None)
    assert (None if seen is None else seen.checkpoint_frequency) == frequency


async def test_an_update_holds_for_the_root_at_once_and_not_after_a_restart(desk: Desk):
    settings = {"host_policy": WIDE | {"min_mutation_threshold": 1}}
    async with desk.open("a", settings=settings) as first, desk.open("b", settings=settings) as second:
        await first.update_checkpoint_frequency({"mutation_threshold": 1})
        await second.add("write", agent="agent:a")
        assert len(desk.snapshots("b")) == 1
    async with desk.open("a", settings=settings) as first:
        observed = await first.observe()
        assert observed is not None
        assert observed.checkpoint_frequency.mutation_threshold == 32


def test_settings_become_the_configuration_and_arguments_go_before_them():
    assert not persistence_config({}).enabled
    config = persistence_config(
        {"root": "x", "mode": "degraded", "checkpoint_mutation_threshold": 64, "host_policy": WIDE}, mode="strict"
    )
    assert (config.enabled, config.mode, config.checkpoint_mutation_threshold) == (True, "strict", 64)
    assert config.host_policy.max_mutation_threshold == 100
    assert persistence_config({"root": "x", "initialize_if_missing": True}).strict_initialize_if_missing
    assert not persistence_config({"root": "x"}, mode="off").enabled


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"rot": "x"}, Invalid),
        ({"enabled": True}, Invalid),
        ({"root": 5}, Invalid),
        ({"mode": "strict"}, Invalid),
        ({"root": "x", "mode": "careful"}, InvalidPersistenceMode),
        ({"root": "x", "initialize_if_missing": 1}, Invalid),
        ({"root": "x", "host_policy": 5}, Invalid),
        ({"root": "x", "host_policy": {"max": 5}}, Invalid),
        ({"root": "x", "checkpoint_mutation_threshold": 64}, InvalidHostPolicyEnvelope),
        ({"root": "x", "checkpoint_mutation_threshold": "64"}, Invalid),
    ],
)
def test_settings_that_are_not_understood_are_refused_where_they_are_written(
    settings: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        make_config(tasklists=settings)


def test_the_settings_file_has_a_table_for_task_lists(tmp_path: Path):
    path = tmp_path / "perdure.toml"
    path.write_text('[tasklists]\nroot = "state"\nmode = "strict"\n')
    assert make_config(tasklists=read_settings(path)["tasklists"]).tasklists == {"root": "state", "mode": "strict"}
    path.write_text("[tasklists]\nrot = 1\n")
    with pytest.raises(Invalid, match=r"perdure\.toml"):
        read_settings(path)
    path.write_text("tasklists = 1\n")
    with pytest.raises(Invalid, match="table"):
        read_settings(path)


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".x", "store.manifest.json", "\ud800"])
def test_a_name_that_is_no_directory_is_refused_before_anything_is_touched(desk: Desk, name: str):
    with pytest.raises(InvalidEntityId):
        desk.open(name)
    assert desk.root is not None
    assert not desk.root.exists()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")


async def test_each_tenant_and_each_part_of_it_has_a_root_of_its_own(tmp_path: Path):
    spaces = [
        SPACE,
        replace(SPACE, tenant="t_other"),
        replace(SPACE, project="p"),
        replace(SPACE, surface="p"),
        replace(SPACE, app="p"),
        replace(SPACE, project="../../escape"),
    ]
    environment = system_environment()
    for number, space in enumerate(spaces):
        lists = tenant_tasklists(space, {"root": str(tmp_path)}, environment=environment)
        assert await lists.list() == ()
        async with lists.open("sprint") as tasks:
            assert (await tasks.view()).tasks == ()
            await tasks.add(f"of {number}", agent="agent:a")
        assert list(await lists.list()) == ["sprint"]
    assert names(tmp_path) == sorted({space_name(space) for space in spaces})
    assert len(names(tmp_path)) == len(spaces)


async def test_a_plane_of_another_mode_or_env_is_refused_by_a_root(tmp_path: Path):
    settings = {"root": str(tmp_path), "mode": "strict", "initialize_if_missing": True}
    environment = system_environment()
    async with tenant_tasklists(SPACE, settings, environment=environment).open("sprint") as tasks:
        await tasks.add("write", agent="agent:a")
    for space in (replace(SPACE, env="prod"), replace(SPACE, mode="saas")):
        with pytest.raises(Refused) as raised:
            async with tenant_tasklists(space, settings, environment=environment).open("sprint"):
                pass
        assert raised.value.code == "store_id_mismatch"


async def test_a_plane_without_settings_keeps_lists_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    lists = tenant_tasklists(SPACE, {}, environment=system_environment())
    async with lists.open("sprint", initialize_if_missing=True) as tasks:
        await tasks.add("write", agent="agent:a")
        assert await tasks.observe() is None
    assert await lists.list() == ()
    assert names(tmp_path) == []


async def test_tenant_names_the_folder_below_a_root_that_is_opened_directly(tmp_path: Path):
    async with perdure.tasklists.open("sprint", root=tmp_path, tenant="t_acme") as tasks:
        await tasks.add("write", agent="agent:a")
    assert (tmp_path / "t_acme" / "sprint").is_dir()
    with pytest.raises(Invalid):
        perdure.tasklists.open("sprint", root=tmp_path, tenant="../x")


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pycrdt", None)
    for name in [name for name in sys.modules if name.startswith("perdure.adapters.crdt")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(Unsupported, match=r"perdure\[tasklists\]"):
        perdure.tasklists.open("sprint")


def test_importing_task_lists_loads_no_library_of_replicas():
    program = "import sys, perdure.tasklists; print('pycrdt' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
