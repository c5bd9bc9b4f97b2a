"""One holder of a root: in this process, in its children, and after it is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from perdure.domain.tasklists.failures import StoreLocked
from tests.support.node_files import LIST, FaultyFiles, Opened, node_files, policy

ROOT = Path(__file__).parents[3]


def python(program: str, *arguments: str | Path) -> str:
    """What a program prints that runs in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_root_is_held_once_also_within_one_process(tmp_path: Path):
    first, second = node_files(tmp_path), node_files(tmp_path)
    first.open(create=True)
    with pytest.raises(StoreLocked, match="stop that one"):
        second.open(create=True)
    first.close()
    first.close()
    second.open(create=True)
    second.close()


def test_a_lock_file_that_was_left_behind_holds_nothing(tmp_path: Path):
    (tmp_path / ".lock").write_text("12345")
    with Opened(tmp_path, policy("strict")) as opened:
        opened.write(1)


def test_a_lock_file_that_was_replaced_while_it_was_opened_is_not_a_hold(tmp_path: Path):
    def replace_before_lock(_number: int, name: str, _arguments: tuple[object, ...]) -> None:
        if name == "lock":
            (tmp_path / ".lock").unlink()
            (tmp_path / ".lock").write_text("")

    store = node_files(tmp_path, FaultyFiles(replace_before_lock))
    with pytest.raises(StoreLocked):
        store.open(create=True)


def test_fault_11_a_forked_child_does_not_hold_the_root_and_does_not_keep_it(tmp_path: Path):
    said = python(
        """
        import os, sys, pathlib
        from perdure.domain.tasklists.failures import StoreLocked
        from tests.support.node_files import LIST, Opened, node_files, policy
        root = pathlib.Path(sys.argv[1])
        holder = Opened(root, policy("strict"))
        holder.write(1)
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.read(go[0], 1)  # the parent has closed by now
            try:
                holder.store.publish(LIST, 10**15, [b"x"])
            except StoreLocked:
                other = node_files(root)
                other.open(create=True)
                other.close()
                print("refused and free", flush=True)
            os._exit(0)
        holder.write(2)  # still the holder
        holder.close()
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        """,
        tmp_path,
    )

    assert said == "refused and free\n"
    with Opened(tmp_path, policy("strict", initialize=False)) as opened:
        assert opened.recovery.value == 2


def test_fault_11_a_program_that_was_started_does_not_inherit_the_hold(tmp_path: Path):
    holder = Opened(tmp_path, policy())
    sleeper = subprocess.Popen([shutil.which("cat") or "cat"], stdin=subprocess.PIPE, close_fds=False)
    holder.close()
    try:
        with Opened(tmp_path, policy("strict")) as opened:
            opened.write(1)
    finally:
        sleeper.communicate()


def test_fault_11_two_lists_of_one_root_are_written_by_one_holder(tmp_path: Path):
    with Opened(tmp_path, policy("strict")) as first:
        second, _ = first.writer.recover(
            "chores", codec=first.kept.codec, decode=lambda payload: payload, load_older=False
        )
        first.write(1)
        first.writer.write(second, b"dust")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["chores", LIST]
