"""Root steps down in each of the ways there are, for real, and ordinary users need none of them."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import ClusterState, EmbeddedConfig
from perdure.adapters.embedded.binaries import locate
from perdure.errors import Forbidden
from tests.adapters.embedded.conftest import StartOther, as_root, joined, leaves

NOBODY = 65534
NAMELESS = 54_321


@pytest.fixture
def reachable_bin(open_dir: Path) -> Path:
    """The server's programs where an ordinary user reaches them."""
    bin_dir = locate().bin_dir
    probe = subprocess.run([str(bin_dir / "postgres"), "--version"], user=NOBODY, check=False, capture_output=True)
    if probe.returncode == 0:
        return bin_dir
    shutil.copytree(bin_dir.parent.parent, open_dir / "wheel", symlinks=True)
    return open_dir / "wheel" / bin_dir.parent.name / "bin"


def uid_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def _works(config: EmbeddedConfig) -> int:
    server = await embedded.join(config)
    uid = uid_of(server.pid)
    await embedded.leave(server)
    assert embedded.status(config).state is ClusterState.STOPPED
    return uid


async def test_root_uses_a_namespace_in_a_directory_that_only_root_enters(tmp_path: Path):
    as_root()
    closed = tmp_path / "a closed place"
    closed.mkdir(mode=0o700)
    config = EmbeddedConfig(data_dir=closed / ".perdure", roles=("owner",), privilege="namespace")
    assert await _works(config) == 0
    assert (config.data_dir / "pg").stat().st_uid == 0


async def test_root_drops_to_nobody_where_the_directory_is_its_own(open_dir: Path, reachable_bin: Path):
    as_root()
    data_dir = open_dir / "with spaces" / ".perdure"
    config = EmbeddedConfig(data_dir=data_dir, roles=("owner",), privilege="drop", bin_dir=reachable_bin)
    assert await _works(config) == NOBODY
    assert (data_dir / "pg").stat().st_uid == NOBODY
    assert data_dir.stat().st_uid == 0
    assert stat.S_IMODE((data_dir / "pgpass").stat().st_mode) == 0o600
    assert (data_dir / "pgpass").stat().st_uid == 0
    assert await _works(replace(config, privilege="auto")) == NOBODY, "a cluster stays its owner's"


async def test_root_drops_to_the_owner_of_the_data_directory(
    open_dir: Path, reachable_bin: Path, start_other: StartOther
):
    as_root()
    owner = pwd.getpwnam("daemon").pw_uid
    data_dir = open_dir / ".perdure"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, owner, owner)
    config = EmbeddedConfig(data_dir=data_dir, roles=("owner", "app"), privilege="drop", bin_dir=reachable_bin)
    assert await _works(config) == owner
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {path.stat().st_uid for path in data_dir.iterdir()} == {owner}, "root left files that the owner cannot use"
    other = await start_other(config, "--uid", str(owner), "--bin-dir", str(reachable_bin))
    assert (await joined(other))["euid"] == owner
    await leaves(other)


async def test_a_cluster_made_in_a_namespace_goes_on_after_a_drop(open_dir: Path, reachable_bin: Path):
    as_root()
    config = EmbeddedConfig(
        data_dir=open_dir / ".perdure", roles=("owner",), privilege="namespace", bin_dir=reachable_bin
    )
    assert await _works(config) == 0
    assert await _works(replace(config, privilege="drop")) == NOBODY


async def test_where_nothing_works_the_error_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    as_root()
    os.chmod(tmp_path, 0o700)  # noqa: PTH101  # nobody cannot pass
    monkeypatch.setenv("PATH", str(tmp_path))  # and there is no unshare
    config = EmbeddedConfig(data_dir=tmp_path / ".perdure", roles=("owner",))
    with pytest.raises(Forbidden) as refused:
        await embedded.join(config)
    assert refused.value.code == "root_refused"
    for words in ("a user namespace (unshare -U)", "a drop to nobody (uid 65534)", "allow user namespaces", "chown"):
        assert words in refused.value.message


async def test_an_ordinary_user_needs_nothing(open_dir: Path, reachable_bin: Path, start_other: StartOther):
    as_root()
    home = open_dir / "home of nobody"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    config = EmbeddedConfig(data_dir=home / ".perdure", roles=("owner", "app"))
    arguments = ("--uid", str(NOBODY), "--bin-dir", str(reachable_bin))
    first, second = await start_other(config, *arguments), await start_other(config, *arguments)
    told = [await joined(first), await joined(second)]
    assert told[0] == told[1]
    assert told[0]["euid"] == NOBODY
    assert uid_of(told[0]["pid"]) == NOBODY
    await leaves(first)
    assert embedded.status(config).state is ClusterState.RUNNING
    await leaves(second)
    assert embedded.status(config).state is ClusterState.STOPPED


async def test_a_user_without_a_name_gets_one_in_a_namespace(
    open_dir: Path, reachable_bin: Path, start_other: StartOther
):
    as_root()
    home = open_dir / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NAMELESS, NAMELESS)
    config = EmbeddedConfig(data_dir=home / ".perdure", roles=("owner", "app"))
    other = await start_other(config, "--uid", str(NAMELESS), "--bin-dir", str(reachable_bin))
    assert uid_of((await joined(other))["pid"]) == NAMELESS
    await leaves(other)


async def test_a_drop_to_a_user_without_a_name_is_refused_before_anything_is_made(open_dir: Path, reachable_bin: Path):
    as_root()
    data_dir = open_dir / ".perdure"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, NAMELESS, NAMELESS)
    config = EmbeddedConfig(data_dir=data_dir, roles=("owner",), privilege="drop", bin_dir=reachable_bin)
    with pytest.raises(Forbidden, match="has no entry in /etc/passwd"):
        await embedded.join(config)
    assert embedded.status(config).state is ClusterState.NOT_CREATED
