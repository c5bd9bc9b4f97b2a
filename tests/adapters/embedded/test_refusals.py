"""What cannot work is refused before anything is touched, with words that help."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import ClusterState, EmbeddedConfig
from perdure.adapters.embedded.binaries import bundled_bin_dir, locate
from perdure.adapters.embedded.platforms import require_platform
from perdure.errors import Corrupt, Forbidden, Invalid, PersistenceError, Unsupported
from tests.adapters.embedded.conftest import as_root


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
@pytest.mark.parametrize("machine", ["x86_64", "amd64", "aarch64", "arm64", "AMD64"])
def test_linux_and_macos_are_served(system: str, machine: str):
    require_platform(system, machine)


@pytest.mark.parametrize(
    ("system", "machine"),
    [("Windows", "AMD64"), ("FreeBSD", "amd64"), ("Linux", "riscv64"), ("Linux", "i686"), ("Darwin", "ppc"), ("", "")],
)
def test_other_platforms_are_told_what_to_use_instead(system: str, machine: str):
    with pytest.raises(Unsupported, match=re.escape('perdure.open("postgresql://...")')) as refused:
        require_platform(system, machine)
    assert refused.value.code == "unsupported_platform"


async def test_a_directory_without_programs_is_refused(config: EmbeddedConfig, tmp_path: Path):
    with pytest.raises(Unsupported, match="PERDURE_PG_BIN"):
        await embedded.join(replace(config, bin_dir=tmp_path))
    assert not config.data_dir.exists()


async def test_programs_that_are_too_old_are_refused(config: EmbeddedConfig, tmp_path: Path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n")
    (old / "postgres").chmod(0o755)
    with pytest.raises(Unsupported, match="PostgreSQL 15 or later"):
        await embedded.join(replace(config, bin_dir=old))


async def test_a_cluster_of_an_older_release_is_refused_with_the_commands_that_move_it(tmp_path: Path):
    old_bin = bundled_bin_dir(16)
    if old_bin is None:
        pytest.skip("the wheel has one release only")
    config = EmbeddedConfig(data_dir=tmp_path / "an old one", roles=("owner",), bin_dir=old_bin)
    await embedded.leave(await embedded.join(config))
    with pytest.raises(Unsupported) as refused:
        await embedded.join(replace(config, bin_dir=None))
    assert refused.value.code == "older_cluster"
    assert refused.value.message.splitlines()[1:] == [
        f"  PERDURE_PG_BIN={old_bin} perdure pg backup '{config.data_dir}.pg16.dump' --data-dir '{config.data_dir}'",
        f"  mv '{config.data_dir}' '{config.data_dir}.pg16'",
        f"  perdure pg restore '{config.data_dir}.pg16.dump' --data-dir '{config.data_dir}'",
    ]
    # And the commands do what they say.
    dump = Path(f"{config.data_dir}.pg16.dump")
    await embedded.backup(config, dump, progress=lambda _: None)
    config.data_dir.rename(f"{config.data_dir}.pg16")
    await embedded.restore(replace(config, bin_dir=None), dump, progress=lambda _: None)
    assert embedded.status(config).major == locate().major


async def test_a_cluster_of_a_newer_release_is_refused(config: EmbeddedConfig):
    await embedded.leave(await embedded.join(config))
    (config.data_dir / "pg" / "PG_VERSION").write_text("99\n")
    with pytest.raises(Unsupported, match="postgresql-99/bin") as refused:
        await embedded.join(config)
    assert refused.value.code == "newer_cluster"


async def test_a_directory_that_is_no_cluster_is_left_alone(config: EmbeddedConfig):
    (config.data_dir / "pg").mkdir(parents=True)
    (config.data_dir / "pg" / "thesis.txt").write_text("mine")
    with pytest.raises(Corrupt, match="is not a PostgreSQL cluster"):
        await embedded.join(config)
    assert [path.name for path in (config.data_dir / "pg").iterdir()] == ["thesis.txt"]
    (config.data_dir / "pg" / "thesis.txt").unlink()
    (config.data_dir / "pg").rmdir()


async def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(Invalid, match="name another path"):
        await embedded.join(EmbeddedConfig(data_dir=file, roles=("owner",)))


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system with the given mount options."""
    as_root()
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a file system here: {mounted.stderr}")
        pytest.skip(f"cannot mount a file system here: {mounted.stderr}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)


@pytest.mark.parametrize("small_disk", ["size=8m"], indirect=True)
async def test_a_full_disk_is_named_and_leaves_no_cluster(small_disk: Path):
    config = EmbeddedConfig(data_dir=small_disk / ".perdure", roles=("owner",))
    with pytest.raises(PersistenceError, match="free some space") as refused:
        await embedded.join(config)
    assert refused.value.code == "disk_full"
    assert embedded.status(config).state is ClusterState.NOT_CREATED
    _grow(small_disk)
    await embedded.leave(await embedded.join(config))


@pytest.mark.parametrize("small_disk", ["size=8m,ro"], indirect=True)
async def test_a_disk_that_cannot_be_written_is_named(small_disk: Path):
    with pytest.raises(Forbidden, match="make it writable") as refused:
        await embedded.join(EmbeddedConfig(data_dir=small_disk / ".perdure", roles=("owner",)))
    assert refused.value.code == "unwritable"
